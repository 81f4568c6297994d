"""Metrics against published intervals, figures counted by hand, and scikit-learn on random data."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics

from fer_jax.errors import InputError
from fer_jax.evaluation.metrics import Predictions, classification_metrics, wilson_interval

NAMES = ("cat", "dog", "owl")


def one_hot(predicted, num_classes=3, sure=0.8):
    rest = (1 - sure) / (num_classes - 1)
    return np.where(np.eye(num_classes, dtype=bool)[predicted], sure, rest).astype(np.float32)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score, no continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_at_both_ends_and_at_other_confidence():
    z = 1.6448536269514722  # the 95th percentile of the normal distribution, for a two-sided 90 % interval
    low, high = wilson_interval(20, 20, confidence=0.9)
    assert low == pytest.approx(20 / (20 + z**2))  # the formula at a proportion of 1
    assert high == 1
    assert wilson_interval(0, 20, confidence=0.9) == pytest.approx((0, 1 - low))


def test_wilson_interval_refuses_no_examples():
    with pytest.raises(ValueError, match="at least one"):
        wilson_interval(0, 0)


def test_metrics_counted_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1], np.int32)
    predicted = np.array([0, 0, 0, 1, 1, 0])
    metrics = classification_metrics(labels, one_hot(predicted), NAMES)

    np.testing.assert_array_equal(metrics.confusion, [[3, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert metrics.accuracy == 4 / 6
    np.testing.assert_allclose(metrics.precision, [3 / 4, 1 / 2, 0])
    np.testing.assert_allclose(metrics.recall, [3 / 4, 1 / 2, 0])
    np.testing.assert_array_equal(metrics.support, [4, 2, 0])
    # The class without examples does not count.
    assert metrics.macro_f1 == pytest.approx((3 / 4 + 1 / 2) / 2)
    # Not so the balanced accuracy.
    assert metrics.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert metrics.recall_interval(0) == wilson_interval(3, 4)
    assert metrics.recall_interval(2) is None
    assert metrics.weighted[2] == pytest.approx((4 * 3 / 4 + 2 * 1 / 2) / 6)
    assert metrics.log_loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.1)) / 6, rel=1e-6)
    assert [metrics.most_confused(label) for label in range(3)] == [(1, 1), (0, 1), None]


def test_metrics_agree_with_scikit_learn_on_random_predictions():
    rng = np.random.default_rng(0)
    names = [f"class {label}" for label in range(7)]
    labels = rng.integers(0, 7, 500).astype(np.int32)
    probabilities = rng.dirichlet(np.ones(7), 500).astype(np.float32)
    found = classification_metrics(labels, probabilities, names).to_json()

    expected = sklearn.metrics.classification_report(
        labels, probabilities.argmax(1), target_names=names, output_dict=True
    )
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    balanced = sklearn.metrics.balanced_accuracy_score(labels, probabilities.argmax(1))
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    for name in names:
        for key, reference in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score"), ("support",) * 2):
            assert found["per_class"][name][key] == pytest.approx(expected[name][reference])
    assert found["macro_f1"] == pytest.approx(expected["macro avg"]["f1-score"])
    assert found["weighted_average"]["precision"] == pytest.approx(expected["weighted avg"]["precision"])
    np.testing.assert_array_equal(np.sum(found["confusion_matrix"], axis=1), np.bincount(labels))
    assert found["log_loss"] == pytest.approx(-np.log(probabilities[np.arange(500), labels]).mean(), rel=1e-5)
    json.dumps(found, allow_nan=False)


def test_log_loss_does_not_stop_at_the_precision_of_float32():
    probabilities = np.array([[1.0, 1e-12]], np.float32)
    assert classification_metrics(np.array([1], np.int32), probabilities, NAMES[:2]).log_loss == pytest.approx(
        -math.log(1e-12), rel=1e-5
    )


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 3], NAMES, "0 to 2"),
        ([-1, 0], NAMES, "0 to 2"),
        ([0, 1], NAMES[:2], "3 class names"),
        ([0], NAMES, "as many"),
    ],
)
def test_metrics_refuse_what_does_not_fit(labels, names, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(np.array(labels, np.int32), one_hot([0, 1]), names)


def test_predictions_refuse_a_diverged_model_and_name_the_row():
    probabilities = one_hot([0, 1, 2])
    probabilities[1:] = np.nan
    with pytest.raises(InputError, match=r"2 of 3 examples \(first: row 41\)"):
        Predictions(np.array([40, 41, 42], np.int32), np.zeros(3, np.int32), probabilities)


def test_predictions_refuse_logits_and_other_dtypes():
    ids = np.arange(3, dtype=np.int32)
    Predictions(ids, ids, one_hot([0, 1, 2]))
    with pytest.raises(ValueError, match="sum to 1"):
        Predictions(ids, ids, 4 * one_hot([0, 1, 2]))
    with pytest.raises(ValueError, match="labels: expected int32"):
        Predictions(ids, ids.astype(np.int64), one_hot([0, 1, 2]))
