"""The reproduction: order, resuming, failures, and every number of the table, on stand-ins for the two commands."""

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import scipy.stats

from fer_jax.errors import InputError
from fer_jax.reproduction.plan import experiments
from fer_jax.reproduction.results import mcnemar
from fer_jax.reproduction.scales import PRESETS, Preset
from fer_jax.reproduction.table import reproduce
from fer_jax.runtime.preemption import EXIT_PREEMPTED, Preempted

NAMES = [
    "efficientnet_b0",
    "mobilenet_v2",
    "hybrid_imagenet_frozen",
    "hybrid_imagenet_finetuned",
    "hybrid_fer_frozen",
    "hybrid_efficientnet_b0_frozen",
    "hybrid_mobilenet_v2_frozen",
]
EPOCHS = 3

# What a stand-in writes into a bucket, it writes into a folder first.
_PROGRAM = """
import os, pathlib, runpy, sys, tempfile, urllib.parse, urllib.request
name = sys.argv.pop(1)
place = None
for i, (option, _, value) in enumerate(argument.partition("=") for argument in sys.argv):
    if option in ("--workdir", "--out") and value.startswith("gs://"):
        bucket, _, key = value.removeprefix("gs://").partition("/")
        place = pathlib.Path(tempfile.mkdtemp(), key.rpartition("/")[2])
        sys.argv[i] = f"{option}={place}"
runpy.run_path(str(pathlib.Path(__file__).with_name(name + ".py")), run_name="__main__")
for file in place.iterdir() if place else []:
    query = urllib.parse.urlencode({"uploadType": "media", "name": f"{key}/{file.name}"})
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/{bucket}/o?{query}"
    urllib.request.urlopen(urllib.request.Request(url, file.read_bytes())).close()
"""
# Notes its command; what else it does is in `behaviour.json`: fail, or stop its parent and then itself, once.
_TRAIN = """
import json, os, pathlib, signal, sys, time
arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
run = pathlib.Path(arguments["workdir"])
here = pathlib.Path(__file__).parent
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(["train", run.name, arguments]) + "\\n")
behaviour = json.loads((here / "behaviour.json").read_text()).get(run.name)
if behaviour == "fail":
    print("error: no such weights", file=sys.stderr)
    sys.exit(2)
if behaviour == "stop" and not (here / "stopped").exists():
    (here / "stopped").touch()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
rank = ["efficientnet_b0", "mobilenet_v2", "hybrid_imagenet_frozen", "hybrid_imagenet_finetuned",
        "hybrid_fer_frozen", "hybrid_efficientnet_b0_frozen",
        "hybrid_mobilenet_v2_frozen"].index(run.name.rpartition("-seed")[0])
run.mkdir(parents=True, exist_ok=True)
with (run / "metrics.jsonl").open("w") as file:
    for epoch in (1, 2, 3):
        # Best on validation at epoch 2, on the test split at epoch 3.
        line = {"kind": "epoch", "step": 4 * epoch, "epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5,
                "validation_loss": 1.0, "validation_accuracy": [0.3, 0.5, 0.4][epoch - 1] + 0.01 * rank,
                "paper_protocol_test_accuracy": [0.25, 0.5, 0.75][epoch - 1],
                "images_per_second": 100.0, "seconds": 60.0}
        file.write(json.dumps(line) + "\\n")
"""
# Predictions at random, in the form of the real report; without the libraries of the real one, to be quick.
_EVALUATE = """
import csv, json, pathlib, random, sys
assert "--no-faces" in sys.argv
arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:] if "=" in a)
run = pathlib.Path(arguments["checkpoint"]).name
out = pathlib.Path(arguments["out"])
out.mkdir(parents=True)
correct = [random.Random(run + str(row)).random() < 0.6 for row in range(40)]
with (out / "predictions.csv").open("w") as file:
    writer = csv.writer(file)
    writer.writerow(["row_id", "label", "label_name", "predicted", "predicted_name", "correct"])
    writer.writerows([row, 0, "a", 1 - right, "ab"[1 - right], int(right)] for row, right in enumerate(correct))
keys = ("training data", "training data fingerprint", "evaluated on", "resolution", "initial weights")
wrong = {"most_confused_with": "b", "most_confused_count": 40 - sum(correct), "support": 40,
         "recall": sum(correct) / 40}
metrics = {"accuracy": sum(correct) / 40, "accuracy_wilson_95": [0.1, 0.9], "examples": 40,
           "per_class": {"angry": wrong}}
provenance = {key: f"the {key}" for key in keys} | {"epoch selected": "epoch 2, by accuracy on PublicTest"}
(out / "confusion_matrix.png").write_bytes(b"a picture")
(out / "report.json").write_text(json.dumps({"metrics": metrics, "provenance": provenance}))
"""


