"""A folder that says all about one evaluation: numbers, tables, pictures, and every prediction."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_jax.data.image_files import ImageFiles
from fer_jax.errors import InputError
from fer_jax.evaluation import plots
from fer_jax.evaluation.calibration_section import calibration_section
from fer_jax.evaluation.label_audit import label_audit_section
from fer_jax.evaluation.metrics import ClassificationMetrics, Predictions, classification_metrics
from fer_jax.evaluation.page.render import report_page
from fer_jax.evaluation.predictions_file import FILE_NAME as PREDICTIONS
from fer_jax.evaluation.predictions_file import predictions_csv
from fer_jax.evaluation.section import Section, Table, percent
from fer_jax.runs.metrics_log import finite_or_none
from fer_jax.runs.temperature import StoredTemperature
from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath

_CURVES = "training_curves.png"
_SAMPLES = "samples.png"


def write_report(
    out: AnyPath,
    *,
    predictions: Predictions,
    class_names: Sequence[str],
    images: np.ndarray | ImageFiles,
    history: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, str | int | float],
    include_faces: bool = True,
    temperature: StoredTemperature | None = None,
    votes: tuple[np.ndarray, str] | None = None,
    more: Sequence[Section] = (),
    names: Sequence[str] = (),
) -> tuple[ClassificationMetrics, list[AnyPath]]:
    """Write the report of `predictions` into the folder `out`, made if missing.

    Returns the metrics, and the files, `report.md` last.

    The files are `report.json`, `report.html`, `report.md`, `confusion_matrix.png`, `per_class.png`, `calibration.png`,
    `predictions.csv`, `training_curves.png` unless `history` is empty, and `samples.png` unless `include_faces` is
    false: a report to be published must not show images of FER2013. One of the last two that an earlier report left in
    `out` is removed when this report has none. Each file is written atomically.

    `images` are those of the predictions, in their order: uint8 [n, size, size] or [n, size, size, 3], or files.
    `history` is that of `fer_jax.runs.metrics_log.epoch_history`. `provenance` says where the numbers come from
    (data, split, checkpoint, ...) and is shown in its order. `temperature` is that of the model, whose calibration is
    shown before and after it; predictions.csv has the probabilities before it. `votes` are those of FER+ on
    the images, int [n, 10] as in `fer_jax.data.ferplus.Votes`, and what they are called: for the label audit. `more`
    are further sections, by what else is known of the data. `names` are the files of the images, as `Split.files` has
    them: predictions.csv and the page then say which image a row is.

    Raises `InputError` if `out` cannot be a folder, `ValueError` if `images` do not go with the predictions, and what
    `classification_metrics` raises; all before anything is written.
    """
    n = len(predictions.labels)
    if len(images) != n:
        raise ValueError(f"expected an image for each of {n} predictions, found {len(images)}")
    metrics = classification_metrics(predictions.labels, predictions.probabilities, class_names)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{out}: expected a folder for the report, found a file; choose another --out") from error

    headline = _headline(metrics)
    figures = {
        "confusion_matrix.png": plots.confusion_matrix_figure(metrics.confusion, class_names, headline),
        "per_class.png": plots.per_class_figure(metrics),
    }
    if history:
        figures[_CURVES] = plots.training_curves_figure(history)
    if include_faces:
        figures[_SAMPLES] = plots.sample_grid_figure(images, predictions.labels, predictions.probabilities, class_names)
    sections = [calibration_section(predictions, temperature), *more]
    if votes is not None:
        sections.append(label_audit_section(predictions.predicted, predictions.labels, *votes))
    for name in (_CURVES, _SAMPLES):
        if name not in figures:
            (out / name).unlink(missing_ok=True)
    all_figures = figures | {name: figure for part in sections for name, (figure, _) in part.figures.items()}
    for name, figure in all_figures.items():
        plots.save_figure(figure, out / name)

    epochs = [{key: _plain(value) for key, value in line.items()} for line in history]
    content = {
        "provenance": {key: _plain(value) for key, value in provenance.items()},
        "metrics": metrics.to_json(),
        **{part.key: part.content for part in sections},
        "history": epochs,
    }
    told = Table(["", ""], [[key, _cell(value)] for key, value in provenance.items()], numbers=False)
    page = report_page(
        predictions=predictions,
        metrics=metrics,
        sections=sections,
        per_class=per_class_table(metrics),
        provenance=told,
        history=epochs,
        images=images if include_faces else None,
        votes=votes[0] if votes is not None else None,
        files=names,
    )
    texts = {
        PREDICTIONS: predictions_csv(predictions, class_names, names),
        "report.json": json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        "report.html": page,
        "report.md": _markdown(metrics, headline, list(figures), sections, told),
    }
    for name, text in texts.items():
        files.write_text(out / name, text)
    return metrics, [out / name for name in (*all_figures, *texts)]


def _plain(value: str | int | float | None) -> str | int | float | None:
    return value if isinstance(value, str) or value is None else finite_or_none(value)


def _headline(metrics: ClassificationMetrics) -> str:
    low, high = metrics.accuracy_interval
    return f"Accuracy {percent(metrics.accuracy)} % (95 % interval {percent(low)} to {percent(high)} %)"


def _markdown(
    metrics: ClassificationMetrics,
    headline: str,
    pictures: Sequence[str],
    sections: Sequence[Section],
    provenance: Table,
) -> str:
    captions = {
        "confusion_matrix.png": "Confusion matrix: images, and percent of the true class",
        "per_class.png": "Precision, recall and F1 of each class",
        _CURVES: "Loss and accuracy over the epochs",
        _SAMPLES: "The most confident right and wrong predictions of each class",
    }
    lines = [
        "# Evaluation",
        "",
        f"**{headline}**: {metrics.confusion.trace()} of {metrics.support.sum()} right, "
        f"macro-F1 {metrics.macro_f1:.4f}, balanced accuracy {percent(metrics.balanced_accuracy)} %, "
        f"log loss {metrics.log_loss:.4f}.",
        "",
    ]
    for name in pictures:
        lines += [f"![{captions[name]}]({name})", ""]
    lines += ["## Each class", "", *per_class_table(metrics).markdown(), ""]
    names = metrics.class_names
    if len(names) <= plots.MOST_CLASSES:
        lines += ["## Confusion matrix", "", "Rows are true classes, columns predicted ones; images.", ""]
        rows = [[name, *map(str, counts)] for name, counts in zip(names, metrics.confusion, strict=True)]
        lines += [*Table(["true \\ predicted", *names], rows).markdown(), ""]
    for section in sections:
        lines += section.markdown()
    lines += ["## Where these numbers come from", ""]
    lines += provenance.markdown()
    lines += [
        "",
        "The intervals of accuracy and recall are Wilson's. The macro average counts every class with examples "
        "alike, the weighted one by its support. `report.json` holds the same numbers in full, `predictions.csv` the "
        "prediction for each example.",
        "",
    ]
    return "\n".join(lines)


def per_class_table(metrics: ClassificationMetrics) -> Table:
    """Return precision, recall with its interval, F1 and support of each class, and what it is mistaken for."""
    rows = []
    for label, name in enumerate(metrics.class_names):
        confused, interval = metrics.most_confused(label), metrics.recall_interval(label)
        mistaken = "–"
        if confused:
            share = confused[1] / metrics.support[label]
            mistaken = f"{metrics.class_names[confused[0]]} ({100 * share:.1f} %)"
        scores = [f"{values[label]:.3f}" for values in (metrics.precision, metrics.recall, metrics.f1)]
        bounds = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "–"
        rows.append([name, *scores, bounds, str(metrics.support[label]), mistaken])
    for name, average in (("macro average", metrics.macro), ("weighted average", metrics.weighted)):
        rows.append([name, *(f"{value:.3f}" for value in average), "", str(metrics.support.sum()), ""])
    header = ["", "Precision", "Recall", "F1", "Recall, 95 % interval", "Support", "Most often mistaken for"]
    return Table(header, rows)


def _cell(value: str | int | float) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("\n", " ")
