"""Runs from a config to checkpoints: what they leave, what they refuse."""

import dataclasses
import json
import shutil

import jax
import msgspec
import numpy as np
import pytest

import fer_jax
from fer_jax.config.loading import to_json
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.folder import open_run_folder, run_description
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.runs.record import as_json
from fer_jax.testing import without_times
from fer_jax.train import train


@pytest.fixture
def data(faces):
    return faces


def test_run_leaves_what_it_promises(whole_run, make_tiny_config, data):
    workdir, result = whole_run
    assert [entry.epoch for entry in result.history] == [1, 2, 3]
    assert [entry.step for entry in result.history] == [4, 8, 12]
    lines = read_metrics(workdir)
    assert without_times(epoch_history(lines)) == without_times(map(as_json, result.history))
    # Every third step, and the last one of each epoch.
    assert [line["step"] for line in lines if line["kind"] == "train"] == [3, 4, 6, 8, 9, 12]
    assert list((workdir / "tensorboard").iterdir())
    assert "Total" in (workdir / "parameters.txt").read_text()
    description = json.loads((workdir / "run.json").read_text())
    assert description["config"] == to_json(make_tiny_config())
    assert description["data"]["fingerprint"] == data.fingerprint()
    assert description["backbones"][0]["initial_weights"] == "scratch"


def test_best_checkpoint_is_the_earliest_of_the_best_epochs(whole_run):
    workdir, result = whole_run
    accuracies = [entry.validation_accuracy for entry in result.history]
    assert find_model(workdir).epoch == 1 + int(np.argmax(accuracies))
    assert find_model(workdir).step == 4 * find_model(workdir).epoch
    assert find_model(workdir / "checkpoints" / "last").epoch == 3


def test_model_is_rebuilt_from_its_checkpoint_alone(whole_run, data):
    workdir, result = whole_run
    model = TrainedModel(workdir)
    probabilities = model.probabilities(data.validation.images)
    assert probabilities.shape == (30, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    accuracy = np.mean(probabilities.argmax(axis=1) == data.validation.labels)
    assert accuracy == result.best.validation_accuracy
    assert model.class_names == data.class_names


def test_predictions_count_every_image_once_whatever_the_batch(whole_run, data):
    model = TrainedModel(whole_run[0])
    images = data.validation.images
    one_by_one = np.concatenate([model.probabilities(image[None]) for image in images[:4]])
    for batch_size in (1, 7, 30, 64):
        model.config.eval.batch_size = batch_size
        probabilities = model.probabilities(images)
        assert len(probabilities) == 30
        np.testing.assert_allclose(probabilities[:4], one_by_one, atol=1e-5)


def test_flip_means_the_probabilities_of_image_and_mirror_image(whole_run, data):
    model = TrainedModel(whole_run[0])
    images = data.validation.images[:9]
    expected = (model.probabilities(images) + model.probabilities(images[:, :, ::-1])) / 2
    model.config.eval.flip = True
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-5)
    np.testing.assert_allclose(model.probabilities(images[:, :, ::-1]), expected, atol=1e-5)


def test_finished_run_is_left_as_it_is(whole_run, make_tiny_config, data, tmp_path):
    workdir, whole = whole_run
    shutil.copytree(workdir, tmp_path / "copy")
    result = train(make_tiny_config(), data, tmp_path / "copy")
    assert result.history == whole.history
    assert read_metrics(tmp_path / "copy") == read_metrics(workdir)


def test_types_of_64_bits_and_strict_promotion_outside_change_nothing(whole_run, make_tiny_config, data, tmp_path):
    workdir, whole = whole_run
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        result = train(make_tiny_config(), data, tmp_path / "run")
        probabilities = fer_jax.load(tmp_path / "run").predict(data.test.images[:2])
    assert without_times(map(as_json, result.history)) == without_times(map(as_json, whole.history))
    np.testing.assert_array_equal(probabilities, fer_jax.load(workdir).predict(data.test.images[:2]))


