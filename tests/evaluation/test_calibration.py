"""Calibration against scikit-learn, figures counted by hand, and a temperature that is known."""

import json

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from fer_jax.evaluation.calibration import calibration, coverage_curve, coverage_table
from fer_jax.evaluation.calibration_section import calibration_section
from fer_jax.evaluation.metrics import Predictions
from fer_jax.inference.temperature import TEMPERATURES, fit_temperature, tempered
from fer_jax.runs.temperature import StoredTemperature


def drawn(n, temperature=1.0, seed=0):
    """Probabilities of 7 classes that are right as often as they say, then divided by `temperature` in the logits."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 7))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (honest.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1).astype(np.int32)
    scaled = np.exp(logits / temperature)
    return (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32), labels


def test_calibration_agrees_with_scikit_learn():
    probabilities, labels = drawn(3000, temperature=0.5)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    found = calibration(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy, mean = sklearn.calibration.calibration_curve(right, confidence, n_bins=15)
    filled = found.bin_examples > 0
    np.testing.assert_array_equal(found.bin_examples, np.histogram(confidence, bins=15, range=(0, 1))[0])
    np.testing.assert_allclose(found.bin_accuracy[filled], accuracy)
    np.testing.assert_allclose(found.bin_confidence[filled], mean, rtol=1e-6)
    assert found.ece == pytest.approx((found.bin_examples[filled] * abs(accuracy - mean)).sum() / 3000)
    assert found.brier == pytest.approx(
        sklearn.metrics.brier_score_loss(labels, exact, labels=range(7), scale_by_half=False)
    )
    assert found.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, exact), rel=1e-6)
    low, high = found.ece_interval
    assert low < found.ece < high < low + 0.1
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["bins"][0]["accuracy"] is None


def test_calibration_counted_by_hand():
    """Two of three right at 0.8, none of one at 0.6: |0.8 - 2/3| and 0.6, weighted 3 to 1."""
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]], np.float32)
    found = calibration(probabilities, np.array([0, 0, 0, 1]))
    assert found.ece == pytest.approx((3 * (0.8 - 2 / 3) + 0.6) / 4)
    assert found.brier == pytest.approx((2 * 0.08 + 2 * 0.64 + 2 * 0.36) / 4)


def test_temperature_is_found_again_and_makes_calibrated():
    probabilities, labels = drawn(20_000, temperature=0.4)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(1 / 0.4, rel=0.03)
    after = tempered(probabilities, temperature)
    np.testing.assert_array_equal(after.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(after, drawn(20_000)[0], atol=0.02)
    assert calibration(probabilities, labels).ece > 0.1
    assert calibration(after, labels).ece < 0.015


def test_temperature_has_bounds_and_survives_zeros():
    sure = np.array([[1, 0], [0, 1]], np.float32)
    assert np.isfinite(fit_temperature(sure, np.array([0, 1])))
    assert np.isfinite(tempered(sure, 2.0)).all()
    assert fit_temperature(sure, np.array([1, 0])) == pytest.approx(TEMPERATURES[1], rel=1e-3)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert fit_temperature(probabilities, np.array([0, 1])) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    with pytest.raises(ValueError, match="positive"):
        tempered(probabilities, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        fit_temperature(probabilities[:0], np.array([], int))


def test_coverage_counted_by_hand_keeps_ties_together():
    confidence = np.array([0.9, 0.8, 0.7, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    labels = np.array([0, 1, 0, 0, 1])
    rows = coverage_table(probabilities, labels, (1.0, 0.6, 0.4, 0.2))
    assert [(row.answered, row.correct) for row in rows] == [(5, 3), (4, 3), (2, 1), (1, 1)]
    assert [row.threshold for row in rows] == pytest.approx([0.6, 0.7, 0.8, 0.9])
    coverage, accuracy = coverage_curve(probabilities, labels)
    np.testing.assert_allclose(coverage, [0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(accuracy, [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])


def test_section_tells_both_sides_of_the_temperature():
    probabilities, labels = drawn(400, temperature=0.5)
    predictions = Predictions(np.arange(400, dtype=np.int32), labels, probabilities)
    stored = StoredTemperature(temperature=2.0, fitted_on="validation of csv a.csv", images=1234)
    section = calibration_section(predictions, stored)
    assert section.content["after"] == calibration(tempered(probabilities, 2.0), labels).to_json()
    assert section.content["temperature"] == {"value": 2.0, "fitted_on": "validation of csv a.csv", "images": 1234}
    text = "\n".join(section.markdown())
    assert "2.000 was fitted on validation of csv a.csv, 1,234 images" in text
    assert "bound" not in text
    figure, _ = section.figures["calibration.png"]
    assert len(figure.axes) == 5
    without = calibration_section(predictions, None)
    assert without.content["after"] is None
    assert "--split=validation" in "\n".join(without.markdown())
