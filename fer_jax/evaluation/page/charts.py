"""Small charts as vector graphics inside a page: their shapes in the units of the drawing, which the template writes.

They are as wide as a phone, so that their texts are readable there, and carry a description for who cannot see them.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#E69F00", "#009E73", "#555555"
"""Okabe and Ito's palette, as in `fer_jax.evaluation.plots`."""

_WIDTH, _HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 42


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart; every place is in units of a drawing of `width` x `height`, from its upper left corner.

    `lines` are (colour, dashed, points as `x,y x,y`), `bars` (x, y, width, height, colour), `dots` (x, y, colour),
    ticks (place, text), `legend` (colour, name).
    """

    title: str
    description: str
    x_label: str
    y_label: str
    lines: Sequence[tuple[str, bool, str]]
    bars: Sequence[tuple[float, float, float, float, str]]
    dots: Sequence[tuple[float, float, str]]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    legend: Sequence[tuple[str, str]] = ()
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = _HEIGHT - _BOTTOM


class _Scale:
    """From the numbers of a chart to places in its drawing."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]):
        self._x, self._y = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self._x
        return round(_LEFT + (value - low) / ((high - low) or 1) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self._y
        return round(_HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1) * (_HEIGHT - _TOP - _BOTTOM), 1)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        pairs = zip(xs, ys, strict=True)
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in pairs if np.isfinite(x) and np.isfinite(y))


def reliability_chart(title: str, examples: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> Chart:
    """Return the reliability diagram of bins of equal width, as `fer_jax.evaluation.calibration` makes them."""
    scale = _Scale((0, 1), (0, 1))
    edges = np.linspace(0, 1, len(examples) + 1)
    there = np.flatnonzero(examples)
    bars = []
    for i in there:
        left, right, top = scale.x(edges[i]), scale.x(edges[i + 1]), scale.y(accuracy[i])
        bars.append((left + 0.5, top, round(right - left - 1, 1), round(scale.y(0) - top, 1), BLUE))
    described = ", ".join(f"{100 * confidence[i]:.0f} %: {100 * accuracy[i]:.0f} %" for i in there)
    return Chart(
        title=title,
        description=f"Accuracy at each mean confidence: {described}.",
        x_label="Confidence",
        y_label="Accuracy",
        lines=[(GRAY, True, scale.points([0, 1], [0, 1]))],
        bars=bars,
        dots=[(scale.x(confidence[i]), scale.y(accuracy[i]), ORANGE) for i in there],
        x_ticks=[(scale.x(value), f"{value:.1f}") for value in np.arange(0, 1.01, 0.2)],
        y_ticks=[(scale.y(value), f"{value:.1f}") for value in np.arange(0, 1.01, 0.2)],
        legend=[(BLUE, "accuracy"), (ORANGE, "at the mean confidence"), (GRAY, "calibrated")],
    )


def line_chart(
    title: str,
    description: str,
    series: Mapping[str, tuple[str, Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    whole_x: bool = False,
) -> Chart:
    """Return lines by name: (colour, x, y). Values that are not finite leave no point; `whole_x` are whole numbers."""
    xs = np.concatenate([np.asarray(x, float) for _, x, _ in series.values()])
    ys = np.concatenate([np.asarray(y, float) for _, _, y in series.values()])
    finite = ys[np.isfinite(ys)]
    y_ticks = _ticks(*(y_range or (finite.min(), finite.max()))) if len(finite) else [0.0, 1.0]
    x_ticks = _ticks(xs.min(), xs.max(), whole=whole_x)
    low, high = min(xs.min(), x_ticks[0]), max(xs.max(), x_ticks[-1])
    scale = _Scale((xs.min(), xs.max()) if whole_x else (low, high), (y_ticks[0], y_ticks[-1]))
    dots = []
    if len(xs) <= 60:
        for colour, x, y in series.values():
            dots += [(scale.x(a), scale.y(b), colour) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
    return Chart(
        title=title,
        description=description,
        x_label=x_label,
        y_label=y_label,
        lines=[(colour, False, scale.points(x, y)) for colour, x, y in series.values()],
        bars=[],
        dots=dots,
        x_ticks=[(scale.x(value), f"{value:g}") for value in x_ticks if not whole_x or low <= value <= xs.max()],
        y_ticks=[(scale.y(value), f"{value:g}") for value in y_ticks],
        legend=[(colour, name) for name, (colour, _, _) in series.items()] if len(series) > 1 else (),
    )


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Some five round numbers from at most `low` to at least `high`."""
    span = (high - low) or 1.0
    step = 10 ** np.floor(np.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    if whole:
        step = max(1.0, np.ceil(step))
    first = np.floor(low / step + 1e-9)
    last = np.ceil(high / step - 1e-9)
    return [round(float(i * step), 10) for i in np.arange(first, max(last, first + 1) + 1)]
