"""What a checkpoint tells of the run that it is of."""

import json
import shutil
import sys

from fer_jax.commands.evaluate import main
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.runs.record import as_json


def test_report_shows_the_epochs_after_its_checkpoint_too(whole_run, tmp_path, monkeypatch):
    workdir, _ = whole_run
    monkeypatch.setattr("fer_jax.commands.evaluate.enable_compile_cache", lambda: None)
    monkeypatch.setattr("fer_jax.commands.evaluate.keep_freed_memory", lambda: None)
    arguments = [f"--checkpoint={workdir / 'checkpoints' / 'last' / '8'}", "--data=synthetic:64", "--split=test"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, f"--out={tmp_path}"])
    main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert "epoch 2 of 3, step 8" in report["provenance"]["checkpoint"]
    assert report["history"] == epoch_history(read_metrics(workdir))
    assert [entry["epoch"] for entry in report["history"]] == [1, 2, 3]


def test_checkpoint_away_from_its_run_has_the_history_up_to_itself(whole_run, tmp_path):
    workdir, result = whole_run
    shutil.copytree(workdir / "checkpoints" / "last" / "8", tmp_path / "8")
    assert find_model(tmp_path / "8").run_history() == [as_json(entry) for entry in result.history[:2]]