@pytest.fixture
def paper(tmp_path, repository, monkeypatch):
    """`reproduce` with stand-ins for the commands: called with what they do by run, and other arguments."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "program.py").write_text(_PROGRAM)
    (scripts / "train.py").write_text(_TRAIN)
    (scripts / "evaluate.py").write_text(_EVALUATE)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setitem(PRESETS, "tiny", Preset("for tests", {"train.epochs": EPOCHS}))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(behaviour=None, workdir=tmp_path / "paper", source="synthetic:8", **arguments):
        (scripts / "behaviour.json").write_text(json.dumps(behaviour or {}))
        calls = scripts / "calls.jsonl"
        calls.write_text("")
        arguments = {"scale": "tiny", "init": "scratch", "message": lambda text: None, **arguments}
        try:
            table = reproduce(
                source,
                workdir,
                program=(sys.executable, scripts / "program.py"),
                environments=lambda: [{}],
                **arguments,
            )
        finally:
            run.calls = [json.loads(line) for line in calls.read_text().splitlines()]
        return table

    run.workdir = tmp_path / "paper"
    return run


def correct(workdir, name):
    lines = (workdir / "reports" / name / "predictions.csv").read_text().splitlines()[1:]
    return np.array([line.split(",")[5] == "1" for line in lines])


def test_whole_table(paper):
    """Every number against the stand-ins' own, McNemar's against SciPy's binomial distribution."""
    table = paper(seeds=2)
    assert [row["name"] for row in table["rows"]] == NAMES
    assert [call[1] for call in paper.calls] == [f"{name}-seed{seed}" for seed in (0, 1) for name in NAMES]
    arguments = paper.calls[4][2]
    for name in NAMES[:2]:
        place = paper.workdir / "runs" / f"{name}-seed0"
        assert arguments[f"config.backbone_checkpoints.{name}"] == str(place)
    assert arguments["config.eval.test_each_epoch"] == "True"
    assert arguments["config.train.epochs"] == str(EPOCHS)
    assert paper.calls[5][2]["config.train.parameters"] == "('backbones/efficientnet_b0/**: freeze', '**: train')"
    paper_results = [(row["paper"]["accuracy"], row["paper"]["epoch"]) for row in table["rows"] if row["paper"]]
    assert paper_results == [(0.7332, 95), (0.7104, 85), (0.5863, 147), (0.7322, 74), (0.7439, 16)]
    for row in table["rows"]:
        accuracies = [correct(paper.workdir, f"{row['name']}-seed{seed}").mean() for seed in (0, 1)]
        assert row["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
        assert row["accuracy"]["standard_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
        for run, accuracy in zip(row["runs"], accuracies, strict=True):
            assert run["accuracy"] == pytest.approx(accuracy)
            assert (run["epoch"], run["paper_protocol"]["epoch"]) == (2, 3)
            assert run["paper_protocol"]["accuracy"] == 0.75
            assert (run["images_per_second"], run["seconds"]) == (100, 180)
    for row in table["rows"][2:]:
        for run in row["runs"]:
            # By validation accuracy the second of the single networks is the better one.
            ours, theirs = (correct(paper.workdir, f"{n}-seed{run['seed']}") for n in (row["name"], "mobilenet_v2"))
            b, c = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
            expected = min(1, 2 * scipy.stats.binom.cdf(min(b, c), b + c, 0.5))
            assert run["mcnemar"] == {
                "against": "mobilenet_v2",
                "only_first_right": b,
                "only_second_right": c,
                "p_value": pytest.approx(expected),
            }
    text = (paper.workdir / "table3.md").read_text()
    for word in ("73.32", "paper_protocol", "74.39", "PrivateTest", "the initial weights", "for tests", "65 ± 5"):
        assert word in text
    assert "| VGGNET | 2021 | 73.28 | on PublicTest |" in text
    assert f"| angry | sad (13 %) | b ({100 - 100 * table['rows'][0]['runs'][0]['accuracy']:.1f} %) |" in text
    assert f"| angry | 0.68 | {table['rows'][0]['runs'][0]['accuracy']:.3f} |" in text
    assert (paper.workdir / "table3.html").read_text().count("data:image/png") == 2 * 7
    assert (paper.workdir / "table3.png").stat().st_size > 10_000
    assert json.loads((paper.workdir / "table3.json").read_text()) == table
    # The table of the runs, as that of a sweep: by the validation split, best first.
    runs = json.loads((paper.workdir / "runs.json").read_text())
    assert [row["experiment"] for row in runs] == [row["title"] for row in table["rows"]][::-1]
    assert runs[0]["validation_accuracy"] == {"mean": pytest.approx(0.56), "standard_deviation": 0, "seeds": 2}
    assert (paper.workdir / "curves.png").is_file()


def test_changes_are_those_of_every_experiment_and_belong_to_the_plan(paper):
    paper(overrides=["--config.train.epochs=2", "--config.augment.zoom_range=0.2"])
    for call in paper.calls:
        assert (call[2]["config.train.epochs"], call[2]["config.augment.zoom_range"]) == ("2", "0.2")
    with pytest.raises(InputError, match="holds a reproduction with other arguments: overrides: "):
        paper()


def test_failure_loses_nothing_and_is_tried_again(paper):
    table = paper({"mobilenet_v2-seed0": "fail"})
    failures = [row["runs"][0].get("failed", "") for row in table["rows"]]
    assert [bool(failure) for failure in failures] == [False, True, False, False, True, False, False]
    assert failures[1].startswith("no such weights (exit status 2, ")
    assert failures[4] == "needs mobilenet_v2-seed0, which failed"
    assert table["rows"][2]["runs"][0]["mcnemar"] is None
    assert "failed: no such weights" in (paper.workdir / "table3.md").read_text()
    table = paper()
    assert [call[1] for call in paper.calls] == ["mobilenet_v2-seed0", "hybrid_fer_frozen-seed0"]
    assert not any("failed" in row["runs"][0] for row in table["rows"])


def test_stopped_and_started_again_gives_the_same_table(paper, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="stopped; the runs below"):
        paper({"hybrid_imagenet_finetuned-seed0": "stop"})
    assert signal.getsignal(signal.SIGTERM) == handler
    assert not (paper.workdir / "table3.json").exists()
    again = paper({"hybrid_imagenet_finetuned-seed0": "stop"})
    assert [call[1] for call in paper.calls] == [f"{name}-seed0" for name in NAMES[3:]]
    assert again == paper(workdir=tmp_path / "whole")
    assert EXIT_PREEMPTED == 75


def test_a_bucket_has_the_same_table(paper, server):
    """With a log of each run there; nothing is run twice."""
    workdir = server.folder()
    table = paper(workdir=workdir)
    assert paper.calls[4][2]["config.backbone_checkpoints.mobilenet_v2"] == f"{workdir}/runs/mobilenet_v2-seed0"
    assert table == paper()
    found = {stored.name for stored in workdir.objects()}
    assert {"plan.json", "table3.md", "table3.html", "table3.png", "runs.md", "curves.png"} <= found
    assert {f"logs/{name}-seed0.log" for name in NAMES} <= found
    assert not any(name.startswith("runs.lock") for name in found)
    assert paper(workdir=workdir) == table
    assert paper.calls == []


def test_folder_of_other_experiments_is_refused(paper, tmp_path):
    paper()
    before = (paper.workdir / "table3.json").read_bytes()
    with pytest.raises(InputError, match="with other arguments: scale: 'tiny' and 'small'"):
        paper(scale="small")
    assert (paper.workdir / "table3.json").read_bytes() == before
    # Of a plan that lacked an experiment, that one is run and the others stay.
    plan = json.loads((paper.workdir / "plan.json").read_text())
    del plan["overrides"][NAMES[-1]]
    (paper.workdir / "plan.json").write_text(json.dumps(plan))
    shutil.rmtree(paper.workdir / "runs" / f"{NAMES[-1]}-seed0")
    shutil.rmtree(paper.workdir / "reports" / f"{NAMES[-1]}-seed0")
    paper()
    assert [call[1] for call in paper.calls] == [f"{NAMES[-1]}-seed0"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(InputError, match="not the folder of a reproduction"):
        paper(workdir=tmp_path / "thesis")
    assert os.listdir(tmp_path / "thesis") == ["thesis.tex"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbones": ("mobilenet_v2",)}, "--backbones=mobilenet_v2: expected two different names"),
        ({"backbones": ("mobilenet_v2", "resnet")}, "expected two different names"),
        ({"init": "nowhere,scratch"}, "nowhere"),
        ({"init": "nowhere"}, "expected weights for each of efficientnet_b0, mobilenet_v2"),
        ({"scratch": ("resnet",)}, "--scratch=resnet: expected names"),
        ({"seeds": 0}, "--seeds=0"),
        ({"source": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"overrides": ["--epochs=3"]}, "unknown argument --epochs=3; "),
        ({"overrides": ["--config.seed=3"]}, "--config.seed=3: .* give --seeds=N"),
        ({"overrides": ["--config.train.epoch=3"]}, "config.train.epoch is not a key; did you mean"),
    ],
)
def test_bad_argument_is_refused_before_any_work(arguments, message, paper):
    with pytest.raises(InputError, match=message):
        paper(**arguments)
    assert not paper.workdir.exists()


def test_paper_scale_changes_nothing_but_the_networks():
    for row in experiments("paper", init="scratch"):
        more = {"train.parameters"} if row.kind == "one_frozen" else set()
        assert set(row.overrides) <= {"model.backbones", "init"} | more
    pair = experiments(
        "small", backbones=("efficientnet_lite0", "mobilenet_v2"), init="scratch", scratch=["mobilenet_v2"]
    )
    assert [row.paper for row in pair] == [None] * 8
    assert pair[2].name == "mobilenet_v2_scratch"


def test_mcnemar_of_equal_models_and_of_other_examples():
    assert mcnemar({1: True, 2: False}, {1: True, 2: False})["p_value"] == 1
    # 8 to 2: two-sided binomial, 2 * (1 + 10 + 45) / 1024.
    first = {i: i < 8 for i in range(10)}
    assert mcnemar(first, {i: not right for i, right in first.items()})["p_value"] == pytest.approx(112 / 1024)
    with pytest.raises(ValueError, match="same examples"):
        mcnemar({1: True}, {2: True})
