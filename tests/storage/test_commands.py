"""The training command on a run in a bucket, in processes of its own: killed, two at once, and without an answer."""

import os
import random
import re
import socket
import subprocess
import sys
import time

import pytest

from fer_jax.storage.bucket import download_folder
from fer_jax.testing import TRAIN_ARGUMENTS

pytestmark = pytest.mark.slow


@pytest.fixture
def start(server, repository, tmp_path):
    """Starts the command; what still runs at the end of the test is killed."""
    started = []

    def start(workdir, *arguments, devices=1):
        log = tmp_path / f"{len(started)}.log"
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "tests/tiny_train.py", *TRAIN_ARGUMENTS, f"--workdir={workdir}", *arguments],
                cwd=repository,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"XLA_FLAGS": flags},
            )
        process.output = log.read_text
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(pattern, process):
    end = time.monotonic() + 300
    while not re.search(pattern, process.output()):
        assert process.poll() is None, process.output()
        assert time.monotonic() < end, process.output()
        time.sleep(0.005)


def start_two(start, workdir, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", "--num-processes=2"]
    return [start(workdir, *arguments, *together, f"--process-id={number}", devices=2) for number in (0, 1)]


def same_as(expected, workdir, tmp_path, assert_same_run):
    download_folder(workdir, tmp_path / "copy")
    assert_same_run(tmp_path / "copy", expected)


def unfinished(workdir):
    """How many checkpoints have objects and no checksums."""
    found = {}
    for stored in (workdir / "checkpoints").objects():
        kind, step, name = stored.name.split("/", 2)
        found.setdefault((kind, step), set()).add(name)
    return sum("checksums.json" not in names for names in found.values())


def test_killed_at_random_moments(server, start, tmp_path, assert_same_run):
    arguments = ["--config.train.epochs=6", "--config.train.checkpoint_every_steps=1"]
    assert start(tmp_path / "whole", *arguments).wait() == 0
    workdir, moments, torn = server.folder(), random.Random(0), 0
    kills, ended = 0, 0
    while kills < 20:
        process = start(workdir, *arguments)
        wait_for("training step compiled", process)
        # At any moment, or in the middle of a checkpoint.
        aimed = moments.random() < 0.5
        while aimed and process.poll() is None and not unfinished(workdir):
            pass
        time.sleep(moments.uniform(0, 0.02 if aimed else 2.0))
        process.kill()
        if process.wait() == 0:
            ended += 1
            same_as(tmp_path / "whole", workdir, tmp_path / f"ended{ended}", assert_same_run)
            workdir = server.folder()
            continue
        kills += 1
        torn += bool(unfinished(workdir))
        print(f"{kills} kills, {torn} with a checkpoint torn", flush=True)
    assert start(workdir, *arguments).wait() == 0
    same_as(tmp_path / "whole", workdir, tmp_path, assert_same_run)
    assert unfinished(workdir) == 0
    assert torn >= 3


def test_second_command_is_refused_and_takes_over_from_a_dead_one(server, start, monkeypatch):
    monkeypatch.setenv("FER_JAX_BUCKET_LEASE", "4")
    workdir = server.folder()
    first = start(workdir, "--config.train.epochs=1000")
    wait_for(r"step +\d+/", first)
    second = start(workdir, "--config.train.epochs=1000")
    assert second.wait() == 2
    last = second.output().splitlines()[-1]
    assert re.fullmatch(rf"error: {workdir}: process {first.pid} on .* trains in this folder; wait for its end.*", last)
    first.kill()
    first.wait()
    third = start(workdir, "--config.train.epochs=1000")
    wait_for(r"step +\d+/", third)
    third.terminate()
    assert third.wait() == 75


def test_two_processes_of_two_devices(server, start, tmp_path, assert_same_run):
    together = ["--config.train.epochs=6", "--config.train.checkpoint_every_steps=2"]
    whole = start_two(start, tmp_path / "whole", *together)
    assert [process.wait() for process in whole] == [0, 0], [process.output() for process in whole]
    workdir = server.folder()
    both = start_two(start, workdir, *together)
    wait_for("epoch 2:", both[0])
    both[1].terminate()
    assert [process.wait() for process in both] == [75, 75], [process.output() for process in both]
    again = start_two(start, workdir, *together)
    assert [process.wait() for process in again] == [0, 0], [process.output() for process in again]
    assert "resuming after step" in again[0].output()
    same_as(tmp_path / "whole", workdir, tmp_path, assert_same_run)


@pytest.mark.parametrize("kind", ["error", "hang", "slow"])
def test_a_minute_without_an_answer(server, start, tmp_path, assert_same_run, monkeypatch, kind):
    """The run goes on afterwards; with less patience it ends in one line, and nothing is lost."""
    arguments = ["--config.train.epochs=4", "--config.train.checkpoint_every_steps=1"]
    assert start(tmp_path / "whole", *arguments).wait() == 0
    monkeypatch.setenv("FER_JAX_BUCKET_PATIENCE", "600")
    workdir = server.folder()
    process = start(workdir, *arguments)
    wait_for("training step compiled", process)
    server.fault(kind)
    time.sleep(60)
    assert process.poll() is None or kind == "slow"
    server.fault(None)
    assert process.wait() == 0, process.output()
    same_as(tmp_path / "whole", workdir, tmp_path, assert_same_run)


def test_no_answer_is_one_line_and_status_2(server, start, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_JAX_BUCKET_PATIENCE", "10")
    workdir = server.folder()
    process = start(workdir, "--config.train.epochs=1000")
    # The state of the first epoch is saved before that of the next is begun.
    wait_for("epoch 2:", process)
    server.fault("error")
    assert process.wait(timeout=120) == 2
    print(process.output())
    assert [line for line in process.output().splitlines() if "error" in line.lower()][-1].startswith("error: gs://")
    assert "Traceback" not in process.output()
    server.fault(None)
    monkeypatch.delenv("FER_JAX_BUCKET_PATIENCE")
    again = start(workdir, "--config.train.epochs=1000")
    wait_for(r"resuming after step", again)
