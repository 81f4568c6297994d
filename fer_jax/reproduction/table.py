"""The whole reproduction in one call: plan, runs, and the table that is written after all of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fer_jax.config.loading import load_config
from fer_jax.data.configured import as_configured, load_by_config
from fer_jax.errors import InputError
from fer_jax.evaluation.plots import save_figure
from fer_jax.reproduction import render
from fer_jax.reproduction.plan import PAPER_BACKBONES, PRESETS, Experiment, config_arguments, experiments
from fer_jax.reproduction.results import table_of
from fer_jax.reproduction.subprocesses import PROGRAM, Runner, open_plan
from fer_jax.storage import files


def reproduce(
    source: str,
    workdir: Path,
    *,
    program: Sequence[str] = PROGRAM,
    scale: str = "small",
    seeds: int = 1,
    backbones: Sequence[str] = PAPER_BACKBONES,
    init: str = "keras",
    scratch: Sequence[str] = (),
    overrides: Sequence[str] = (),
    message: Callable[[str], None] = print,
) -> dict:
    """Run the unfinished experiments below `workdir`, and write `table3.json`, `.md`, `.png` and `.html` there.

    Args:
      source: the data, as for training.
      workdir: the folder of all runs, reports and the table.
      program: how a process of the commands `train` and `evaluate` begins.
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
    open_plan(workdir, {**about, "overrides": values})
    runner = Runner(workdir, source, program=program, message=message)
    outcomes = runner(rows, range(seeds))
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


def _check_data(source: str, rows: Sequence[Experiment]) -> None:
    """Read the data once as the first experiment will, whose refusal would otherwise be that of every experiment."""
    config = load_config(config_arguments(rows[0]))
    data = as_configured(config, load_by_config(config, source))
    if not len(data.test):
        raise InputError(f"{source}: has no test split, on which the table's accuracies are; give data that have one")
