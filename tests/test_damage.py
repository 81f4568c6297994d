"""What happens to disks, folders and numbers: one clear error or a warning, and nothing that existed is harmed."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.checksums import FILE_NAME, find_damage, write_checksums
from fer_jax.runs.metrics_log import read_metrics
from fer_jax.train import train
from fer_jax.training.program import TrainProgram


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_bit(folder):
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(folder):
    path = largest_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete_half(folder):
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
        path.unlink()


DAMAGES = pytest.mark.parametrize("damage", [flip_bit, truncate, delete_half])


@pytest.fixture
def copy(whole_run, tmp_path):
    """A run that is finished, to be harmed."""
    shutil.copytree(whole_run[0], tmp_path / "copy")
    return tmp_path / "copy"


@DAMAGES
def test_damage_anywhere_is_found(damage, tmp_path):
    folder = tmp_path / "checkpoint"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "array").write_bytes(bytes(range(256)))
    (folder / "record").write_text("{}")
    assert find_damage(folder) == f"{FILE_NAME} is missing"
    write_checksums(folder)
    assert find_damage(folder) is None
    damage(folder)
    assert find_damage(folder)


def test_damaged_newest_checkpoint_is_set_aside(copy, whole_run, make_tiny_config, faces, assert_same_run, capsys):
    flip_bit(copy / "checkpoints" / "last" / "12")
    train(make_tiny_config(), faces, copy)
    said = capsys.readouterr().out
    assert re.search(r"warning: .*last/12 is damaged \(.*\), now in .*set_aside/last-12; step 8 serves", said)
    assert (copy / "checkpoints" / "set_aside" / "last-12").is_dir()
    assert_same_run(copy, whole_run[0])


def test_every_checkpoint_damaged_is_one_error_and_nothing_moves(copy, make_tiny_config, faces):
    for step in (8, 12):
        truncate(copy / "checkpoints" / "last" / str(step))
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"every checkpoint .*last/12: .*last/8: .*backup"):
        train(make_tiny_config(), faces, copy)
    assert sorted(path.name for path in (copy / "checkpoints" / "last").iterdir()) == ["12", "8"]
    assert (copy / "metrics.jsonl").read_bytes() == before


@DAMAGES
def test_damaged_model_is_not_evaluated(damage, copy):
    best = find_model(copy)
    damage(best.folder / str(best.step))
    with pytest.raises(InputError, match=rf"best/{best.step}: the checkpoint cannot be read: "):
        TrainedModel(copy)


def test_flipped_bit_would_go_unnoticed_without_the_checksums(copy):
    """The reason for them: Orbax reads another record than was written, and says nothing."""
    folder = copy / "checkpoints" / "last" / "12"
    record = next(path for path in (folder / "record").rglob("*") if path.is_file())
    record.write_text(record.read_text().replace('"step": 12', '"step": 13'))
    assert json.loads(record.read_text())
    assert find_damage(folder)
    (folder / FILE_NAME).unlink()
    write_checksums(folder)
    assert find_model(copy / "checkpoints" / "last").record.step == 13


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many kilobytes; skips the test where that is not allowed."""
    mounted = []

    def mount(kilobytes):
        place = tmp_path / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("kilobytes", [16, 400])
def test_full_disk_is_one_error(kilobytes, small_disk, make_tiny_config, faces, whole_run, assert_same_run):
    """Full at once, and in the middle of a checkpoint; with more room the same command goes on."""
    workdir = small_disk(kilobytes) / "run"
    with pytest.raises(InputError, match=r"disk.* cannot be written \(.*(No space|ENOSPC|space left)") as found:
        train(make_tiny_config(), faces, workdir)
    assert str(workdir) in str(found.value)
    for folder in (workdir / "checkpoints").glob("*/*"):
        assert not folder.name.isdigit() or find_damage(folder) is None
    read_metrics(workdir)
    if kilobytes == 400:
        _wait_for_rest(workdir / "checkpoints")
        subprocess.run(["mount", "-o", "remount,size=64m", str(workdir.parent)], check=True)
        train(make_tiny_config(), faces, workdir)
        assert_same_run(workdir, whole_run[0])


def _wait_for_rest(folder):
    """The other tasks of a failed write end after it, and clean up; a command given again is another process."""
    found = None
    while found != (found := sorted(folder.rglob("*"))):
        time.sleep(1)


def test_folder_that_is_read_only_is_one_error(small_disk, make_tiny_config, faces):
    disk = small_disk(100)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for workdir in (disk, disk / "run"):
        with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
            train(make_tiny_config(), faces, workdir)


_HOLD = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("process 7 on there", file=file, flush=True)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_in_one_folder_are_refused(copy, make_tiny_config, faces):
    """The lock is that of another process, and goes with it."""
    before = (copy / "metrics.jsonl").read_bytes()
    command = [sys.executable, "-c", _HOLD, str(copy / "run.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="process 7 on there trains in this folder"):
            train(make_tiny_config(), faces, copy)
        holder.kill()
    assert (copy / "metrics.jsonl").read_bytes() == before
    train(make_tiny_config(), faces, copy)


def test_what_is_not_finite_stops_the_run_and_is_never_saved(make_tiny_config, faces, tmp_path):
    """The parameters leave the numbers at the first step; the step after it says so, and what it was made of."""
    config = make_tiny_config()
    config.optimizer.learning_rate = 1e30
    with pytest.raises(InputError, match=r"not finite at step 2, on the rows .*; nothing was saved yet") as found:
        train(config, faces, tmp_path)
    rows = [int(row) for row in re.search(r"rows ([\d, ]+) of", str(found.value))[1].split(", ")]
    # The second batch of the first epoch, from the definition of the order.
    order = np.random.Generator(np.random.Philox(key=[0, 1])).permutation(64)[16:32]
    assert rows == faces.train.row_ids[order].tolist()
    assert find_steps(tmp_path) == []


def test_state_that_is_not_finite_is_not_saved(make_tiny_config, faces, tmp_path, monkeypatch):
    """Loss and gradients are fine, a statistic is not; the state saved last is from before."""
    config = make_tiny_config()
    config.train.checkpoint_every_steps = 1
    step = TrainProgram.step
    monkeypatch.setattr(TrainProgram, "step", lambda *a, **k: SpoiltStep(step(*a, **k), at=3))
    with pytest.raises(InputError, match=r"not finite at step 3, .*; the state after step 2 is whole"):
        train(config, faces, tmp_path)
    assert find_steps(tmp_path) == [1, 2]


class SpoiltStep:
    """A training step that leaves one infinite running statistic at step `at`."""

    def __init__(self, step, at):
        self._step, self._at = step, at

    def lower(self, *arguments):
        return SpoiltStep(self._step.lower(*arguments), self._at)

    def compile(self):
        return SpoiltStep(self._step.compile(), self._at)

    def __call__(self, *arguments):
        state, metrics = self._step(*arguments)
        if int(state.step) == self._at:
            leaves, structure = jax.tree.flatten(state.batch_stats)
            with jax.transfer_guard("allow"):
                leaves[0] = leaves[0].at[0].set(jnp.inf)
            state = dataclasses.replace(state, batch_stats=jax.tree.unflatten(structure, leaves))
        return state, metrics


def find_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints" / "last").iterdir())
