"""The lease that keeps a second command out of a run in a bucket."""

import json
import subprocess
import sys
import time

import pytest

from fer_jax.errors import InputError
from fer_jax.runs.metrics_log import MetricsLog, read_metrics
from fer_jax.storage import lock
from fer_jax.storage.lock import held


@pytest.fixture
def place(server, monkeypatch):
    """A lock with a short lease."""
    monkeypatch.setenv(lock.LEASE_VARIABLE, "1")
    return server.folder() / "run.lock"


def test_held_renewed_and_released(place):
    with held(place) as check:
        first = place.generation()
        started = time.monotonic()
        with pytest.raises(InputError, match=r"process \d+ on .* trains in this folder"), held(place):
            pass
        assert time.monotonic() - started < 2
        assert place.generation() != first
        check()
    assert not place.is_file()


def test_process_of_this_machine_that_is_gone_is_not_waited_for(place, monkeypatch):
    monkeypatch.setenv(lock.LEASE_VARIABLE, "600")
    program = (
        "import json; from fer_jax.storage import lock\n"
        "print(json.dumps({'owner': lock._this_process(), 'token': '', 'lease': 600}))"
    )
    written = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    place.write_bytes(written.stdout)
    with held(place):
        assert json.loads(place.read_bytes())["owner"]["pid"] != json.loads(written.stdout)["owner"]["pid"]


def test_lease_that_nobody_renews_expires(place):
    place.write_bytes(b'{"owner": {"pid": 1, "host": "elsewhere"}, "lease": 1}')
    started = time.monotonic()
    with held(place):
        assert 1 <= time.monotonic() - started < 3


@pytest.mark.parametrize("content", [b"", b"[]", b"process 1 on elsewhere\n"])
def test_what_is_no_lease_holds_nobody(place, content):
    """Such as the lock file of a run that was copied from a disk."""
    place.write_bytes(content)
    started = time.monotonic()
    with held(place):
        assert time.monotonic() - started < 1


def test_holder_learns_that_another_has_taken_over(place):
    with held(place) as check:
        place.write_bytes(b"another's")
        time.sleep(1.1)
        with pytest.raises(InputError, match="another command has taken the folder over"):
            check()
    assert place.read_bytes() == b"another's"


def test_log_of_a_folder_that_another_has_is_not_written(place):
    def lost():
        raise InputError("lost")

    log = MetricsLog(place.parent, check=lost)
    log.write(1, {"loss": 1.0})
    for write in (log.flush, log.close):
        with pytest.raises(InputError, match="lost"):
            write()
    assert read_metrics(place.parent) == []


def test_lost_answer_is_no_other_holder(server, place):
    server.fault("cut", "^POST", count=1)
    with held(place):
        assert place.is_file()
    assert not place.is_file()


@pytest.mark.parametrize("text", ["0", "x", "nan"])
def test_nonsense_is_refused(place, text, monkeypatch):
    monkeypatch.setenv(lock.LEASE_VARIABLE, text)
    with pytest.raises(InputError, match=f"FER_JAX_BUCKET_LEASE={text}: expected"), held(place):
        pass
