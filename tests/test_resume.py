"""A run stopped anywhere and started again ends as one that nothing stopped, to the bit."""

import shutil
import signal

import msgspec
import numpy as np
import pytest

from fer_jax.config.loading import to_json
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.runs.checkpoint import Checkpoints, find_model
from fer_jax.runs.folder import open_run_folder, resumed_backbones, run_description
from fer_jax.runs.metrics_log import MetricsLog
from fer_jax.runs.record import as_json, encode_description
from fer_jax.runtime.preemption import Preempted, StopRequests
from fer_jax.train import train


@pytest.fixture(autouse=True)
def _signals_of_a_terminal():
    """Under `nohup`, which may run the tests, SIGHUP is ignored."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, earlier)


def stop_at(call, number, monkeypatch):
    """Sends this process the signal `number` just before it asks for the `call`-th time whether to stop."""
    requested, calls = StopRequests.requested, iter(range(1, 1000))

    def signalled(self):
        if next(calls) == call:
            signal.raise_signal(number)
        return requested(self)

    monkeypatch.setattr(StopRequests, "requested", signalled)


# `train` asks after each of four steps, and then after the first of two batches of the validation split.
@pytest.mark.parametrize(
    ("call", "number", "step"),
    [
        pytest.param(1, signal.SIGTERM, 1, id="first step"),
        pytest.param(8, signal.SIGINT, 7, id="inside an epoch and a logging interval"),
        pytest.param(15, signal.SIGHUP, 12, id="validation of the last epoch"),
    ],
)
def test_signal_saves_and_the_run_goes_on_from_there(
    call, number, step, whole_run, make_tiny_config, faces, assert_same_run, tmp_path, monkeypatch
):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        stop_at(call, number, patch)
        with pytest.raises(Preempted, match=f"after step {step} of 12"):
            train(make_tiny_config(), faces, tmp_path)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert find_model(tmp_path / "checkpoints" / "last").step == step
    result = train(make_tiny_config(), faces, tmp_path)
    workdir, whole = whole_run
    times = ("images_per_second", "seconds")
    # Also of an epoch whose last step an earlier command took.
    assert all(entry.images_per_second > 0 for entry in result.history)
    for entry, expected in zip(result.history, whole.history, strict=True):
        assert {k: v for k, v in as_json(entry).items() if k not in times} == {
            k: v for k, v in as_json(expected).items() if k not in times
        }
    assert_same_run(tmp_path, workdir)


@pytest.mark.slow
def test_stopped_again_and_again(whole_run, make_tiny_config, faces, assert_same_run, tmp_path, monkeypatch):
    """Each command takes a step or two, or finishes an epoch."""
    commands, stopped = 0, True
    while stopped:
        commands += 1
        with monkeypatch.context() as patch:
            stop_at(2, signal.SIGTERM, patch)
            try:
                train(make_tiny_config(), faces, tmp_path)
                stopped = False
            except Preempted:
                assert commands < 20
    assert commands >= 6
    assert_same_run(tmp_path, whole_run[0])


@pytest.mark.optimised
def test_run_without_warning_goes_on_from_its_last_checkpoint(
    whole_run, make_tiny_config, faces, assert_same_run, tmp_path, monkeypatch
):
    """Torn out of the log, as by a power cut; with a checkpoint every two steps, what follows is done again."""
    write = MetricsLog.write

    def interrupt(self, at, *arguments, **keywords):
        write(self, at, *arguments, **keywords)
        if at == 12:
            raise MemoryError

    config = make_tiny_config()
    config.train.checkpoint_every_steps = 2
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", interrupt)
        with pytest.raises(MemoryError):
            train(config, faces, tmp_path)
    assert find_model(tmp_path / "checkpoints" / "last").step == 10
    config.train.checkpoint_every_steps = 0
    train(config, faces, tmp_path)
    assert_same_run(tmp_path, whole_run[0])


def test_state_inside_the_first_epoch_is_a_model_too(make_tiny_config, faces, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(2, signal.SIGTERM, patch)
        with pytest.raises(Preempted):
            train(make_tiny_config(), faces, tmp_path)
    model = TrainedModel(tmp_path / "checkpoints" / "last")
    assert "none" in model.provenance()["epoch selected"]
    assert "epoch 0 of 3, step 2" in model.provenance()["checkpoint"]


def test_best_epoch_comes_back_from_the_last_state(
    whole_run, make_tiny_config, faces, assert_same_run, tmp_path, monkeypatch
):
    """Ended between the last state and the best one of the same epoch."""

    def lost(self, step, *_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_best", lost)
        with pytest.raises(MemoryError):
            train(make_tiny_config(), faces, tmp_path)
    assert find_model(tmp_path / "checkpoints" / "last").step == 4
    train(make_tiny_config(), faces, tmp_path)
    assert_same_run(tmp_path, whole_run[0])


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


@pytest.mark.parametrize("call", [3, 7], ids=["before more begins to train", "after"])
def test_whole_recipe_goes_on_exactly(call, make_recipe_config, faces, assert_same_run, tmp_path, monkeypatch):
    """With averages, mixup, erasing, and an epoch in which more begins to train."""
    with monkeypatch.context() as patch:
        stop_at(call, signal.SIGTERM, patch)
        with pytest.raises(Preempted):
            train(make_recipe_config(), faces, tmp_path / "stopped")
    train(make_recipe_config(), faces, tmp_path / "stopped")
    train(make_recipe_config(), faces, tmp_path / "whole")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("cached_views", [0, 2], ids=["images", "cached features"])
def test_hybrid_resumes_elsewhere_without_its_sources(
    cached_views, make_tiny_config, faces, assert_same_run, tmp_path, monkeypatch
):
    """A fresh machine has the run's folder and the data, under another path, and nothing else."""
    source, stopped, elsewhere = tmp_path / "source", tmp_path / "stopped", tmp_path / "other machine" / "run"
    config = make_tiny_config()
    config.model.backbones = ("tiny", "mini")
    config.train.epochs = 1
    train(config, faces, source)

    config.init = "checkpoints"
    config.train.epochs = 2
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    config.train.cached_views = cached_views
    with config.unlocked():
        config.backbone_checkpoints.update(tiny=str(source), mini=str(source))
    train(config, faces, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(6, signal.SIGTERM, patch)
        with pytest.raises(Preempted):
            train(config, faces, stopped)
    shutil.rmtree(source)
    shutil.copytree(stopped, elsewhere)
    train(config, faces, elsewhere)
    assert_same_run(elsewhere, tmp_path / "whole")


def test_run_that_saved_nothing_reads_its_initial_weights_again(make_tiny_config, faces, tmp_path, monkeypatch):
    config = make_tiny_config()
    config.train.epochs = 1
    source, moved, workdir = tmp_path / "source", tmp_path / "moved", tmp_path / "run"
    train(config, faces, source)
    config.init = "checkpoints"
    monkeypatch.chdir(tmp_path)
    with config.unlocked():
        config.backbone_checkpoints.update(tiny="source")

    def interrupt(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_last", interrupt)
        with pytest.raises(MemoryError):
            train(config, faces, workdir)
    source.rename(moved)
    with pytest.raises(InputError, match=r"tiny=source: .*no such folder"):
        train(config, faces, workdir)
    source.symlink_to(moved)
    train(config, faces, workdir)
    assert str(moved) in run_description(workdir).backbones[0].initial_weights


def test_average_is_what_is_evaluated_and_kept(make_recipe_config, faces, read_checkpoint, tmp_path):
    result = train(make_recipe_config(), faces, tmp_path)
    leaves = read_checkpoint(tmp_path / "checkpoints" / "last", "model", "progress")
    kernel = "['params']['classifier']['logits']['kernel']"
    assert not np.array_equal(leaves[f"model{kernel}"], leaves[f"progress['not_averaged']{kernel}"])
    labels = faces.validation.labels
    for place, entry in ((tmp_path, result.best), (tmp_path / "checkpoints/last", result.history[-1])):
        probabilities = TrainedModel(place).probabilities(faces.validation.images)
        assert np.mean(probabilities.argmax(axis=1) == labels) == entry.validation_accuracy
        loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
        np.testing.assert_allclose(loss, entry.validation_loss, rtol=1e-5)


def test_more_epochs_are_the_same_run(whole_run, make_tiny_config, faces, assert_same_run, tmp_path, capsys):
    """With a constant rate: to the bit as one that had them from the start; the record says what was changed."""
    config = make_tiny_config()
    config.train.epochs = 2
    train(config, faces, tmp_path)
    config.train.epochs = 3
    config.train.watchdog_minutes = 5.0
    capsys.readouterr()
    train(config, faces, tmp_path)
    changed = ("train.epochs: 2 and 3", "train.watchdog_minutes: 30.0 and 5.0")
    said = f"resuming after step 8 of 12; changed (before and now): {'; '.join(changed)}\n"
    assert said in capsys.readouterr().out
    assert_same_run(tmp_path, whole_run[0])
    description = run_description(tmp_path)
    assert description.parsed_config().train.epochs == 3
    assert [(change.step, change.changed) for change in description.changes] == [(8, changed)]
    assert find_model(tmp_path / "checkpoints" / "last").record.description == description


def test_results_do_not_depend_on_what_may_change(
    whole_run, make_tiny_config, faces, read_checkpoint, tmp_path, monkeypatch
):
    """But for rounding."""
    with monkeypatch.context() as patch:
        stop_at(6, signal.SIGTERM, patch)
        with pytest.raises(Preempted):
            train(make_tiny_config(), faces, tmp_path)
    config = make_tiny_config()
    config.eval.batch_size = 8
    config.train.log_every_steps = 2
    config.train.checkpoint_every_steps = 3
    config.model.rematerialise = True
    config.data.input = "streaming"
    result = train(config, faces, tmp_path)
    ours, theirs = (read_checkpoint(run / "checkpoints" / "last", "model") for run in (tmp_path, whole_run[0]))
    for path, leaf in theirs.items():
        # Means of channels that are zero but for rounding, of 1e-5, differ by as much as themselves.
        np.testing.assert_allclose(ours[path], leaf, rtol=1e-3, atol=1e-4, err_msg=path)
    for entry, expected in zip(result.history, whole_run[1].history, strict=True):
        assert entry.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
        assert entry.validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)


def resumes(workdir, config, data):
    return resumed_backbones(workdir, config, data) is not None


@pytest.fixture
def copied_run(whole_run, tmp_path):
    """Changes the config of a copy of `whole_run`, and returns its folder."""

    def copy(change):
        workdir = tmp_path / "copy"
        shutil.copytree(whole_run[0], workdir)
        description = run_description(workdir)
        config = description.parsed_config()
        change(config)
        changed = msgspec.structs.replace(description, config=to_json(config))
        (workdir / "run.json").write_text(encode_description(changed))
        return workdir

    return copy


def test_other_epochs_where_the_rate_depends_on_them_are_refused(copied_run, make_tiny_config, faces):
    workdir = copied_run(lambda config: config.optimizer.update(schedule="cosine"))
    config = make_tiny_config()
    config.optimizer.schedule = "cosine"
    assert resumes(workdir, config, faces)
    config.train.epochs = 5
    with pytest.raises(InputError, match=rf"epochs=5, but .* has 3, .*cosine.*--config\.init_from={workdir} starts"):
        resumes(workdir, config, faces)


def test_fewer_epochs_than_taken_are_refused(copied_run, make_tiny_config, faces):
    workdir = copied_run(lambda config: config.train.update(epochs=9))
    config = make_tiny_config()
    assert resumes(workdir, config, faces)  # all three epochs are done
    config.train.epochs = 2
    with pytest.raises(InputError, match=r"has taken 12 steps, 3 epochs; give at least 3"):
        resumes(workdir, config, faces)


def test_another_config_may_begin_where_nothing_was_saved(whole_run, make_tiny_config, faces, tmp_path):
    """Of a batch that did not fit into memory, `run.json` is left, and perhaps lines of the log."""
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(whole_run[0] / name, tmp_path / name)
    config = make_tiny_config()
    config.train.batch_size = 8
    description = msgspec.structs.replace(run_description(tmp_path), config=to_json(config))
    with open_run_folder(tmp_path, description):
        pass
    assert run_description(tmp_path) == description


def test_signals_of_schedulers_and_lost_terminals_may_come_more_than_once():
    """A second SIGHUP, or SIGTERM after SIGUSR1, does not interrupt the save."""
    with StopRequests() as stopping:
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
            assert stopping.requested()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) == signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored():
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests() as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert not stopping.requested()
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_handlers_are_left_alone_outside_the_block():
    earlier = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stopping:
        assert not stopping.requested()
        signal.raise_signal(signal.SIGTERM)
        assert stopping.requested()
        # A second signal would end the process at once.
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL == signal.getsignal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == earlier
