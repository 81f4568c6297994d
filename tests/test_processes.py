"""The training command in processes of its own: killed, stopped, and several of them at once."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import ClassVar

import numpy as np
import pytest

from fer_jax.runs.metrics_log import read_metrics
from fer_jax.testing import TRAIN_ARGUMENTS, without_times


class Training:
    """The command, started; its output goes to a file beside its folder."""

    started: ClassVar[list["Training"]] = []

    def __init__(self, repository, workdir, *arguments, devices=1):
        self._log = workdir.with_suffix(f".{time.monotonic_ns()}.log")
        command = [sys.executable, "tests/tiny_train.py", *TRAIN_ARGUMENTS, f"--workdir={workdir}", *arguments]
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        with self._log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=repository, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"XLA_FLAGS": flags}
            )

        self.started.append(self)

    def output(self):
        return self._log.read_text()

    def wait(self, timeout=1200):
        """The exit status."""
        return self.process.wait(timeout)

    def wait_for(self, pattern, timeout=1200):
        """Returns when the output has it; whether it came before the end."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.output()):
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, self.output()
            time.sleep(0.005)
        return True


@pytest.fixture(autouse=True)
def nothing_left_running():
    """Whatever a test leaves running when it fails ends with it."""
    yield
    end_all()


def end_all():
    for training in Training.started:
        training.process.kill()
        training.wait()
    Training.started.clear()


def newest_step(workdir):
    """The step of the newest checkpoint to go on from, 0 without any."""
    steps = (path.name for path in workdir.glob("checkpoints/last/*"))
    return max((int(step) for step in steps if step.isdigit()), default=0)


def unfinished(workdir):
    """Whether a checkpoint is half-written."""
    return any(workdir.glob("checkpoints/*/*tmp*"))


def kill_after(process, workdir, steps, delay, *, writing, timeout=600):
    """Kills `process` `delay` seconds after it has saved `steps` more steps, or after it next begins to save one.

    Returns the step of the newest checkpoint, and whether another one was being written; None if the run ended first.
    """
    end, wanted = time.monotonic() + timeout, newest_step(workdir) + steps
    while newest_step(workdir) < wanted or (writing and not unfinished(workdir)):
        if process.poll() is not None:
            return None
        assert time.monotonic() < end
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    status = process.wait()
    assert status in (0, -signal.SIGKILL)
    return None if status == 0 else (newest_step(workdir), unfinished(workdir))


_TINY_RUN = """
import sys
from pathlib import Path
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.testing import TINY, make_tiny_config, registered
from fer_jax.train import train
config = make_tiny_config()
config.train.checkpoint_every_steps = 1
with registered(TINY):
    train(config, synthetic_faces(64, 30, 17, seed=0), Path(sys.argv[1]))
"""


def test_killed_twice_and_gone_on_with(whole_run, repository, tmp_path, assert_same_run):
    """The small version of the test below."""
    command = [sys.executable, "-c", _TINY_RUN, str(tmp_path / "run")]
    for _ in range(2):
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=repository, stdout=log, stderr=subprocess.STDOUT)
        try:
            killed = kill_after(process, tmp_path / "run", 2, 0.01, writing=True)
        finally:
            process.kill()
            process.wait()
        assert killed, (tmp_path / "log").read_text()
    subprocess.run(command, cwd=repository, check=True, timeout=600)
    assert_same_run(tmp_path / "run", whole_run[0])


