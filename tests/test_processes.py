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

from fer_jax.training.metrics_log import read_metrics

ARGUMENTS = [
    "--config=configs/quickstart.py",
    "--config.model.backbones=('tiny',)",
    "--config.model.hidden_units=(16,)",
    "--config.model.input_size=32",
    # Everything that draws random numbers or keeps statistics, and all that a state can hold.
    "--config.model.drop_path=0.2",
    "--config.model.dropout=0.2",
    "--config.train.batch_size=16",
    "--config.train.log_every_steps=3",
    "--data=synthetic:64",
]
STEPS_PER_EPOCH = 4


class Training:
    """The command, started; its output goes to a file beside its folder."""

    started: ClassVar[list["Training"]] = []

    def __init__(self, repository, workdir, *arguments, devices=1):
        self._log = workdir.with_suffix(f".{time.monotonic_ns()}.log")
        command = [sys.executable, "tests/tiny_train.py", *ARGUMENTS, f"--workdir={workdir}", *arguments]
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
    for training in Training.started:
        training.process.kill()
        training.wait()
    Training.started.clear()


@pytest.mark.slow
def test_killed_at_random_moments(repository, tmp_path, assert_same_run):
    """At least 20 SIGKILLs, some in the middle of a checkpoint; every run that gets to its end is the whole one."""
    arguments = ["--config.train.epochs=6", "--config.train.checkpoint_every_steps=1"]
    assert Training(repository, tmp_path / "whole", *arguments).wait() == 0
    moments, kills, writing, ended = random.Random(0), 0, 0, 0
    while kills < 20 or not ended:
        training = Training(repository, tmp_path / "killed", *arguments)
        # Most of them while it trains and saves, half of these in the middle of saving; some while it starts.
        training_begun = moments.random() < 0.8
        if training_begun:
            training.wait_for("step compiled")
            if moments.random() < 0.5:
                while training.process.poll() is None and not unfinished(tmp_path / "killed"):
                    time.sleep(0.001)
                time.sleep(moments.uniform(0, 0.05))
            else:
                time.sleep(moments.uniform(0, 3.0))
        else:
            time.sleep(moments.uniform(0, 10.0))
        training.process.kill()
        status = training.wait()
        if status == 0:
            ended += 1
            assert_same_run(tmp_path / "killed", tmp_path / "whole")
            shutil.rmtree(tmp_path / "killed")
        else:
            assert status == -signal.SIGKILL, training.output()
            kills += 1
            # What an earlier kill left has been cleared away once training begins.
            writing += training_begun and unfinished(tmp_path / "killed")
            print(f"kill {kills}, {writing} so far while a checkpoint was written", flush=True)
        if kills >= 20 and not ended:
            assert Training(repository, tmp_path / "killed", *arguments).wait() == 0
            assert_same_run(tmp_path / "killed", tmp_path / "whole")
            ended += 1
    print(f"{kills} kills, {writing} of them while a checkpoint was written, {ended} runs that ended")
    assert writing


def unfinished(workdir):
    """Whether a checkpoint is half-written."""
    return any(workdir.glob("checkpoints/*/*tmp*"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "again"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_signal_ends_the_command_with_its_status(number, again, repository, tmp_path):
    training = Training(repository, tmp_path / "run", "--config.train.epochs=1000")
    assert training.wait_for(r"step +\d+/")
    start = time.monotonic()
    training.process.send_signal(number)
    assert training.wait() == 75
    assert time.monotonic() - start < 10
    assert re.search(r"stopped after step \d+ of 4000 and saved in .*; the same command goes on", training.output())
    # Before the first step there is nothing to save.
    training = Training(repository, tmp_path / "other", "--config.train.epochs=1000")
    assert training.wait_for("images; ")
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
    lines, wanted = (
        [{k: v for k, v in line.items() if k not in ("images_per_second", "seconds")} for line in read_metrics(place)]
        for place in (workdir, expected)
    )
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


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(repository, tmp_path, assert_same_run):
    """The same result as one process of as many devices; stopped by a signal to one of them, and gone on with."""
    arguments = ["--config.train.epochs=8"]
    assert [each.wait() for each in start_two(repository, tmp_path / "whole", *arguments)] == [0, 0]
    assert Training(repository, tmp_path / "one", *arguments, devices=4).wait() == 0
    assert_close(tmp_path / "whole", tmp_path / "one")
    both = start_two(repository, tmp_path / "stopped", *arguments)
    assert both[0].wait_for(r"step +\d+/")
    both[1].process.terminate()
    assert [each.wait() for each in both] == [75, 75], [each.output() for each in both]
    assert [each.wait() for each in start_two(repository, tmp_path / "stopped", *arguments)] == [0, 0]
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_other_process_ends_when_one_is_killed(victim, repository, tmp_path, assert_same_run):
    arguments = ["--config.train.epochs=12", "--config.train.checkpoint_every_steps=3"]
    assert [each.wait() for each in start_two(repository, tmp_path / "whole", *arguments)] == [0, 0]
    both = start_two(repository, tmp_path / "run", *arguments)
    assert both[0].wait_for(r"epoch 2:")
    both[victim].process.kill()
    start = time.monotonic()
    assert both[1 - victim].wait(timeout=90) not in (0, 75)
    assert time.monotonic() - start < 60
    assert [each.wait() for each in start_two(repository, tmp_path / "run", *arguments)] == [0, 0]
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_full_disk_is_one_line_and_status_2(repository, tmp_path):
    """However many layers log it: no stack, and nothing else on stderr."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        arguments = [*ARGUMENTS, f"--workdir={disk / 'run'}", "--config.train.epochs=20"]
        result = subprocess.run(
            [sys.executable, "tests/tiny_train.py", *arguments], cwd=repository, capture_output=True, text=True
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert re.search(r"^error: .*/disk/run.* cannot be written \(.*mend the cause", result.stderr)
