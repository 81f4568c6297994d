"""The pictures of a report. Every function returns a `matplotlib.figure.Figure`; none touches pyplot's global state."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from fer_jax.data.image_files import ImageFiles
from fer_jax.evaluation.metrics import ClassificationMetrics
from fer_jax.storage.bucket import AnyPath
from fer_jax.storage.files import replace_file

# Okabe and Ito's palette ("Color Universal Design", 2008): told apart with any colour vision, and in gray.
_BLUE, _ORANGE, _GREEN, _VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
# Marks wrong samples, together with their position: readers who cannot see the colour tell them by the column.
_RED = "#B2182B"
_GRAY = "#555555"

_DPI = 160

# Up to this many classes a figure has its one size; with more it grows, and its texts shrink or go.
_FEW = 10

MOST_CLASSES = 40
"""Classes that a figure shows in full: of more, the confusion matrix has no numbers and the sample grid no row."""


def save_figure(figure: Figure, path: AnyPath) -> None:
    """Write `figure` as PNG to `path`; an interrupted write leaves the earlier file."""
    # Without the software's version in it, the same figure gives the same bytes.
    with replace_file(path) as beside:
        figure.savefig(beside, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})


def confusion_matrix_figure(counts: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Draw counts int [classes, classes] (row = true class), and beside them each row as percentages of its sum."""
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    grown = 0.36 * (min(len(class_names), MOST_CLASSES) - _FEW) if len(class_names) > _FEW else 0
    figure = Figure(figsize=(12 + 2 * grown, 5.8 + grown), layout="constrained")
    figure.suptitle(title, fontsize=13)
    left, right = figure.subplots(1, 2)
    _matrix(left, counts / max(1, counts.max()), [[str(n) for n in row] for row in counts], class_names)
    left.set_title("Images", fontsize=11)
    texts = [
        [f"{100 * share:.1f}" if total else "–" for share in row] for row, total in zip(shares, sums[:, 0], strict=True)
    ]
    _matrix(right, shares, texts, class_names)
    right.set_title("Percent of the true class", fontsize=11)
    return figure


