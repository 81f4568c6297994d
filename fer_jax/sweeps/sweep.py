"""A whole sweep in one call: its runs, and the table after them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fer_jax.errors import InputError
from fer_jax.evaluation.plots import save_figure, validation_curves_figure
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.storage import files
from fer_jax.sweeps import table
from fer_jax.sweeps.local import PROGRAM, run_trials
from fer_jax.sweeps.spec import Trial, read_spec

_ABOUT = "sweep.json"
# A figure of more lines shows nothing.
_MOST_CURVES = 12


def sweep(
    spec: Path,
    arguments: Sequence[str],
    source: str,
    workdir: Path,
    environments: Callable[[], Sequence[Mapping[str, str]]],
    *,
    message: Callable[[str], None] = print,
    program: Sequence[str] = PROGRAM,
) -> list[dict]:
    """Run what is not done yet of the sweep `spec`, and write `sweep.md`, `table.json` and `curves.png`.

    Below `workdir`, `runs/NAME` is a run of the command `train`, `results/NAME.json` says that it is done, and
    `logs/NAME.log` is what it printed. A run that was stopped resumes; one that failed is tried again.

    Args:
      spec: see `read_spec`.
      arguments: `--config` and `--config.KEY=VALUE` for all runs.
      source: the data, as for training.
      workdir: the folder of the sweep.
      environments: gives those of `run_trials`; called once it is clear that there is something to do.
      message: takes a line about what happens.
      program: how a process begins, before the command's name.

    Returns:
      The rows of `fer_jax.sweeps.table.sweep_table`.

    Raises:
      InputError: before any work, as `read_spec` does, and for a folder that holds something else.
      Preempted: after a signal that asks to stop; the same call resumes.
    """
    trials = read_spec(spec, arguments)
    _open(workdir, {"arguments": list(arguments), "data": source})
    waiting = [trial for trial in trials if not _result(workdir, trial).is_file()]
    if len(waiting) < len(trials):
        message(f"{len(trials) - len(waiting)} of {len(trials)} runs are done")

    def done(trial: Trial) -> None:
        found = table.summary(_history(workdir, trial))
        files.write_text(_result(workdir, trial), json.dumps(found, indent=1) + "\n")

    failures: dict[str, str] = {}
    if waiting:
        common = [*arguments, f"--data={source}"]
        failures = run_trials(waiting, common, workdir, environments(), done=done, message=message, program=program)
    results = {
        trial.name: json.loads(_result(workdir, trial).read_bytes())
        for trial in trials
        if _result(workdir, trial).is_file()
    }
    rows = table.sweep_table(trials, results, failures)
    files.write_text(workdir / "table.json", json.dumps(rows, indent=2) + "\n")
    files.write_text(workdir / "sweep.md", table.markdown(rows, f"Sweep {spec.name}"))
    shown = [name for row in rows for name in row["runs"]][:_MOST_CURVES]
    by_name = {trial.name: trial for trial in trials}
    if shown:
        histories = {name: _history(workdir, by_name[name]) for name in shown}
        save_figure(validation_curves_figure(histories), workdir / "curves.png")
    return rows


def _result(workdir: Path, trial: Trial) -> Path:
    return workdir / "results" / f"{trial.name}.json"


def _history(workdir: Path, trial: Trial) -> list[dict]:
    return epoch_history(read_metrics(workdir / "runs" / trial.name))


def _open(workdir: Path, about: Mapping[str, object]) -> None:
    """Make `workdir` the folder of this sweep; `InputError` if it holds something else. Runs may be added later."""
    place = workdir / _ABOUT
    if place.is_file():
        earlier = json.loads(place.read_bytes())
        if earlier != about:
            raise InputError(
                f"{workdir}: holds a sweep with other arguments: {json.dumps(earlier)}, now {json.dumps(about)}; give "
                "the same ones, or another --workdir"
            )
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(f"{workdir}: exists and is not the folder of a sweep; give a new or empty --workdir")
    files.write_text(place, json.dumps(about, indent=2) + "\n")
