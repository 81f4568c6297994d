"""A whole sweep in one call: its runs, and the table after them."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath
from fer_jax.sweeps.folder import Logs, opened
from fer_jax.sweeps.launchers import Launcher
from fer_jax.sweeps.runner import Job, run_jobs
from fer_jax.sweeps.spec import Trial, read_spec
from fer_jax.sweeps.table import read_history, write_table


def sweep(
    spec: Path,
    arguments: Sequence[str],
    source: str,
    workdir: AnyPath,
    launcher: Launcher,
    *,
    message: Callable[[str], None] = print,
) -> list[dict]:
    """Run what is not done yet of the sweep `spec`, and write the files of `write_table`.

    Below `workdir`, `runs/NAME` is a run of the command `train`, `done/NAME` says that it is done, and `logs/NAME.log`
    is what it printed. A run that was stopped resumes; one that failed is tried again.

    Args:
      spec: see `read_spec`.
      arguments: `--config` and `--config.KEY=VALUE` for all runs.
      source: the data, as for training.
      workdir: the folder of the sweep.
      launcher: trains the runs.
      message: takes a line about what happens.

    Returns:
      The rows of `write_table`.

    Raises:
      InputError: before any work, as `read_spec` does, for a folder that holds something else, and for a run that the
        launcher refuses.
      Preempted: after a signal that asks to stop; the same call resumes.
    """
    trials = read_spec(spec, arguments)
    commands = _commands(trials, arguments, source, workdir, launcher)
    launcher.check(commands[trials[0].name])
    with opened(workdir, "sweep.json", {"arguments": list(arguments), "data": source}, "a sweep"):
        histories = _finished(trials, workdir)
        waiting = [trial for trial in trials if trial.name not in histories]
        if histories:
            message(f"{len(histories)} of {len(trials)} runs are done")

        def done(job: Job) -> None:
            histories[job.name] = read_history(workdir / "runs" / job.name)
            files.write_text(_marker(workdir, job.name), "")

        failures: dict[str, str] = {}
        if waiting:
            failures = run_jobs(
                [Job(trial.name, [commands[trial.name]]) for trial in waiting],
                launcher.slots(),
                Logs(workdir),
                done=done,
                stopped_message=f"no longer followed; the runs below {workdir / 'runs'} go on where they are"
                if launcher.follows
                else f"stopped; the runs below {workdir / 'runs'} are saved",
                follows=launcher.follows,
                cwd=launcher.cwd,
                message=message,
            )
        experiments: dict[str, list[str]] = {}
        for trial in trials:
            experiments.setdefault(trial.without_seed(), []).append(trial.name)
        return write_table(workdir, f"Sweep {spec.name}", experiments, histories, failures)


def print_commands(
    spec: Path,
    arguments: Sequence[str],
    source: str,
    workdir: AnyPath,
    launcher: Launcher,
    *,
    message: Callable[[str], None] = print,
) -> None:
    """Tell every command that `sweep` with the same arguments would run, and run and write nothing."""
    trials = read_spec(spec, arguments)
    commands = _commands(trials, arguments, source, workdir, launcher)
    finished = _finished(trials, workdir)
    for name, command in commands.items():
        if name in finished:
            message(f"# {name}: done")
            continue
        message(f"# {name}\n{shlex.join(command)}")
        for line in launcher.check(command).splitlines():
            message(f"  {line}")


def _commands(
    trials: Sequence[Trial], arguments: Sequence[str], source: str, workdir: AnyPath, launcher: Launcher
) -> dict[str, list[str]]:
    common = [*arguments, f"--data={source}"]
    return {
        trial.name: launcher.command(trial.name, workdir / "runs" / trial.name, [*common, *trial.arguments()])
        for trial in trials
    }


def _finished(trials: Sequence[Trial], workdir: AnyPath) -> dict[str, list[dict]]:
    """The epochs of the runs that are done, by name; one whose folder was removed is not."""
    marked = [trial.name for trial in trials if _marker(workdir, trial.name).is_file()]
    return {name: read_history(workdir / "runs" / name) for name in marked if (workdir / "runs" / name).exists()}


def _marker(workdir: AnyPath, name: str) -> AnyPath:
    return workdir / "done" / name
