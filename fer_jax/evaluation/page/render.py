"""The report as one page that needs nothing else: `report.html`, from a Jinja template.

A policy in the page forbids every request, so that it shows the same wherever it is opened.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import numpy as np

from fer_jax.data.image_files import ImageFiles
from fer_jax.evaluation import plots
from fer_jax.evaluation.label_audit import VERDICTS, verdicts
from fer_jax.evaluation.metrics import ClassificationMetrics, Predictions
from fer_jax.evaluation.page import charts
from fer_jax.evaluation.page.sprites import COLUMNS, SIDE, Sprites, make_sprites
from fer_jax.evaluation.page.templates import environment
from fer_jax.evaluation.section import Section, Table, percent

MOST_FACES = 10_000
"""Images that a page shows, some 6 MB of them; of more predictions the surest wrong ones have theirs first."""

_MOST_SCORES = 8


def report_page(
    *,
    predictions: Predictions,
    metrics: ClassificationMetrics,
    sections: Sequence[Section],
    per_class: Table,
    provenance: Table,
    history: Sequence[Mapping[str, Any]],
    images: np.ndarray | ImageFiles | None,
    votes: np.ndarray | None = None,
    files: Sequence[str] = (),
) -> str:
    """Return the page.

    `images` go with the predictions, in their order; None leaves them out of the page. `votes` int [n, 10] as in
    `fer_jax.data.ferplus.Votes` let images be chosen by whom the votes agree with. `history` is as in
    `fer_jax.evaluation.report.write_report`. `files` name the images, where each is a file of its own.
    """
    n = len(predictions.labels)
    sprites, tiles = None, None
    if images is not None:
        chosen = _with_faces(predictions)
        sprites = make_sprites(images, chosen)
        tiles = np.full(n, -1)
        tiles[chosen] = np.arange(len(chosen))
    return _template().render(
        metrics=metrics,
        names=metrics.class_names,
        matrix=len(metrics.class_names) <= plots.MOST_CLASSES,
        sections=sections,
        per_class=per_class,
        provenance=provenance,
        curves=_curves(history),
        sprites=sprites,
        side=SIDE,
        columns=COLUMNS,
        verdicts=VERDICTS if votes is not None else (),
        few_faces=images is not None and n > MOST_FACES,
        most_faces=MOST_FACES,
        data=_data(predictions, metrics.class_names, sprites, tiles, votes) | {"files": list(files)},
    )


def _with_faces(predictions: Predictions) -> np.ndarray:
    """The predictions whose images the page shows, in their order."""
    n = len(predictions.labels)
    if n <= MOST_FACES:
        return np.arange(n)
    right = predictions.predicted == predictions.labels
    return np.sort(np.lexsort((-predictions.probabilities.max(axis=1), right))[:MOST_FACES])


def _data(
    predictions: Predictions,
    class_names: Sequence[str],
    sprites: Sprites | None,
    tiles: np.ndarray | None,
    votes: np.ndarray | None,
) -> dict:
    """What the script of the page reads: columns of the predictions, scores in thousandths, the highest first."""
    probabilities = predictions.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_MOST_SCORES]
    scores = np.rint(1000 * np.take_along_axis(probabilities, order, axis=1)).astype(int)
    data = {
        "names": list(class_names),
        "rows": predictions.row_ids.tolist(),
        "labels": predictions.labels.tolist(),
        "order": order.tolist(),
        "scores": scores.tolist(),
        "side": SIDE,
        "columns": COLUMNS,
        "tiles": None if tiles is None else tiles.tolist(),
        "tilesASheet": sprites.tiles_a_sheet if sprites else 0,
        "verdicts": None,
        "votes": None,
    }
    if votes is not None:
        data["verdicts"] = verdicts(predictions.predicted, predictions.labels, votes).tolist()
        data["votes"] = votes.tolist()
    return data


def _curves(history: Sequence[Mapping[str, Any]]) -> list[charts.Chart]:
    """Loss and accuracy over the epochs; none without a history."""
    if not history:
        return []
    epochs = [line["epoch"] for line in history]

    def series(key: str, factor: float = 1) -> list[float]:
        return [float("nan") if line.get(key) is None else factor * line[key] for line in history]

    found = []
    accuracy = series("validation_accuracy", 100)
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    told = f" Best on validation: {accuracy[best]:.2f} % in epoch {epochs[best]}." if best is not None else ""
    for title, key, factor, unit in (
        ("Accuracy over the epochs", "accuracy", 100, "Accuracy (%)"),
        ("Loss over the epochs", "loss", 1, "Loss"),
    ):
        lines = {
            name: (colour, epochs, series(f"{split}_{key}", factor))
            for name, split, colour in (("training", "train", charts.BLUE), ("validation", "validation", charts.ORANGE))
        }
        lines = {name: line for name, line in lines.items() if np.isfinite(line[2]).any()}
        if lines:
            text = f"{title} {epochs[0]} to {epochs[-1]}.{told if key == 'accuracy' else ''}"
            found.append(charts.line_chart(title, text, lines, x_label="Epoch", y_label=unit, whole_x=True))
    return found


@functools.cache
def _template() -> jinja2.Template:
    pages = environment("fer_jax.evaluation.page")
    pages.filters["percent"] = percent
    pages.filters["code"] = _code
    return pages.get_template("report.html.j2")


def _code(text: str) -> markupsafe.Markup:
    """What stands between backticks, as code."""
    parts = [markupsafe.escape(part) for part in text.split("`")]
    return markupsafe.Markup("").join(
        markupsafe.Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )
