"""The whole reproduction in one call: plan, runs, and the table that is written after all of them."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence

from fer_jax.config.loading import load_config
from fer_jax.data.configured import as_configured, load_by_config
from fer_jax.errors import InputError
from fer_jax.reproduction.plan import Experiment, config_arguments, experiments
from fer_jax.reproduction.results import Outcome, table_of
from fer_jax.reproduction.scales import PAPER_BACKBONES, PRESETS
from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath
from fer_jax.sweeps.folder import Logs, opened
from fer_jax.sweeps.local import PROGRAM, device_environments
from fer_jax.sweeps.runner import Job, run_jobs
from fer_jax.sweeps.table import read_history, write_table


def reproduce(
    source: str,
    workdir: AnyPath,
    *,
    program: Sequence[str] = PROGRAM,
    environments: Callable[[], Sequence[Mapping[str, str]]] = device_environments,
    scale: str = "small",
    seeds: int = 1,
    backbones: Sequence[str] = PAPER_BACKBONES,
    init: str = "keras",
    scratch: Sequence[str] = (),
    overrides: Sequence[str] = (),
    message: Callable[[str], None] = print,
) -> dict:
    """Run the unfinished experiments below `workdir`, and write `table3.json`, `.md`, `.png` and `.html` there.

    Below `workdir`, `runs/NAME-seedN` is a run of the command `train`, `reports/NAME-seedN` its report on the test
    split, whose `report.json` says that the experiment is done, and `logs/NAME-seedN.log` what both printed. All
    experiments with the first seed come before those with the next, so that a whole table is complete early. Beside the
    paper's table there are the files of `write_table`.

    Args:
      source: the data, as for training.
      workdir: the folder of all runs, reports and the table.
      program: how a process of the commands `train` and `evaluate` begins.
      environments: gives the environments of experiments that may run at a time.
      scale: a key of `PRESETS`.
      seeds: how many, from 0 on; more of them may be asked for later.
      backbones: the pair, see `experiments`.
      init: its initial weights, see `experiments`.
      scratch: networks that are trained from scratch beside it.
      overrides: `--config.KEY=VALUE` for all experiments.
      message: takes a line about what happens.

    Returns:
      The table as in `table3.json`.

    Raises:
      InputError: before any work, for arguments that cannot be, data that cannot be read or have no test split, or a
        folder that holds something else.
      Preempted: after SIGTERM or SIGINT; the same call resumes.
    """
    if seeds < 1:
        raise InputError(f"--seeds={seeds}: expected a number of at least 1")
    rows = experiments(scale, backbones=backbones, init=init, scratch=scratch, changes=overrides)
    _check_data(source, rows)
    about = {
        "scale": scale,
        "description": PRESETS[scale].description,
        "data": source,
        "backbones": list(backbones),
        "init": init,
        "scratch": list(scratch),
    }
    # With their values, so that a preset that has changed since is noticed.
    values = {row.name: {key: str(value) for key, value in row.overrides.items()} for row in rows}
    # Runs record the paths of the runs that they start from, which must not depend on the working directory.
    workdir = workdir.resolve()
    with opened(workdir, "plan.json", {**about, "overrides": values}, "a reproduction", grows="overrides"):
        outcomes = _run(source, workdir, rows, range(seeds), program, environments, message)
        # Here and not above: Matplotlib takes a second to import, for which no mistake in the command waits.
        from fer_jax.evaluation.plots import save_figure
        from fer_jax.reproduction import render

        table = table_of(outcomes, {**about, "seeds": list(range(seeds))})
        texts = {
            "table3.json": json.dumps(table, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
            "table3.md": render.markdown(table),
            "table3.html": render.page(table, workdir / "reports"),
        }
        for name, text in texts.items():
            files.write_text(workdir / name, text)
        save_figure(render.figure(table), workdir / "table3.png")
    return table


def _run(
    source: str,
    workdir: AnyPath,
    rows: Sequence[Experiment],
    seeds: Sequence[int],
    program: Sequence[str],
    environments: Callable[[], Sequence[Mapping[str, str]]],
    message: Callable[[str], None],
) -> list[Outcome]:
    """Train and evaluate what is not done yet, and write the table of the runs."""
    jobs, outcomes = [], []
    for seed in seeds:
        for row in rows:
            name = f"{row.name}-seed{seed}"
            run, report = workdir / "runs" / name, workdir / "reports" / name
            outcomes.append(Outcome(row, seed, run, report))
            if (report / "report.json").is_file():
                message(f"{name}: done before")
                continue
            overrides = {**row.overrides, "seed": seed, "eval.test_each_epoch": True}
            needs = {backbone: f"{needed}-seed{seed}" for backbone, needed in row.needs.items()}
            overrides |= {
                f"backbone_checkpoints.{backbone}": workdir / "runs" / needed for backbone, needed in needs.items()
            }
            configured = config_arguments(dataclasses.replace(row, overrides=overrides))
            train = ["train", f"--data={source}", f"--workdir={run}", *configured]
            evaluate = ["evaluate", f"--data={source}", f"--checkpoint={run}", "--split=test", f"--out={report}"]
            commands = [[*map(str, program), *command] for command in (train, [*evaluate, "--no-faces"])]
            jobs.append(Job(name, commands, list(needs.values())))
    failures = {}
    if jobs:
        failures = run_jobs(
            jobs,
            environments(),
            Logs(workdir),
            done=lambda job: None,
            stopped_message=f"stopped; the runs below {workdir / 'runs'} are saved",
            message=message,
        )
    outcomes = [dataclasses.replace(each, failure=failures.get(each.run.name)) for each in outcomes]
    experiments = {row.title: [f"{row.name}-seed{seed}" for seed in seeds] for row in rows}
    histories = {each.run.name: read_history(each.run) for each in outcomes if each.failure is None}
    write_table(workdir, "The runs of the paper's experiments", experiments, histories, failures)
    return outcomes


def _check_data(source: str, rows: Sequence[Experiment]) -> None:
    """Read the data once as the first experiment will, whose refusal would otherwise be that of every experiment."""
    config = load_config(config_arguments(rows[0]))
    data = as_configured(config, load_by_config(config, source))
    if not len(data.test):
        raise InputError(f"{source}: has no test split, on which the table's accuracies are; give data that have one")
