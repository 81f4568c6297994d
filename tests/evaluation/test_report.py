"""A report written and read back: its files agree with each other and with the predictions."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from fer_jax.errors import InputError
from fer_jax.evaluation.metrics import Predictions
from fer_jax.evaluation.report import write_report
from fer_jax.expressions import EXPRESSIONS

N = 120
HISTORY = [
    {"epoch": 1, "step": 10, "train_loss": 1.9, "train_accuracy": 0.3, "validation_accuracy": 0.35},
    {"epoch": 2, "step": 20, "train_loss": float("nan"), "train_accuracy": 0.5, "validation_accuracy": 0.45},
]
PROVENANCE = {"data": "csv a|b.csv", "split": "test (PrivateTest)", "seed": 7, "validation accuracy": 0.123456789}


def example(**changes):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, N).astype(np.int32)
    probabilities = rng.dirichlet(np.ones(7), N)
    probabilities[np.arange(N), labels] += 0.4
    probabilities = (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)
    arguments = {
        "predictions": Predictions(rng.permutation(N).astype(np.int32), labels, probabilities),
        "class_names": EXPRESSIONS,
        "images": rng.integers(0, 256, (N, 48, 48), dtype=np.uint8),
        "history": HISTORY,
        "provenance": PROVENANCE,
    }
    return arguments | changes


def test_the_files_of_a_report_agree(tmp_path):
    arguments = example()
    out = tmp_path / "some" / "report"
    _, paths = write_report(out, **arguments)
    assert sorted(paths) == sorted(out.iterdir())
    assert {path.name for path in paths} == {
        "confusion_matrix.png",
        "per_class.png",
        "calibration.png",
        "training_curves.png",
        "samples.png",
        "predictions.csv",
        "report.json",
        "report.html",
        "report.md",
    }

    content = json.loads((out / "report.json").read_text())
    metrics = content["metrics"]
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    predictions = arguments["predictions"]
    assert [int(row["row_id"]) for row in rows] == predictions.row_ids.tolist()
    assert np.mean([row["label_name"] == row["predicted_name"] for row in rows]) == pytest.approx(metrics["accuracy"])
    assert np.mean([int(row["correct"]) for row in rows]) == pytest.approx(metrics["accuracy"])
    read_back = np.array([[row[f"probability_{name}"] for name in EXPRESSIONS] for row in rows], np.float32)
    np.testing.assert_array_equal(read_back, predictions.probabilities)

    text = (out / "report.md").read_text()
    low, high = metrics["accuracy_wilson_95"]
    assert low < metrics["accuracy"] < high
    assert f"Accuracy {100 * metrics['accuracy']:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f} %)" in text
    assert f"macro-F1 {metrics['macro_f1']:.4f}" in text
    for name, scores in metrics["per_class"].items():
        low, high = scores["recall_wilson_95"]
        numbers = [f"{scores[key]:.3f}" for key in ("precision", "recall", "f1")]
        assert f"| {name} | {' | '.join(numbers)} | {low:.3f} to {high:.3f} |" in text
    for name, counts in zip(EXPRESSIONS, metrics["confusion_matrix"], strict=True):
        assert f"| {name} | {' | '.join(map(str, counts))} |" in text
    for picture in ("confusion_matrix", "per_class", "training_curves", "samples"):
        assert text.index(f"({picture}.png)") < text.index("| :--")
        with Image.open(out / f"{picture}.png") as image:
            image.load()
            assert image.width > 1000


def test_the_report_says_where_its_numbers_come_from(tmp_path):
    write_report(tmp_path, **example())
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["provenance"] == PROVENANCE
    assert content["history"][1] == HISTORY[1] | {"train_loss": None}
    text = (tmp_path / "report.md").read_text()
    assert "| data | csv a\\|b.csv |\n| split | test (PrivateTest) |\n| seed | 7 |" in text
    assert "| validation accuracy | 0.123457 |" in text


def test_without_faces_or_history_nothing_of_them_stays(tmp_path):
    write_report(tmp_path, **example())
    (tmp_path / "notes.txt").write_text("mine")
    _, paths = write_report(tmp_path, **example(history=[]), include_faces=False)
    assert sorted([*paths, tmp_path / "notes.txt"]) == sorted(tmp_path.iterdir())
    assert not {"samples.png", "training_curves.png"} & {path.name for path in paths}
    text = (tmp_path / "report.md").read_text()
    assert "samples" not in text
    assert "curves" not in text


def test_a_file_in_the_place_of_the_folder_is_an_input_error(tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(InputError, match="report: expected a folder"):
        write_report(tmp_path / "report", **example())


@pytest.mark.parametrize("changes", [{"images": np.zeros((N - 1, 48, 48), np.uint8)}, {"class_names": EXPRESSIONS[:6]}])
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, changes):
    with pytest.raises(ValueError, match="expected"):
        write_report(tmp_path / "report", **example(**changes))
    assert not (tmp_path / "report").exists()
