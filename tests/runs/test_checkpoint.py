"""What a checkpoint tells of the run that it is of."""

import json
import shutil
import sys

import pytest

from fer_jax.commands.evaluate import main
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.runs.record import as_json


@pytest.fixture
def evaluate(monkeypatch):
    """The command, with its arguments, in this process."""
    for name in ("compile_cache.enable_compile_cache", "malloc.keep_freed_memory", "jax_environment.prepare_jax"):
        monkeypatch.setattr(f"fer_jax.runtime.{name}", lambda: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        main()

    return call


def test_report_shows_the_epochs_after_its_checkpoint_too(whole_run, tmp_path, evaluate):
    workdir, _ = whole_run
    checkpoint = workdir / "checkpoints" / "last" / "8"
    evaluate(f"--checkpoint={checkpoint}", "--data=synthetic:64", "--split=test", f"--out={tmp_path}")
    report = json.loads((tmp_path / "report.json").read_text())
    assert "epoch 2 of 3, step 8" in report["provenance"]["checkpoint"]
    assert report["history"] == epoch_history(read_metrics(workdir))
    assert [entry["epoch"] for entry in report["history"]] == [1, 2, 3]


def test_each_of_several_checkpoints_has_a_report_of_its_own(whole_run, tmp_path, evaluate):
    workdir, _ = whole_run
    checkpoints = [workdir, f"{workdir}/checkpoints/last/8"]
    arguments = ("--data=synthetic:64", "--split=validation", f"--out={tmp_path}", "--flip", "--no-faces")
    evaluate("--checkpoint", *checkpoints, "--checkpoint", f"{workdir}/../{workdir.name}", *arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == [workdir.name, f"{workdir.name}--2", f"{workdir.name}-last-8"]
    for folder in tmp_path.iterdir():
        assert json.loads((folder / "report.json").read_text())["provenance"]["averaged with the mirror image"] == "yes"
    with pytest.raises(SystemExit):
        evaluate("--checkpoint", workdir, tmp_path / "none", *arguments[:2], f"--out={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()


def test_checkpoint_away_from_its_run_has_the_history_up_to_itself(whole_run, tmp_path):
    workdir, result = whole_run
    shutil.copytree(workdir / "checkpoints" / "last" / "8", tmp_path / "8")
    assert find_model(tmp_path / "8").run_history() == [as_json(entry) for entry in result.history[:2]]
