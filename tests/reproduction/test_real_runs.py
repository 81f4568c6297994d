"""The reproduction with the real commands, on drawn faces and networks that train in seconds."""

import json
import sys

import pytest

from fer_jax.reproduction.scales import PRESETS, Preset
from fer_jax.reproduction.table import reproduce
from fer_jax.runtime.preemption import Preempted

# `python -m fer_jax` with the backbones of the tests among those that configs can name. Where the file `stop` names
# this run, SIGTERM reaches the reproduction in its second epoch.
_PROGRAM = """
import os, pathlib, signal, sys
from fer_jax.config.defaults import BACKBONE_CHECKPOINTS
from fer_jax.testing import MINI, TINY, registered
BACKBONE_CHECKPOINTS.update({spec.name: BACKBONE_CHECKPOINTS["mobilenet_v2"] for spec in (TINY, MINI)})
stop = pathlib.Path(__file__).parent / "stop"
if stop.exists() and any(a.endswith("/runs/" + stop.read_text()) for a in sys.argv):
    from fer_jax.runs.metrics_log import MetricsLog
    write = MetricsLog.write
    def stopping(self, step, *arguments, **keywords):
        write(self, step, *arguments, **keywords)
        if step == 6:
            os.kill(os.getppid(), signal.SIGTERM)
            signal.sigtimedwait([], 1)
    MetricsLog.write = stopping
from fer_jax.__main__ import main
with registered(TINY, MINI):
    main()
"""


@pytest.fixture
def run(tmp_path, repository, monkeypatch):
    """Calls `reproduce` into a folder."""
    program = tmp_path / "program" / "program.py"
    program.parent.mkdir()
    program.write_text(_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    common = {
        "model.input_size": 32,
        "model.hidden_units": (16,),
        "train.batch_size": 16,
        "train.epochs": 2,
        "train.log_every_steps": 2,
    }
    frozen = {"train.cached_views": 2}
    monkeypatch.setitem(PRESETS, "tiny", Preset("for tests", common, {"frozen": frozen, "fer_frozen": frozen}))

    def call(workdir, stop=""):
        program.with_name("stop").write_text(stop)
        return reproduce(
            "synthetic:64",
            workdir,
            program=(sys.executable, program),
            environments=lambda: [{}],
            scale="tiny",
            backbones=("tiny", "mini"),
            init="scratch",
            message=lambda text: None,
        )

    return call


def without_times_and_places(table, workdir):
    text = json.dumps(table).replace(str(workdir), "")
    table = json.loads(text)
    for row in table["rows"]:
        for run in row["runs"]:
            del run["images_per_second"], run["seconds"]
            for entry in run["history"]:
                del entry["images_per_second"], entry["seconds"]
    return table


@pytest.mark.slow
def test_stopped_in_the_middle_of_a_run_it_ends_with_the_same_table(run, tmp_path):
    with pytest.raises(Preempted, match="stopped; the runs below"):
        run(tmp_path / "stopped", stop="hybrid_imagenet_frozen-seed0")
    log = tmp_path / "stopped" / "logs" / "hybrid_imagenet_frozen-seed0.log"
    assert "stopped after step" in log.read_text()
    again = run(tmp_path / "stopped")
    assert "resuming after step" in log.read_text()
    whole = run(tmp_path / "whole")
    assert not any("failed" in run for row in whole["rows"] for run in row["runs"])
    ours, theirs = (
        without_times_and_places(table, tmp_path / name) for table, name in ((again, "stopped"), (whole, "whole"))
    )
    assert ours == theirs
    assert "checkpoint" in whole["rows"][4]["runs"][0]["provenance"]["initial weights"]
