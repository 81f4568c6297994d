"""The section of a report about calibration, with and without a temperature, and about abstaining."""

import numpy as np

from fer_jax.evaluation import plots
from fer_jax.evaluation.calibration import Coverage, calibration, coverage_curve, coverage_table
from fer_jax.evaluation.metrics import Predictions
from fer_jax.evaluation.page import charts
from fer_jax.evaluation.section import Section, Table, percent
from fer_jax.inference.temperature import TEMPERATURES, tempered
from fer_jax.runs.temperature import StoredTemperature

FIGURE = "calibration.png"


def calibration_section(predictions: Predictions, temperature: StoredTemperature | None) -> Section:
    """Return the section of `predictions` as they are and, where there is a `temperature`, after it.

    The coverage is that of the confidence after the temperature where there is one.
    """
    probabilities, labels = predictions.probabilities, predictions.labels
    shown = {"as the model gives them": calibration(probabilities, labels)}
    final = probabilities
    if temperature is not None:
        final = tempered(probabilities, temperature.temperature)
        shown[f"after temperature {temperature.temperature:.3f}"] = calibration(final, labels)
    table = coverage_table(final, labels)
    before, *after = shown.values()
    content = {
        "before": before.to_json(),
        "temperature": None,
        "after": after[0].to_json() if after else None,
        "coverage": [row.to_json() for row in table],
    }
    if temperature is not None:
        content["temperature"] = {
            "value": temperature.temperature,
            "fitted_on": temperature.fitted_on,
            "images": temperature.images,
        }
    diagrams = {name: (found.bin_examples, found.bin_confidence, found.bin_accuracy) for name, found in shown.items()}
    curve = coverage_curve(final, labels)
    description = (
        "Reliability diagrams: accuracy against confidence in 15 bins; and accuracy against the share of the images "
        "that are answered, the surest first"
    )
    rows = [
        [
            name,
            f"{percent(found.ece)} ({percent(found.ece_interval[0])} to {percent(found.ece_interval[1])})",
            f"{found.brier:.4f}",
            f"{found.log_loss:.4f}",
            percent(found.mean_confidence),
        ]
        for name, found in shown.items()
    ]
    header = ["Probabilities", "ECE %, 15 bins (bootstrap 95 %)", "Brier score", "Log loss", "Mean confidence %"]
    return Section(
        key="calibration",
        title="Calibration",
        content=content,
        paragraphs=[_about(temperature, np.mean(predictions.predicted == labels))],
        figures={FIGURE: (plots.calibration_figure(diagrams, curve), description)},
        charts=[*(charts.reliability_chart(name, *diagram) for name, diagram in diagrams.items()), _chart(*curve)],
        tables=[Table(header, rows), _coverage(table)],
    )


def _chart(coverage: np.ndarray, accuracy: np.ndarray) -> charts.Chart:
    """Accuracy over coverage at every percent, from 2 on: the first few examples say nothing but jump."""
    at = np.unique(np.ceil(np.arange(0.02, 1.001, 0.01).round(2) * len(coverage)).astype(int)) - 1
    described = ", ".join(f"{100 * coverage[i]:.0f} %: {100 * accuracy[i]:.1f} %" for i in at[8::10])
    return charts.line_chart(
        "if it may abstain",
        f"Accuracy by the share that is answered: {described}.",
        {"accuracy": (charts.BLUE, 100 * coverage[at], 100 * accuracy[at])},
        x_label="Answered, the surest first (%)",
        y_label="Accuracy of the answers (%)",
    )


def _about(temperature: StoredTemperature | None, accuracy: float) -> str:
    text = (
        f"The accuracy is {percent(accuracy)} %: a calibrated model has that mean confidence, and in each bin of the "
        "diagram as much accuracy as confidence. ECE is the mean distance between the two; noise in the bins makes it "
        "too large. "
    )
    if temperature is None:
        return text + (
            "No temperature was fitted, because there is no validation split: `evaluate.py --split=validation` on data "
            "with one fits it and stores it with the run."
        )
    text += (
        f"The temperature {temperature.temperature:.3f} was fitted on {temperature.fitted_on}, "
        f"{temperature.images:,} images; it changes confidence and no answer."
    )
    low, high = TEMPERATURES
    if not low * 1.001 < temperature.temperature < high * 0.999:
        text += f" It lies at a bound of the search, {low} to {high}: these images do not determine it."
    return text


def _coverage(table: list[Coverage]) -> Table:
    rows = [
        [
            f"{100 * row.coverage:.1f}",
            f"{row.threshold:.3f}",
            f"{row.answered:,}",
            f"{percent(row.accuracy)} ({percent(row.interval[0])} to {percent(row.interval[1])})",
        ]
        for row in table
    ]
    caption = "Where the model may abstain: it answers only from a confidence on, and is right more often."
    return Table(["Answered %", "From confidence", "Images", "Accuracy % (95 % interval)"], rows, caption=caption)
