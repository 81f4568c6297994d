"""A run in a bucket against one on a disk: the same files, to the bit, whatever happens in between."""

import re
import signal
from pathlib import Path

import pytest

from fer_jax.errors import InputError
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.metrics_log import read_metrics
from fer_jax.runtime.preemption import Preempted, StopRequests
from fer_jax.storage import lock, patience
from fer_jax.storage.bucket import BucketPath, download_folder
from fer_jax.testing import without_times
from fer_jax.train import train


def stop_at(call, number, patch):
    """Send this process the signal `number` just before it asks for the `call`-th time whether to stop."""
    requested, calls = StopRequests.requested, iter(range(1, 1000))

    def signalled(self):
        if next(calls) == call:
            signal.raise_signal(number)
        return requested(self)

    patch.setattr(StopRequests, "requested", signalled)


def copy_of(workdir: BucketPath, folder: Path) -> Path:
    download_folder(workdir, folder)
    return folder


def names(workdir: BucketPath) -> set[str]:
    return {found.name for found in workdir.objects()}


def test_same_run_as_on_disk(server, bucket_run, whole_run, assert_same_run, tmp_path):
    workdir, _ = bucket_run
    assert_same_run(copy_of(workdir, tmp_path / "copy"), whole_run[0])
    assert without_times(read_metrics(workdir)) == without_times(read_metrics(whole_run[0]))
    on_disk = {path.relative_to(whole_run[0]).as_posix() for path in whole_run[0].rglob("*") if path.is_file()}
    # What Orbax adds after the last name, the lock that is gone, and names that chance chooses.
    on_disk -= {
        "run.lock",
        *(name for name in on_disk if re.fullmatch(r"checkpoints/\w+/\d+/commit_success.txt", name)),
    }
    assert {name for name in names(workdir) if "/d/" not in name and "tfevents" not in name} == {
        name for name in on_disk if "/d/" not in name and "tfevents" not in name
    }


def test_model_of_a_bucket(server, bucket_run, whole_run):
    found, expected = find_model(str(bucket_run[0])), find_model(whole_run[0])
    assert (found.step, found.epoch) == (expected.step, expected.epoch)
    assert without_times(found.run_history()) == without_times(expected.run_history())
    with pytest.raises(InputError, match=r"gs://fer-runs/nothing: no such folder"):
        find_model("gs://fer-runs/nothing")


def test_requests_of_an_epoch(server, bucket_run):
    """docs/reliability.md states the bound."""
    workdir, requests = bucket_run
    last, best = (
        max(
            sum(found.name.startswith(f"checkpoints/{kind}/{step}/") for found in workdir.objects())
            for step in (4, 8, 12)
        )
        for kind in ("last", "best")
    )
    start_and_end = 40
    assert len(requests) <= start_and_end + 3 * (2 * (last + best) + 10)
    # Nothing is asked for that this command has written.
    assert not any(line.startswith("GET") and "alt=media" in line for line in requests)


def break_before(name, server, patch):
    """Let the storage be gone from where the object is written whose name ends so."""
    upload = BucketPath.upload

    def until(self, file):
        if str(self).endswith(name):
            server.fault("error")
        upload(self, file)

    patch.setattr(BucketPath, "upload", until)


def test_ends_to_the_same_bits_whatever_happens(
    server, whole_run, make_tiny_config, faces, assert_same_run, tmp_path, monkeypatch, capsys
):
    workdir = server.folder()
    last = workdir / "checkpoints" / "last"

    with monkeypatch.context() as patch:
        stop_at(8, signal.SIGTERM, patch)
        with pytest.raises(Preempted, match=r"stopped after step 7 of 12 and saved in gs://fer-runs/"):
            train(make_tiny_config(), faces, workdir)
    assert not (workdir / "run.lock").is_file()
    assert find_model(last).step == 7

    # A storage that is gone for longer than the run waits, in the middle of a checkpoint: one line, and nothing is
    # lost. What was written of that checkpoint is none.
    with monkeypatch.context() as patch:
        patch.setenv(patience.PATIENCE_VARIABLE, "2")
        break_before("last/8/checksums.json", server, patch)
        with pytest.raises(InputError, match=rf"^{workdir}/.*: no answer from the storage within \d+ s") as caught:
            train(make_tiny_config(), faces, workdir)
        assert "\n" not in str(caught.value)
    server.fault(None)
    assert any(name.startswith("checkpoints/last/8/") for name in names(workdir))
    assert find_model(last).step == 7

    # Half an object, so that the checkpoint before serves; and a storage that is busy now and then.
    largest = max((last / "7").objects(), key=lambda found: found.size)
    half = (last / "7" / largest.name).read_bytes()[: largest.size // 2]
    (last / "7" / largest.name).write_bytes(half)
    server.fault("error", "^POST", count=3)
    train(make_tiny_config(), faces, workdir)
    assert f"{last}/7 is damaged ({largest.name} is not what was written)" in capsys.readouterr().out
    assert [path.name for path in (workdir / "checkpoints" / "set_aside").iterdir()] == ["last-7"]
    assert_same_run(copy_of(workdir, tmp_path / "copy"), whole_run[0])


def test_another_run_and_another_command_are_refused(server, bucket_run, make_tiny_config, faces, monkeypatch):
    workdir, _ = bucket_run
    before = {(found.name, found.generation) for found in workdir.objects()}
    config = make_tiny_config()
    config.seed = 7
    with pytest.raises(InputError, match=rf"{workdir}: holds a run of another config, which differs in seed"):
        train(config, faces, workdir)
    monkeypatch.setenv(lock.LEASE_VARIABLE, "2")
    with (
        lock.held(workdir / "run.lock"),
        pytest.raises(InputError, match=rf"{workdir}: process \d+ on .* trains in this folder"),
    ):
        train(make_tiny_config(), faces, workdir)
    assert {(found.name, found.generation) for found in workdir.objects()} == before


def test_folder_of_something_else_is_refused(server, make_tiny_config, faces):
    workdir = server.folder()
    (workdir / "metrics.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"is not the folder of a run, .* \(metrics.jsonl\)"):
        train(make_tiny_config(), faces, workdir)
    with pytest.raises(InputError, match="gs://no-such-bucket/run: there is no bucket no-such-bucket"):
        train(make_tiny_config(), faces, "gs://no-such-bucket/run")
    assert names(workdir) == {"metrics.jsonl"}
