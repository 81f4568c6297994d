"""Two models on the same images: against SciPy, figures counted by hand, and files of other orders."""

import csv
import json

import numpy as np
import pytest
import scipy.stats

from fer_jax.data.sources import load
from fer_jax.errors import InputError
from fer_jax.evaluation.metrics import Predictions
from fer_jax.evaluation.model_comparison import aligned, compare, comparison_markdown, exact_mcnemar
from fer_jax.evaluation.predictions_file import predictions_csv, read_predictions
from fer_jax.expressions import EXPRESSIONS
from fer_jax.testing import load_script

NAMES = ("cat", "dog", "owl")


def predictions(labels, predicted, row_ids=None):
    ids = np.arange(len(labels)) if row_ids is None else np.asarray(row_ids)
    rows = np.where(np.eye(3, dtype=bool)[predicted], 0.8, 0.1).astype(np.float32)
    return Predictions(ids.astype(np.int32), np.asarray(labels, np.int32), rows)


def drawn(n=600):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, n)
    first = np.where(rng.random(n) < 0.6, labels, rng.integers(0, 3, n))
    second = np.where(rng.random(n) < 0.3, labels, first)
    return labels, first, second


def test_difference_agrees_with_scipy():
    labels, first, second = drawn()
    found = compare(predictions(labels, first), predictions(labels, second), NAMES)
    right = first == labels, second == labels
    assert found.difference == pytest.approx(right[1].mean() - right[0].mean())
    expected = scipy.stats.bootstrap(
        (right[1].astype(int) - right[0].astype(int),), np.mean, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.difference_interval == pytest.approx((expected.low, expected.high), abs=0.004)
    b, c = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p_value == pytest.approx(min(1, 2 * scipy.stats.binom.cdf(min(b, c), b + c, 0.5)))
    np.testing.assert_array_equal(found.changes.sum(axis=1), np.bincount(first))
    assert sum(row.only_second for row in found.classes) == c
    json.dumps(found.to_json(), allow_nan=False)


def test_classes_counted_by_hand():
    """Ten cats, of which the second model alone knows eight; a dog that neither knows; no owl."""
    labels = [0] * 10 + [1]
    found = compare(predictions(labels, [1] * 8 + [0] * 2 + [2]), predictions(labels, [0] * 10 + [0]), NAMES)
    cat, dog, owl = found.classes
    assert (cat.first, cat.second, cat.only_first, cat.only_second) == (2, 10, 0, 8)
    assert cat.p_value == pytest.approx(2 / 2**8)
    assert cat.p_holm == pytest.approx(3 * 2 / 2**8)
    assert (dog.images, dog.p_value, owl.images) == (1, 1, 0)
    text = comparison_markdown(found, ("a", "b"))
    assert "| cat | 10 | 20.00 | 100.00 | +80.00 | 0 | 8 | 0.0078 | 0.023 |" in text
    assert "| owl | 0 | – | – | – |" in text
    assert "the second is better than chance explains" in text
    assert "| dog | cat | 8 |" in text
    assert exact_mcnemar(0, 0) == 1


def test_other_orders_of_images_and_classes_are_brought_together():
    labels, first, second = drawn(50)
    order = np.random.default_rng(0).permutation(50)
    other_names = ("owl", "cat", "dog")
    to_other = np.array([1, 2, 0])  # cat, dog and owl in them
    shuffled = predictions(to_other[labels[order]], to_other[second[order]], order)
    ours, theirs = aligned(predictions(labels, first), NAMES, shuffled, other_names, ("a", "b"))
    expected = compare(predictions(labels, first), predictions(labels, second), NAMES)
    assert compare(ours, theirs, NAMES).to_json() == expected.to_json()


@pytest.mark.parametrize(
    ("other", "names", "message"),
    [
        (([0, 1], [0, 1], [0, 2]), NAMES, "2 rows stand in one alone, the first, row 1, in a and not in b"),
        (([0, 2], [0, 1]), NAMES, "different labels in 1 rows, the first, row 1, 'dog' and 'owl'"),
        (([0, 1], [0, 1]), ("cat", "dog", "ox"), "same classes"),
    ],
)
def test_what_is_not_of_the_same_images_is_refused(other, names, message):
    with pytest.raises(InputError, match=message):
        aligned(predictions([0, 1], [0, 1]), NAMES, predictions(*other), names, ("a", "b"))


def test_command_compares_two_files(tmp_path, repository, monkeypatch, capsys):
    labels, first, second = drawn(60)
    for name, predicted in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.csv").write_text(predictions_csv(predictions(labels, predicted), NAMES))
    out = tmp_path / "out"
    command = ["compare.py", str(tmp_path / "a"), str(tmp_path / "b" / "predictions.csv"), f"--out={out}"]
    monkeypatch.setattr("sys.argv", command)
    script = load_script(repository / "scripts" / "compare.py")
    script.main()
    assert capsys.readouterr().out == (out / "comparison.md").read_text()
    found = json.loads((out / "comparison.json").read_text())
    assert found["accuracy"] == pytest.approx([np.mean(first == labels), np.mean(second == labels)])
    for wrong, message in (
        ([*command, "--split=test"], "no effect on two"),
        ([*command[:2], str(tmp_path), *command[3:]], "needs --data=SOURCE and --split"),
        ([*command[:3], f"--out={tmp_path / 'a' / 'predictions.csv'}"], "is a file"),
    ):
        monkeypatch.setattr("sys.argv", wrong)
        with pytest.raises(SystemExit):
            script.main()
        assert message in capsys.readouterr().err


def test_command_compares_a_checkpoint_with_a_file(whole_run, tmp_path, repository, monkeypatch, capsys):
    split = load("synthetic:64").test
    perfect = Predictions(split.row_ids, split.labels, np.eye(7, dtype=np.float32)[split.labels])
    (tmp_path / "a.csv").write_text(predictions_csv(perfect, EXPRESSIONS))
    command = ["compare.py", str(tmp_path / "a.csv"), str(whole_run[0]), "--data=synthetic:64", "--split=test"]
    monkeypatch.setattr("sys.argv", command)
    load_script(repository / "scripts" / "compare.py").main()
    said = capsys.readouterr().out
    assert "a.csv | 16 | 100.00 |" in said
    assert f"second: {whole_run[0]}, epoch" in said


def test_file_of_predictions_is_read_back_and_damage_named(tmp_path):
    labels, first, _ = drawn(20)
    whole, path = predictions(labels, first), tmp_path / "predictions.csv"
    text = predictions_csv(whole, NAMES)
    path.write_text(text)
    found, names = read_predictions(path)
    assert names == NAMES
    for array in ("row_ids", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(found, array), getattr(whole, array))
    path.write_text(predictions_csv(whole, NAMES, [f"test/happy/{i}, the \udce9.png" for i in range(20)]))
    with path.open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)][1] == "test/happy/1, the \\udce9.png"
    np.testing.assert_array_equal(read_predictions(path)[0].probabilities, whole.probabilities)
    lines = text.splitlines()
    cell = lines[3].split(",")
    for damaged, message in (
        ("", "line 1"),
        (lines[0], "has no prediction"),
        (text.replace("row_id", "row"), "found the columns 'row,"),
        ("\n".join([*lines[:3], ",".join(cell[:-1])]), r"line 4\): found 8 fields"),
        ("\n".join([*lines[:3], ",".join(["-1", *cell[1:]])]), r"line 4\): row_id is '-1'"),
        ("\n".join([*lines[:3], ",".join([cell[0], "7", *cell[2:]])]), "label 7 is named"),
        ("\n".join([*lines[:3], ",".join([*cell[:-1], "much"])]), "could not convert"),
        ("\n".join([*lines[:3], ",".join([*cell[:-1], "7"])]), "sum to 1"),
        ("\n".join([*lines[:3], ",".join([*cell[:-1], "nan"])]), "not finite"),
        ("\n".join([*lines[:3], lines[1]]), "the row_id 0 stands there 2 times"),
    ):
        path.write_text(damaged)
        with pytest.raises(InputError, match=message):
            read_predictions(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(tmp_path)
