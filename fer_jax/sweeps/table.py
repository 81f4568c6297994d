"""The table of many runs: mean and deviation over seeds, best by accuracy on the validation split first."""

import json
import statistics
from collections.abc import Mapping, Sequence

from fer_jax.errors import InputError
from fer_jax.evaluation.section import Table
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath

PAGE = "runs.md"
"""The name of the table as Markdown."""

# A figure of more lines shows nothing.
_MOST_CURVES = 12


def read_history(run: AnyPath) -> list[dict]:
    """Return the epochs of the whole run in the folder `run`; `InputError` if its log has none."""
    history = epoch_history(read_metrics(run))
    if not history:
        raise InputError(f"{run}: its metrics.jsonl has no epoch; remove this folder, and the same command trains it")
    return history


def best_epoch(history: Sequence[Mapping[str, float]], key: str = "validation_accuracy") -> Mapping[str, float]:
    """Return the epoch of a run's history that is best by `key`, the earliest of equals."""
    return max(history, key=lambda entry: entry[key])


def over_seeds(values: Sequence[float]) -> dict:
    """Return mean and sample deviation (n - 1), as JSON; None where there are too few values for it."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
    }


def write_table(
    workdir: AnyPath,
    title: str,
    experiments: Mapping[str, Sequence[str]],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    failures: Mapping[str, str],
) -> list[dict]:
    """Write `runs.md`, `runs.json` and `curves.png` into `workdir`, and return a row for each experiment, as JSON.

    The best mean of the validation accuracy comes first, an experiment without any last.

    Args:
      workdir: the folder of the runs.
      title: of the page.
      experiments: the names of the runs of each, which differ in their seeds, by what they have in common.
      histories: of the runs that are done, by name, an entry for each epoch.
      failures: why some failed, by name; a run that is in neither is not done yet.
    """
    rows = [_row(words, names, histories, failures) for words, names in experiments.items()]
    # Python keeps the order of equals.
    rows.sort(key=lambda row: -(row["validation_accuracy"]["mean"] or 0.0))
    files.write_text(workdir / "runs.json", json.dumps(rows, indent=2) + "\n")
    files.write_text(workdir / PAGE, _page(rows, title))
    shown = [name for row in rows for name in row["runs"]][:_MOST_CURVES]
    if shown:
        # Here and not above: Matplotlib takes a second to import, for which no mistake in the command waits.
        from fer_jax.evaluation.plots import save_figure, validation_curves_figure

        save_figure(validation_curves_figure({name: list(histories[name]) for name in shown}), workdir / "curves.png")
    return rows


def _row(
    words: str,
    names: Sequence[str],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    failures: Mapping[str, str],
) -> dict:
    runs = {name: _summary(histories[name]) for name in names if name in histories}
    return {
        "experiment": words,
        "validation_accuracy": over_seeds([run["validation_accuracy"] for run in runs.values()]),
        "runs": runs,
        "failed": {name: failures[name] for name in names if name in failures},
    }


def _summary(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    best = best_epoch(history)
    return {
        "validation_accuracy": best["validation_accuracy"],
        "epoch": best["epoch"],
        "epochs": len(history),
        "seconds": sum(entry["seconds"] for entry in history),
    }


def _page(rows: Sequence[Mapping], title: str) -> str:
    cells = []
    for row in rows:
        mean, deviation = row["validation_accuracy"]["mean"], row["validation_accuracy"]["standard_deviation"]
        seconds = sum(run["seconds"] for run in row["runs"].values())
        cells.append(
            [
                row["experiment"],
                str(len(row["runs"])),
                "" if mean is None else f"{100 * mean:.2f}",
                "" if deviation is None else f"{100 * deviation:.2f}",
                ", ".join(f"{run['epoch']:.0f} of {run['epochs']:.0f}" for run in row["runs"].values()),
                f"{seconds / 60:.1f}",
            ]
        )
    header = ["experiment", "runs", "validation accuracy %", "deviation over seeds", "best epochs", "minutes in all"]
    lines = [f"# {title}", "", *Table(header, cells).markdown(), ""]
    lines += [
        "The best epoch of each run by accuracy on the validation split, which orders the rows too: the more of them,",
        "the more optimistic is the first one's. The test split was not looked at for it.",
    ]
    failed = {name: why for row in rows for name, why in row["failed"].items()}
    if failed:
        lines += ["", "Failed; the same command tries again:", ""]
        lines += [f"- {name}: {why}" for name, why in failed.items()]
    return "\n".join(lines) + "\n"
