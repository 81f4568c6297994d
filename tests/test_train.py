"""Runs from a config to checkpoints: what they leave, how they go on, what they refuse."""

import json
import shutil

import jax
import numpy as np
import pytest

from fer_jax.config import to_json
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.inference import TrainedModel
from fer_jax.train import train
from fer_jax.training.checkpoint import find_model
from fer_jax.training.metrics_log import MetricsLog, epoch_history, read_metrics

TIMES = ("images_per_second", "seconds")


@pytest.fixture(scope="module")
def data():
    return synthetic_faces(64, 30, 17, seed=0)


@pytest.fixture(scope="module")
def whole_run(make_tiny_config, data, tmp_path_factory):
    """The folder of a run of three epochs that nothing interrupted, and what `train` returned."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, train(make_tiny_config(), data, workdir)


def without_times(entries):
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in entries]


def last_state(workdir):
    """Every array of the newest checkpoint, by path."""
    import orbax.checkpoint as ocp

    folder = workdir / "checkpoints" / "last"
    newest = folder / str(max(ocp.utils.checkpoint_steps(folder)))
    arguments = ocp.args.Composite(model=ocp.args.StandardRestore(), progress=ocp.args.StandardRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = checkpointer.restore(newest, args=arguments)
    tree = {"model": items.model, "progress": items.progress}
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_run_leaves_what_it_promises(whole_run, make_tiny_config, data):
    workdir, result = whole_run
    assert [entry["epoch"] for entry in result["history"]] == [1, 2, 3]
    assert [entry["step"] for entry in result["history"]] == [4, 8, 12]
    lines = read_metrics(workdir)
    assert without_times(epoch_history(lines)) == without_times(result["history"])
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
    accuracies = [entry["validation_accuracy"] for entry in result["history"]]
    assert find_model(workdir).epoch == 1 + int(np.argmax(accuracies))
    assert find_model(workdir / "checkpoints" / "last").epoch == 3


def test_model_is_rebuilt_from_its_checkpoint_alone(whole_run, data):
    workdir, result = whole_run
    model = TrainedModel(workdir)
    probabilities = model.probabilities(data.validation.images)
    assert probabilities.shape == (30, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    accuracy = np.mean(probabilities.argmax(axis=1) == data.validation.labels)
    assert accuracy == result["best"]["validation_accuracy"]
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


@pytest.mark.parametrize("step", [3, 6, 12])
def test_interrupted_run_ends_as_the_whole_one(step, whole_run, make_tiny_config, data, tmp_path, monkeypatch):
    """Interrupted in the first, a middle and the last epoch, then given again: every array and every line is equal."""
    write = MetricsLog.write

    def interrupt(self, at, *arguments, **keywords):
        if at == step:
            raise KeyboardInterrupt
        write(self, at, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(make_tiny_config(), data, tmp_path)
    result = train(make_tiny_config(), data, tmp_path)

    workdir, whole = whole_run
    assert without_times(result["history"]) == without_times(whole["history"])
    assert without_times(read_metrics(tmp_path)) == without_times(read_metrics(workdir))
    expected, found = last_state(workdir), last_state(tmp_path)
    assert expected.keys() == found.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)
    assert find_model(tmp_path).epoch == find_model(workdir).epoch


@pytest.fixture(scope="module")
def make_recipe_config(make_tiny_config):
    """A config with all that goes beyond the paper, and a backbone that trains from the second epoch on."""

    def make():
        config = make_tiny_config()
        config.model.backbones = ("mini",)
        config.train.epochs = 2
        config.train.parameters = ("classifier/**: train", "backbones/**: train at 0.1 from epoch 2")
        config.train.ema_decay = 0.9
        config.train.mixup_alpha = 0.2
        config.augment.random_erasing = 0.5
        config.optimizer.gradient_clip_norm = 1.0
        config.eval.flip = True
        return config

    return make


def test_interrupted_run_by_the_whole_recipe_ends_as_the_whole_one(make_recipe_config, data, tmp_path, monkeypatch):
    """With averages, and an epoch in which more begins to train; what is evaluated and kept is the average."""
    write = MetricsLog.write

    def interrupt(self, at, *arguments, **keywords):
        if at == 6:
            raise KeyboardInterrupt
        write(self, at, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(make_recipe_config(), data, tmp_path / "interrupted")
    again = train(make_recipe_config(), data, tmp_path / "interrupted")
    whole = train(make_recipe_config(), data, tmp_path / "whole")
    assert without_times(again["history"]) == without_times(whole["history"])
    expected, found = last_state(tmp_path / "whole"), last_state(tmp_path / "interrupted")
    assert expected.keys() == found.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)

    hidden = "['params']['classifier']['logits']['kernel']"
    assert not np.array_equal(expected[f"['model']{hidden}"], expected[f"['progress']['not_averaged']{hidden}"])
    for place, entry in (
        (tmp_path / "whole", whole["best"]),
        (tmp_path / "whole/checkpoints/last", whole["history"][-1]),
    ):
        probabilities = TrainedModel(place).probabilities(data.validation.images)
        assert np.mean(probabilities.argmax(axis=1) == data.validation.labels) == entry["validation_accuracy"]
        np.testing.assert_allclose(
            -np.log(probabilities[np.arange(30), data.validation.labels]).mean(), entry["validation_loss"], rtol=1e-5
        )


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
    assert result["history"] == whole["history"]
    assert read_metrics(tmp_path / "copy") == read_metrics(workdir)


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


def test_folder_of_something_else_is_refused(make_tiny_config, data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not the folder of a run"):
        train(make_tiny_config(), data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_loss_that_is_not_finite_stops_the_run(make_tiny_config, data, tmp_path):
    config = make_tiny_config()
    config.optimizer.learning_rate = 1e30
    with pytest.raises(InputError, match=r"the training loss is (nan|inf) at step \d+"):
        train(config, data, tmp_path / "run")


def test_damaged_checkpoint_is_named(whole_run, tmp_path):
    workdir, _ = whole_run
    shutil.copytree(workdir, tmp_path / "copy")
    best = find_model(tmp_path / "copy")
    for path in (best.folder / str(best.epoch) / "model").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"best/{best.epoch}: the checkpoint cannot be read"):
        TrainedModel(tmp_path / "copy")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folder_without_checkpoint_is_named(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        TrainedModel(tmp_path / name)
