"""The commands as a user gives them, each in a process of its own."""

import csv
import json
import subprocess
import sys

import pytest


def run(repository, script, *arguments, check=True):
    command = [sys.executable, str(repository / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """MobileNetV2, trained for one epoch on a few synthetic faces by the command of the README."""
    repository = request.path.parents[1]
    workdir = tmp_path_factory.mktemp("cli") / "run"
    overrides = ["--config.model.input_size=32", "--config.train.epochs=1", "--config.train.batch_size=16"]
    data = ["--data=synthetic:64", f"--workdir={workdir}"]
    return workdir, run(repository, "train.py", "--config=configs/quickstart.py", *data, *overrides)


def test_train_says_where_its_results_lie(trained):
    workdir, result = trained
    assert str(workdir) in result.stdout
    assert "epoch 1: train loss" in result.stdout
    assert "img/s" in result.stdout


def test_compare_runs_writes_picture_and_table(trained, repository, tmp_path):
    workdir, _ = trained
    run(repository, "compare_runs.py", workdir, f"--out={tmp_path / 'curves.png'}")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "| mobilenet_v2, whole model of file mobilenet_v2_96px.safetensors" in (tmp_path / "curves.md").read_text()
    wrong = run(repository, "compare_runs.py", workdir, f"--out={tmp_path / 'curves.pdf'}", check=False)
    assert wrong.returncode == 2
    assert "ends in .png" in wrong.stderr


def test_evaluate_writes_the_whole_report(trained, repository, tmp_path):
    workdir, _ = trained
    out = tmp_path / "report"
    arguments = [f"--checkpoint={workdir}", "--data=synthetic:64", "--split=test", f"--out={out}"]
    result = run(repository, "evaluate.py", *arguments)
    assert str(out / "report.md") in result.stdout
    names = {path.name for path in out.iterdir()}
    pictures = {"confusion_matrix.png", "per_class.png", "calibration.png", "training_curves.png", "samples.png"}
    assert names == pictures | {"report.json", "report.html", "report.md", "predictions.csv"}
    report = json.loads((out / "report.json").read_text())
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert sum(int(row["correct"]) for row in rows) / 16 == report["metrics"]["accuracy"]
    assert "whole model of file mobilenet_v2_96px.safetensors" in (out / "report.md").read_text()
    assert report["calibration"]["temperature"]["images"] == 8
    assert (workdir / "temperature.json").exists()
    assert result.stderr == ""


def test_report_to_publish_shows_no_faces(trained, repository, tmp_path):
    workdir, _ = trained
    arguments = [f"--checkpoint={workdir}", "--data=synthetic:64", "--split=validation", f"--out={tmp_path}"]
    run(repository, "evaluate.py", *arguments, "--no-faces")
    assert not (tmp_path / "samples.png").exists()


def test_summary_needs_no_data(repository):
    result = run(repository, "train.py", "--config=configs/efficientnet_b0.py", "--summary")
    assert "4,007,548" in result.stdout
    assert "7 x 7 x 1280" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nothing.py", "--data=synthetic:64", "--workdir=unused"], "configs/nothing.py"),
        (["--config=configs/quickstart.py", "--data=nowhere.csv", "--workdir=unused"], "nowhere.csv"),
        (["--config=configs/quickstart.py", "--config.seeed=1", "--data=synthetic:64", "--workdir=unused"], "seed?"),
        (["--config=configs/mobilenet_v2.py", "--data=synthetic:64", "--workdir=unused"], "--config.init=scratch"),
    ],
)
def test_mistake_is_one_line_and_status_2(repository, arguments, message, monkeypatch, tmp_path):
    # Without converted weights of the user's own, wherever the tests run.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run(repository, "train.py", *arguments, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (repository / "unused").exists()
