"""Processes that train together: found, in step, and of one mind. Whole trainings are in tests/test_processes.py."""

import json
import os
import socket
import subprocess
import sys

import pytest

from fer_jax.errors import InputError
from fer_jax.runtime.processes import check_equal, cluster_of, initialize, on_main, text_from_main

ALONE = {"TPU_SKIP_MDS_QUERY": "1"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, False),  # a batch script without srun
        (SLURM | {"SLURM_NTASKS": "1"}, False),
        (SLURM | {"SLURM_NTASKS": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # any pod has it
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
    ],
)
def test_environment_decides(environment, several):
    assert bool(cluster_of(ALONE | environment)) is several


def test_a_process_says_at_once_for_whom_it_waits(monkeypatch, capsys):
    """Such as one that was started in a shell of `srun --ntasks=4 --pty bash`, and is alone."""

    def nobody_comes(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED")

    for name, value in (ALONE | SLURM | {"SLURM_NTASKS": "4"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jax.distributed.initialize", nobody_comes)
    with pytest.raises(InputError, match=r"do not find each other .*--num-processes=1"):
        initialize()
    told = "waiting for the other processes of Slurm's step on n[1-2] (SLURM_NTASKS=4); to train in this one alone"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("a:1", None, 0), ("a:1", 2, None), ("nowhere", 2, 0), ("a:1", 2, 2)])
def test_arguments_that_do_not_go_together_are_refused(arguments):
    with pytest.raises(InputError, match="expected HOST:PORT"):
        initialize(*arguments)


def test_process_on_its_own_needs_nobody():
    initialize("nowhere:1", 1, 0)
    assert on_main(lambda: 3) == 3
    assert text_from_main(lambda: "text", "agrees") == "text"
    check_equal("anything", "text")


_ONE_OF_TWO = """
import json, os, signal, sys, time
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from fer_jax.runtime.sharding import place
from fer_jax.errors import InputError
from fer_jax.runtime import processes as hosts, sharding as meshes
from fer_jax.config.defaults import default_config
from fer_jax.runtime.sharding import place
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.pretrained.initial import initial_backbones
from fer_jax.runs.checkpoint import Checkpoints
from fer_jax.runs.folder import describe
from fer_jax.runs.record import CheckpointRecord
from fer_jax.runtime.preemption import StopRequests
from fer_jax.training.state import TrainState

port, number, folder = sys.argv[1:]
hosts.initialize("127.0.0.1:" + port, 2, int(number))
found = {"devices": jax.device_count(), "main": hosts.is_main()}

# What process 0 decides, or cannot do, all learn.
found["decided"] = hosts.on_main(lambda: 41 + 1)
def refuse():
    raise InputError("the folder is taken")
found["text"] = hosts.text_from_main(lambda: "größer", "agrees")
actions = {
    "refused": lambda: hosts.on_main(refuse),
    "no text": lambda: hosts.text_from_main(refuse, "disagrees"),
    "differs": lambda: hosts.check_equal(number, "number"),
}
for name, action in actions.items():
    try:
        action()
    except InputError as error:
        found[name] = str(error)

# Arrays on all devices, there and back through a checkpoint that both write.
replicated = meshes.replicated(meshes.make_mesh())
def state(value):
    number = np.float32(value)
    return place(TrainState(np.int32(value), {"a": np.full(3, number)}, {}, (number,)), replicated)
faces, backbones = synthetic_faces(8, 1, 2, seed=0), initial_backbones("scratch", ("mobilenet_v2",))
description = describe(default_config(), faces, backbones)
record = CheckpointRecord(description=description, epoch=0, step=7, epoch_seconds=0.0, best=None, history=())
with Checkpoints(Path(folder)) as checkpoints:
    checkpoints.save_last(7, state(7), (), record)
    checkpoints.wait()
with Checkpoints(Path(folder)) as checkpoints:
    restored, _, record = checkpoints.restore_last(state(0), ())
total = jax.jit(lambda tree: tree.step + tree.params["a"].sum() + tree.opt_state[0])(restored)
found["restored"] = float(total)

# A signal to process 1 stops both at the same place, even one that comes when they have asked more often than there
# were steps and a checkpoint, which asks too, is the last thing that happened.
found["asked"], found["stopped"] = 0, False
with StopRequests() as stopping, Checkpoints(Path(folder)) as checkpoints:
    while not found["stopped"] and found["asked"] < 500:
        found["asked"] += 1
        if found["asked"] == 20:
            checkpoints.save_last(8, state(8), (), record)
            checkpoints.wait()
            if number == "1":
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(4)
        found["stopped"] = stopping.requested()
        time.sleep(0.02)
print(json.dumps(found))
"""


def test_two_processes_decide_save_and_stop_together(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_OF_TWO, str(port), str(number), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    first, second = (json.loads(output.splitlines()[-1]) for output, _ in outputs)
    assert (first["devices"], second["devices"]) == (4, 4)
    assert (first["main"], second["main"]) == (True, False)
    assert first["decided"] == second["decided"] == 42
    assert first["text"] == second["text"] == "größer"
    for name in ("refused", "no text"):
        assert first[name] == "the folder is taken"
        assert "process 0 cannot continue" in second[name]
    assert first["differs"] == second["differs"]
    assert "process 1 has not the same number" in first["differs"]
    assert first["restored"] == second["restored"] == 7 + 3 * 7 + 7
    assert first["stopped"]
    assert second["stopped"]
    assert first["asked"] == second["asked"] >= 20
