"""Runs side by side: what each is called, and its validation accuracy by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from fer_jax.errors import InputError
from fer_jax.runs.folder import run_description
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.runs.record import RunDescription
from fer_jax.storage.bucket import AnyPath

History = Sequence[Mapping[str, Any]]


def named_runs(workdirs: Sequence[AnyPath]) -> dict[str, History]:
    """Return the epochs of each run's `metrics.jsonl`, by a name that says its networks and their initial weights.

    Runs that would have one name are told apart by their folders. Raises `InputError` for a folder that holds no run,
    or a run without a whole epoch.
    """
    names = [_name(run_description(workdir)) for workdir in workdirs]
    runs: dict[str, History] = {}
    for workdir, name in zip(workdirs, names, strict=True):
        history = epoch_history(read_metrics(workdir))
        if not history:
            raise InputError(f"{workdir}: the run has no whole epoch yet; nothing to compare")
        runs[name if names.count(name) == 1 else f"{name} ({workdir.name})"] = history
    return runs


def _name(description: RunDescription) -> str:
    size = description.parsed_config().model.input_size
    networks = " + ".join(f"{b.name}, {b.initial_weights}" for b in description.backbones)
    return f"{networks}, {size} px"


def comparison_table(runs: Mapping[str, History]) -> str:
    """Return a Markdown table: a row a run, its validation accuracy in percent after each epoch."""
    epochs = max(len(history) for history in runs.values())
    header = ["run", *(f"epoch {epoch}" for epoch in range(1, epochs + 1))]
    rows = [header, [":--", *["--:"] * epochs]]
    for name, history in runs.items():
        accuracies = [f"{100 * entry['validation_accuracy']:.2f}" for entry in history]
        rows.append([name, *accuracies, *[""] * (epochs - len(accuracies))])
    return "Validation accuracy in percent.\n\n" + "".join("| " + " | ".join(row) + " |\n" for row in rows)
