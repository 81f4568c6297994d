"""Sweeps, with a stand-in for the command `train` that takes no time."""

import json
import os
import shutil
import signal
import statistics
import sys
import time

import pytest

from fer_jax.errors import InputError
from fer_jax.runtime.preemption import Preempted
from fer_jax.storage.lock import held
from fer_jax.sweeps.launchers import local_launcher
from fer_jax.sweeps.local import device_environments
from fer_jax.sweeps.spec import read_spec
from fer_jax.sweeps.sweep import sweep

SPEC = """
def get_sweep():
    for rate in (0.01, 0.001):
        for seed in range(3):
            yield {"optimizer.learning_rate": rate, "seed": seed}
"""

# Accuracies that follow from the name of the run; it fails, or waits to be stopped, as `behaviour.json` says.
TRAIN = """
import json, os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
assert sys.argv[1] == "train" and "--data=synthetic:8" in sys.argv and "--config=quickstart" in sys.argv
workdir = pathlib.Path(next(a for a in sys.argv if a.startswith("--workdir=")).partition("=")[2])
with open(here / "calls.jsonl", "a") as file:
    print(json.dumps([workdir.name, os.environ["DEVICE"], *sys.argv[2:]]), file=file)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
behaviour = json.loads((here / "behaviour.json").read_text()).get(workdir.name)
while behaviour == "wait":
    (here / "waits").touch()
    time.sleep(0.01)
if behaviour == "fail":
    print("error: no luck")
    sys.exit(2)
rate, seed = (float(part.partition("=")[2]) for part in workdir.name.split(","))
workdir.mkdir(parents=True, exist_ok=True)
with open(workdir / "metrics.jsonl", "w") as file:
    for epoch, accuracy in enumerate((0.1, 0.5 + rate + seed / 100, 0.3), 1):
        print(json.dumps({"kind": "epoch", "step": epoch, "epoch": epoch, "validation_accuracy": accuracy,
                          "seconds": 6.0}), file=file)
"""


@pytest.fixture
def run(tmp_path):
    """`sweep` on two devices with the stand-in: called with what it does by run."""
    (tmp_path / "spec.py").write_text(SPEC)
    (tmp_path / "train.py").write_text(TRAIN)

    def run(behaviour=None, source="synthetic:8", workdir=None):
        (tmp_path / "behaviour.json").write_text(json.dumps(behaviour or {}))
        (tmp_path / "calls.jsonl").write_text("")
        try:
            return sweep(
                tmp_path / "spec.py",
                ["--config=quickstart"],
                source,
                workdir or tmp_path / "sweep",
                local_launcher(
                    lambda: [{"DEVICE": "0"}, {"DEVICE": "1"}], program=(sys.executable, str(tmp_path / "train.py"))
                ),
                message=lambda text: None,
            )
        finally:
            run.calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]

    run.workdir = tmp_path / "sweep"
    return run


def test_table_over_seeds_and_nothing_twice(run):
    rows = run()
    assert len(run.calls) == 6
    assert {device for _, device, *_ in run.calls} == {"0", "1"}
    assert "--config.optimizer.learning_rate=0.001" in next(call for call in run.calls if "0.001" in call[0])
    assert [row["experiment"] for row in rows] == [
        "optimizer.learning_rate=0.01",
        "optimizer.learning_rate=0.001",
    ]
    assert rows[0]["validation_accuracy"] == {
        "mean": pytest.approx(0.52),
        "standard_deviation": pytest.approx(statistics.stdev([0.51, 0.52, 0.53])),
        "seeds": 3,
    }
    assert {result["epoch"] for result in rows[0]["runs"].values()} == {2}
    page = (run.workdir / "runs.md").read_text()
    assert "| optimizer.learning_rate=0.01 | 3 | 52.00 | 1.00 | 2 of 3, 2 of 3, 2 of 3 | 0.9 |" in page
    assert (run.workdir / "curves.png").is_file()
    assert run() == rows
    assert run.calls == []
    shutil.rmtree(run.workdir / "runs" / "learning_rate=0.01,seed=2")
    assert run() == rows
    assert [call[0] for call in run.calls] == ["learning_rate=0.01,seed=2"]
    with pytest.raises(InputError, match="holds a sweep with other arguments"):
        run(source="synthetic:9")