def _matrix(axes: Axes, values: np.ndarray, texts: Sequence[Sequence[str]], class_names: Sequence[str]) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    size = 10.5 if len(class_names) <= _FEW else 7 if len(class_names) <= MOST_CLASSES else 4
    for row, column in np.ndindex(values.shape if len(class_names) <= MOST_CLASSES else (0, 0)):
        colour = "white" if values[row, column] > 0.6 else "black"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=colour, weight=weight, fontsize=size)
    places = range(len(class_names))
    axes.set_xticks(places, class_names, rotation=40, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(places, class_names, fontsize=size)
    axes.set_xlabel("Predicted", fontsize=11)
    axes.set_ylabel("True", fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def per_class_figure(metrics: ClassificationMetrics) -> Figure:
    """Draw bars of precision, recall and F1 for each class, with its number of examples under the name."""
    few = len(metrics.class_names) <= _FEW
    figure = Figure(figsize=(10 if few else min(10 + 0.3 * len(metrics.class_names), 40), 4.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(metrics.class_names))
    width = 0.27
    series = (
        ("precision", metrics.precision, _BLUE),
        ("recall", metrics.recall, _ORANGE),
        ("F1", metrics.f1, _GREEN),
    )
    for shift, (name, values, colour) in zip((-1, 0, 1), series, strict=True):
        bars = axes.bar(places + shift * width, values, width, label=name, color=colour, edgecolor="white")
        if few:
            axes.bar_label(bars, labels=[f"{value:.2f}" for value in values], padding=2, fontsize=8)
    names = [f"{name}\nn = {support}" for name, support in zip(metrics.class_names, metrics.support, strict=True)]
    axes.set_xticks(places, names, fontsize=10.5 if few else 8, rotation=0 if few else 90)
    if not few:
        axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_ylim(0, 1.08)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.set_ylabel("Score", fontsize=11)
    axes.tick_params(axis="x", length=0)
    _only_horizontal_grid(axes)
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False, fontsize=10.5)
    return figure


def calibration_figure(
    diagrams: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], coverage: tuple[np.ndarray, np.ndarray]
) -> Figure:
    """Draw a reliability diagram for each of `diagrams`, and beside them accuracy over coverage.

    A diagram is (examples, mean confidence, accuracy) of bins of equal width, as `fer_jax.evaluation.calibration`
    makes them: bars of the accuracy, the line of equality, and below it the share of the examples in each bin.
    `coverage` is (coverage, accuracy), fractions of 1.
    """
    figure = Figure(figsize=(4.6 * (len(diagrams) + 1), 5), layout="constrained")
    grid = figure.add_gridspec(2, len(diagrams) + 1, height_ratios=(4, 1))
    for column, (name, (examples, confidence, accuracy)) in enumerate(diagrams.items()):
        edges = np.linspace(0, 1, len(examples) + 1)
        middles, width = (edges[:-1] + edges[1:]) / 2, edges[1]
        axes = figure.add_subplot(grid[0, column])
        there = examples > 0
        axes.bar(middles[there], accuracy[there], width, color=_BLUE, edgecolor="white", label="accuracy")
        axes.plot(confidence[there], accuracy[there], "o", color=_ORANGE, markersize=4, label="at the mean confidence")
        axes.plot([0, 1], [0, 1], "--", color=_GRAY, linewidth=1, label="calibrated")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_title(name, fontsize=11)
        axes.set_ylabel("Accuracy", fontsize=11)
        axes.legend(loc="upper left", frameon=False, fontsize=9)
        _only_horizontal_grid(axes)
        below = figure.add_subplot(grid[1, column], sharex=axes)
        below.bar(middles, examples / examples.sum(), width, color=_GRAY, edgecolor="white")
        below.set_xlabel("Confidence", fontsize=11)
        below.set_ylabel("Images", fontsize=11)
        _only_horizontal_grid(below)
    axes = figure.add_subplot(grid[:, -1])
    # The first few examples say nothing but jump.
    from_here = np.searchsorted(coverage[0], 0.02)
    axes.plot(100 * coverage[0][from_here:], 100 * coverage[1][from_here:], color=_BLUE)
    axes.set_xlim(0, 100)
    axes.set_title("if it may abstain", fontsize=11)
    axes.set_xlabel("Answered, the surest first (%)", fontsize=11)
    axes.set_ylabel("Accuracy of the answers (%)", fontsize=11)
    _only_horizontal_grid(axes)
    return figure


def training_curves_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and accuracy over the epochs; mark the epoch of the best validation accuracy (the first on a tie).

    `history` holds one mapping an epoch, as `fer_jax.runs.metrics_log.epoch_history` returns it: `epoch`, and any
    of `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy`. A key that is missing or None leaves
    a gap in its curve.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    epochs = [line["epoch"] for line in history]
    accuracy = _series(history, "validation_accuracy")
    best = None if np.isnan(accuracy).all() else int(np.nanargmax(accuracy))
    legend = {}
    for axes, quantity, scale in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        for split, colour, marker in (("train", _BLUE, "o"), ("validation", _VERMILION, "s")):
            values = scale * _series(history, f"{split}_{quantity}")
            if not np.isnan(values).all():
                # Markers keep a single epoch, or one between two gaps, in sight.
                (legend[split],) = axes.plot(epochs, values, color=colour, marker=marker, markersize=3.5, linewidth=1.6)
        if best is not None:
            mark = axes.axvline(epochs[best], color=_GRAY, linestyle=":", linewidth=1.2, zorder=0)
            legend[f"best validation accuracy: {100 * accuracy[best]:.2f} %, epoch {epochs[best]}"] = mark
        axes.set_xlabel("Epoch", fontsize=11)
        axes.set_ylabel("Loss" if quantity == "loss" else "Accuracy (%)", fontsize=11)
        axes.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) == 1 else MaxNLocator(integer=True))
        _only_horizontal_grid(axes)
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="outside upper center",
        ncols=max(1, len(legend)),
        frameon=False,
        fontsize=10.5,
    )
    return figure


