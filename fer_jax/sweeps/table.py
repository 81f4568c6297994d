"""The table of a sweep: mean and deviation over seeds, best by accuracy on the validation split first."""

import statistics
from collections.abc import Mapping, Sequence

from fer_jax.evaluation.section import Table
from fer_jax.sweeps.spec import Trial


def summary(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what the table says of one run, of its history: its best epoch by validation, the earliest of equals."""
    best = max(history, key=lambda entry: entry["validation_accuracy"])
    return {
        "validation_accuracy": best["validation_accuracy"],
        "epoch": best["epoch"],
        "epochs": len(history),
        "seconds": sum(entry["seconds"] for entry in history),
    }


def sweep_table(
    trials: Sequence[Trial], results: Mapping[str, Mapping[str, float]], failures: Mapping[str, str]
) -> list[dict]:
    """Return a row for each experiment, as JSON: the best mean of the validation accuracy first, without one last.

    The deviation is that of the sample (n - 1), None for a single run. `results` are those of `summary` and `failures`
    reasons, both by a trial's name; a trial in neither is not done yet.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.without_seed(), []).append(trial)
    rows = []
    for experiment, members in groups.items():
        accuracies = [results[trial.name]["validation_accuracy"] for trial in members if trial.name in results]
        rows.append(
            {
                "experiment": experiment,
                "runs": {trial.name: dict(results[trial.name]) for trial in members if trial.name in results},
                "failed": {trial.name: failures[trial.name] for trial in members if trial.name in failures},
                "mean_validation_accuracy": statistics.mean(accuracies) if accuracies else None,
                "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            }
        )
    # Python keeps the order of equals, which is that of the file.
    return sorted(rows, key=lambda row: -(row["mean_validation_accuracy"] or 0.0))


def markdown(rows: Sequence[Mapping], title: str) -> str:
    """Return the page of `sweep_table`, the runs that failed below it."""
    cells = []
    for row in rows:
        mean, deviation = row["mean_validation_accuracy"], row["deviation"]
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
        "the more optimistic is the first one's. The test split was not looked at.",
    ]
    failed = {name: why for row in rows for name, why in row["failed"].items()}
    if failed:
        lines += ["", "Failed; the same command tries again:", ""]
        lines += [f"- {name}: {why}" for name, why in failed.items()]
    return "\n".join(lines) + "\n"