@pytest.mark.slow
def test_killed_at_random_moments(repository, tmp_path, assert_same_run):
    """At least 20 SIGKILLs that each cost some work, most while a checkpoint is written, and some more at the start."""
    workdir, arguments = tmp_path / "killed", ["--config.train.epochs=16", "--config.train.checkpoint_every_steps=1"]
    start = time.monotonic()
    assert Training(repository, tmp_path / "whole", *arguments).wait() == 0
    whole_seconds = time.monotonic() - start
    moments, kills, writing, early, ended = random.Random(0), 0, 0, 0, 0
    while kills < 20 or not ended:
        training = Training(repository, workdir, *arguments)
        if kills >= 20:
            assert training.wait() == 0, training.output()
            killed = None
        elif moments.random() < 0.15:
            time.sleep(moments.uniform(0, min(10.0, whole_seconds)))
            training.process.kill()
            killed = None if training.wait() == 0 else (newest_step(workdir), False)
            early += killed is not None
        else:
            aimed = moments.random() < 0.5
            delay = moments.uniform(0, 0.05 if aimed else 0.3)
            killed = kill_after(training.process, workdir, moments.randint(1, 3), delay, writing=aimed)
            kills += killed is not None
        if killed is None:
            assert training.wait() == 0, training.output()
            assert_same_run(workdir, tmp_path / "whole")
            ended += 1
            shutil.rmtree(workdir)
            continue
        step, torn = killed
        writing += torn
        print(f"{kills} kills, {early} more at the start; step {step}{', a checkpoint torn' * torn}", flush=True)
    print(f"{kills} kills in training, {writing} of them while a checkpoint was written; {early} at the start")
    print(f"{ended} runs came to their end, all as the whole one")
    assert writing >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("number", "again"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_signal_ends_the_command_with_its_status(number, again, repository, tmp_path):
    training = Training(repository, tmp_path / "run", "--config.train.epochs=1000")
    assert training.wait_for(r"step +\d+/")
    start = time.monotonic()
    training.process.send_signal(number)
    assert training.wait() == 75
    assert time.monotonic() - start < 10
    assert re.search(r"stopped after step \d+ of 4000 and saved in .*; the same command resumes", training.output())
    # While the network is built there is nothing to save.
    training = Training(repository, tmp_path / "other", "--config.train.epochs=1000")
    while not (tmp_path / "other" / "run.lock").exists():
        assert training.process.poll() is None, training.output()
        time.sleep(0.001)
    training.process.send_signal(number)
    assert training.wait() == again


@pytest.mark.slow
def test_resumed_on_another_number_of_devices(repository, tmp_path):
    assert Training(repository, tmp_path / "whole", "--config.train.epochs=4").wait() == 0
    for epochs, devices in ((2, 4), (4, 1)):
        training = Training(repository, tmp_path / "moved", "--config.train.epochs=4", devices=devices)
        if epochs < 4:
            training.wait_for(rf"epoch {epochs}:")
            training.process.terminate()
            assert training.wait() == 75
        else:
            assert training.wait() == 0
    assert_close(tmp_path / "moved", tmp_path / "whole")


def assert_close(workdir, expected):
    lines, wanted = (without_times(read_metrics(run)) for run in (workdir, expected))
    assert [line.keys() for line in lines] == [line.keys() for line in wanted]
    for line, other in zip(lines, wanted, strict=True):
        for key in line.keys() - {"kind"}:
            np.testing.assert_allclose(line[key], other[key], rtol=2e-3, atol=2e-3, err_msg=f"{key} at {line['step']}")


def start_two(repository, workdir, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", "--num-processes=2"]
    return [
        Training(repository, workdir, *arguments, *together, f"--process-id={number}", devices=2) for number in (0, 1)
    ]


# More questions whether to stop than steps, and saves in between: both are counted, by JAX and by Orbax.
TOGETHER = ["--config.train.epochs=24", "--config.train.checkpoint_every_steps=2"]


@pytest.fixture(scope="module")
def whole_of_two(repository, tmp_path_factory):
    """The folder of a run of two processes that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("together") / "whole"
    both = start_two(repository, workdir, *TOGETHER)
    try:
        assert [each.wait() for each in both] == [0, 0], [each.output() for each in both]
    finally:
        end_all()
    return workdir


@pytest.mark.slow
def test_two_processes_train_as_one(repository, whole_of_two, tmp_path):
    """The same result as one process of as many devices."""
    assert Training(repository, tmp_path / "one", *TOGETHER, devices=4).wait() == 0
    assert_close(whole_of_two, tmp_path / "one")


@pytest.mark.slow
def test_two_processes_stop_together(repository, whole_of_two, tmp_path, assert_same_run):
    """Stopped by a signal to one of them, at the same step, and gone on with."""
    both = start_two(repository, tmp_path / "stopped", *TOGETHER)
    assert both[0].wait_for(r"epoch 3:"), [each.output() for each in both]
    both[1].process.terminate()
    assert [each.wait(timeout=120) for each in both] == [75, 75], [each.output() for each in both]
    steps = {re.search(r"stopped after step (\d+) of", each.output())[1] for each in both}
    assert len(steps) == 1
    assert [each.wait() for each in start_two(repository, tmp_path / "stopped", *TOGETHER)] == [0, 0]
    assert_same_run(tmp_path / "stopped", whole_of_two)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_other_process_ends_when_one_is_killed(victim, repository, whole_of_two, tmp_path, assert_same_run):
    both = start_two(repository, tmp_path / "run", *TOGETHER)
    assert both[0].wait_for(r"epoch 2:"), [each.output() for each in both]
    both[victim].process.kill()
    start = time.monotonic()
    assert both[1 - victim].wait(timeout=90) not in (0, 75)
    seconds = time.monotonic() - start
    print(f"process {1 - victim} ended with {both[1 - victim].process.returncode} after {seconds:.0f} s")
    assert seconds < 60
    assert [each.wait() for each in start_two(repository, tmp_path / "run", *TOGETHER)] == [0, 0]
    assert_same_run(tmp_path / "run", whole_of_two)


@pytest.mark.slow
def test_full_disk_is_one_line_and_status_2(repository, tmp_path):
    """However many layers log it: no stack, and nothing else on stderr."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        arguments = [*TRAIN_ARGUMENTS, f"--workdir={disk / 'run'}", "--config.train.epochs=20"]
        result = subprocess.run(
            [sys.executable, "tests/tiny_train.py", *arguments], cwd=repository, capture_output=True, text=True
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert re.search(r"^error: .*/disk/run.* cannot be written \(.*mend the cause", result.stderr)