def validation_curves_figure(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw the validation accuracy of several runs; `histories` by name, each as for `training_curves_figure`.

    Colours repeat after four runs, markers after five.
    """
    figure = Figure(figsize=(8, 4.6 + 0.2 * len(histories)), layout="constrained")
    axes = figure.subplots()
    epochs = sorted({line["epoch"] for history in histories.values() for line in history})
    styles = zip(itertools.cycle((_BLUE, _VERMILION, _GREEN, _ORANGE)), itertools.cycle("osD^v"), strict=False)
    for (name, history), (colour, marker) in zip(histories.items(), styles, strict=False):
        accuracy = 100 * _series(history, "validation_accuracy")
        places = [line["epoch"] for line in history]
        axes.plot(places, accuracy, color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
    axes.set_xlabel("Epoch", fontsize=11)
    axes.set_ylabel("Validation accuracy (%)", fontsize=11)
    axes.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) <= 10 else MaxNLocator(integer=True))
    _only_horizontal_grid(axes)
    figure.legend(loc="outside upper center", frameon=False, fontsize=10)
    return figure


def _series(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Return float64 [epochs], NaN where the key is missing or None."""
    return np.array([line.get(key) for line in history], dtype=np.float64)


def _only_horizontal_grid(axes: Axes) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def sample_grid_figure(
    images: np.ndarray | ImageFiles,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    per_side: int = 4,
) -> Figure:
    """Draw a row for each class: the `per_side` most confident right predictions, then the most confident wrong ones.

    `images` uint8 [n, size, size] or [n, size, size, 3], an array or `ImageFiles`, `labels` int32 [n],
    `probabilities` float32 [n, classes]. Under each face: true class, predicted class, and the probability of the
    latter; wrong ones in red. The choice depends on the arguments alone (on equal confidence the earlier example comes
    first). Of more than `MOST_CLASSES` classes the first ones have a row. Table 2 of the paper shows its samples in
    this way.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    by_confidence = np.argsort(-confidence, kind="stable")

    # One axes in units of a face's side: some 60 axes would take seconds to lay out.
    shown = class_names[:MOST_CLASSES]
    gap, caption, margin = 0.12, 0.36, max(1.0, 0.2 + 0.1 * max(map(len, shown)))
    right_start = margin
    wrong_start = margin + per_side * (1 + gap) + 0.3
    width, height = wrong_start + per_side * (1 + gap), 0.4 + len(shown) * (1 + caption)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    for start, heading, colour in ((right_start, "Right", _GRAY), (wrong_start, "Wrong", _RED)):
        middle = start + (per_side * (1 + gap) - gap) / 2
        axes.text(middle, 0.2, heading, ha="center", va="center", fontsize=13, weight="bold", color=colour)

    for label, name in enumerate(shown):
        top = 0.4 + label * (1 + caption)
        axes.text(margin - 0.12, top + 0.5, name, ha="right", va="center", fontsize=12)
        mine = by_confidence[labels[by_confidence] == label]
        right = predicted[mine] == label
        for start, chosen, colour in ((right_start, mine[right], _GRAY), (wrong_start, mine[~right], _RED)):
            if not len(chosen):
                axes.text(start, top + 0.5, "none", ha="left", va="center", fontsize=10, style="italic", color=_GRAY)
            for column, example in enumerate(chosen[:per_side]):
                left = start + column * (1 + gap)
                extent = (left, left + 1, top + 1, top)
                axes.imshow(images[example], cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
                axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linewidth=1.5))
                text = f"{_pair(name, class_names[predicted[example]])}\n{100 * confidence[example]:.1f} %"
                axes.text(left + 0.5, top + 1.03, text, ha="center", va="top", fontsize=7.5, color=colour)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()
    return figure


def _pair(true: str, predicted: str) -> str:
    """Return both names if they fit under a face; else the predicted one, since the row bears the true one."""
    room = 20  # characters at the caption's size
    text = f"{true} → {predicted}"
    if len(text) > room:
        text = f"→ {predicted}"
    return text if len(text) <= room else text[: room - 1] + "…"