def test_a_run_stops_early_after_epochs_without_a_better_one_and_is_then_finished(
    whole_run, make_tiny_config, data, assert_same_run, tmp_path, capsys, monkeypatch
):
    """Whether it was interrupted just before its end or not, and the same command again says so."""
    accuracies = iter([*[0.2, 0.5, 0.5, 0.4] * 2, 0.3])
    monkeypatch.setattr(
        "fer_jax.train._validation_metrics",
        lambda *_: {"validation_loss": 1.0, "validation_accuracy": next(accuracies)},
    )
    config = make_tiny_config()
    config.train.epochs, config.train.early_stopping_patience = 9, 2
    result = train(config, data, tmp_path / "run")
    assert (len(result.history), result.best.epoch) == (4, 2)
    assert find_model(tmp_path / "run").epoch == 2
    before = read_metrics(tmp_path / "run")
    capsys.readouterr()
    assert train(config, data, tmp_path / "run").history == result.history
    told = "finished after epoch 4 of 9: none of the last 2 was better (config.train.early_stopping_patience); best ep"
    assert told in capsys.readouterr().out
    assert read_metrics(tmp_path / "run") == before

    def interrupted(run, config):
        if len(run.history) == 3:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("fer_jax.train._stopped_early", interrupted)
        with pytest.raises(MemoryError):
            train(config, data, tmp_path / "interrupted")
    train(config, data, tmp_path / "interrupted")
    assert_same_run(tmp_path / "interrupted", tmp_path / "run")

    config.train.early_stopping_patience = 3
    assert len(train(config, data, tmp_path / "run").history) == 5


def test_folder_of_another_run_is_refused(whole_run, make_tiny_config, data):
    workdir, _ = whole_run
    before = (workdir / "metrics.jsonl").read_bytes()
    other = make_tiny_config()
    other.optimizer.learning_rate = 0.5
    with pytest.raises(InputError, match=r"optimizer\.learning_rate: 0\.001 and 0\.5"):
        train(other, data, workdir)
    with pytest.raises(InputError, match="other data"):
        train(make_tiny_config(), synthetic_faces(64, 30, 17, seed=1), workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_only_the_runs_own_names_count_in_its_folder(whole_run, data, tmp_path):
    """Litter of file systems, schedulers and `tee` stays as it is; what a run would replace is not touched."""
    description = run_description(whole_run[0])
    for name in ("lost+found", ".gitkeep", ".DS_Store", "slurm-17.out", "train.log", "a thesis.tex"):
        (tmp_path / name).write_text("years of work")
    with open_run_folder(tmp_path, description):
        assert (tmp_path / "train.log").read_text() == "years of work"
    assert run_description(tmp_path) == description
    (tmp_path / "run.json").unlink()
    (tmp_path / "checkpoints").mkdir()
    with (
        pytest.raises(InputError, match=r"has no run\.json, but holds .* \(checkpoints\)"),
        open_run_folder(tmp_path, description),
    ):
        pass
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folder_without_checkpoint_is_named(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        TrainedModel(tmp_path / name)


def test_paper_protocol_is_reported_and_changes_nothing(whole_run, make_tiny_config, data, tmp_path, read_checkpoint):
    """Against the model of the last epoch, evaluated by itself; and the same bits as a run without it."""
    config = make_tiny_config()
    config.eval.test_each_epoch = True
    result = train(config, data, tmp_path)
    found = [entry.paper_protocol_test_accuracy for entry in result.history]
    without = [msgspec.structs.replace(entry, paper_protocol_test_accuracy=None) for entry in result.history]
    assert without_times(map(as_json, without)) == without_times(map(as_json, whole_run[1].history))
    model = TrainedModel(tmp_path / "checkpoints" / "last")
    assert found[-1] == np.mean(model.probabilities(data.test.images).argmax(axis=1) == data.test.labels)
    ours, theirs = (
        read_checkpoint(place / "checkpoints" / "last", "model", "progress") for place in (tmp_path, whole_run[0])
    )
    assert all(np.array_equal(ours[path], leaf) for path, leaf in theirs.items())


def test_paper_protocol_needs_a_test_split(make_tiny_config, data, tmp_path):
    config = make_tiny_config()
    config.eval.test_each_epoch = True
    empty = dataclasses.replace(
        data.test, **{key: getattr(data.test, key)[:0] for key in ("images", "labels", "row_ids")}
    )
    with pytest.raises(InputError, match="has no test split"):
        train(config, dataclasses.replace(data, test=empty), tmp_path)
    assert not list(tmp_path.iterdir())