def test_failure_is_kept_apart_and_tried_again(run):
    name = "learning_rate=0.001,seed=1"
    rows = run({name: "fail"})
    assert len(run.calls) == 6
    (why,) = rows[1]["failed"].values()
    assert why.startswith("no luck (exit status 2, ")
    assert len(rows[1]["runs"]) == 2
    assert f"- {name}: no luck" in (run.workdir / "runs.md").read_text()
    assert run()[1]["failed"] == {}
    assert [call[0] for call in run.calls] == [name]


def test_a_folder_is_of_one_sweep_and_one_command(run, tmp_path):
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not the folder of a sweep"):
        run(workdir=other)
    assert os.listdir(other) == ["thesis.tex"]
    (tmp_path / "sweep").mkdir()
    with held(tmp_path / "sweep" / "runs.lock"), pytest.raises(InputError, match=r"exists and is not the folder"):
        run()
    shutil.rmtree(tmp_path / "sweep")
    run()
    with held(tmp_path / "sweep" / "runs.lock"), pytest.raises(InputError, match=r"^\S+sweep: process \d+ on "):
        run()
    (tmp_path / "sweep" / "sweep.json").write_text("[1")
    with pytest.raises(InputError, match=r"sweep\.json: is damaged"):
        run()


def test_signal_is_passed_on_and_the_rest_resumes(run, tmp_path, monkeypatch):
    sleep = time.sleep

    def signalled(seconds):
        if (tmp_path / "waits").exists():
            os.kill(os.getpid(), signal.SIGTERM)
            (tmp_path / "waits").unlink()
        sleep(seconds)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", signalled)
        with pytest.raises(Preempted, match="stopped; the runs below"):
            run({"learning_rate=0.01,seed=1": "wait"})
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(run()[0]["runs"]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_sweep(", "SyntaxError"),
        ("", "AttributeError"),
        ("def get_sweep(): yield 1/0", "ZeroDivisionError: division by zero"),
        ("def get_sweep(): return []", "expected a dictionary for each run"),
        ("def get_sweep(): yield 'seed=1'", "expected a dictionary for each run"),
        ("def get_sweep(): yield {1: 2}", "expected a dictionary for each run"),
        ("def get_sweep(): yield {'sede': 1}", "config.sede is not a key"),
        ("def get_sweep(): yield {'seed': 'x'}", "seed"),
        ("def get_sweep(): yield from [{'seed': 1}] * 2", "yields {'seed': 1} twice"),
    ],
)
def test_bad_file_is_named_in_one_line(text, message, tmp_path):
    (tmp_path / "spec.py").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_spec(tmp_path / "spec.py", ["--config=quickstart"])
    assert "\n" not in str(caught.value)


def test_names_are_those_of_folders(tmp_path):
    (tmp_path / "spec.py").write_text(
        "def get_sweep():\n"
        "    yield {}\n"
        "    yield {'train.parameters': ('classifier/**: train', 'backbones/**: freeze')}\n"
        "    yield {'model.dropout': 0.1, 'seed': 2}\n"
    )
    trials = read_spec(tmp_path / "spec.py", ["--config=quickstart"])
    assert [trial.name for trial in trials][::2] == ["base", "dropout=0.1,seed=2"]
    assert all("/" not in trial.name and " " not in trial.name for trial in trials)
    assert [trial.without_seed() for trial in trials][::2] == ["as the config is", "model.dropout=0.1"]


def test_a_cpu_is_one_device():
    assert device_environments() == [{}]
