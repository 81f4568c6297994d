"""A storage server for the tests of this folder: see `bucket_server.py`."""

import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_jax.storage import patience
from fer_jax.storage.bucket import BucketPath
from fer_jax.train import train

BUCKET = "fer-runs"


class BucketServer:
    """The server that the tests of a session share, at `address`."""

    def __init__(self, address: str):
        self.address = address
        self._numbers = itertools.count()

    def folder(self) -> BucketPath:
        """Return a place in the bucket where nothing is."""
        return BucketPath(BUCKET, f"test{next(self._numbers)}")

    def fault(self, kind: str | None, pattern: str = "", count: int | None = None) -> None:
        """Break the next requests, as `bucket_server.py` says; None mends it."""
        self._control({"fault": kind and {"kind": kind, "pattern": pattern, "count": count}})

    def forget(self) -> None:
        """Count requests anew."""
        self._control({"forget": True})

    def requests(self) -> list[str]:
        """Return the requests since `forget`, as "METHOD PATH"."""
        with urllib.request.urlopen(f"{self.address}/_control") as answer:
            return json.load(answer)["requests"]

    def _control(self, what: dict) -> None:
        urllib.request.urlopen(f"{self.address}/_control", json.dumps(what).encode()).close()


@pytest.fixture(scope="session")
def _bucket_server() -> Iterator[BucketServer]:
    pytest.importorskip("gcp_storage_emulator")
    program = Path(__file__).with_name("bucket_server.py")
    process = subprocess.Popen(
        [sys.executable, str(program), BUCKET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield BucketServer(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def module_server(_bucket_server) -> Iterator[BucketServer]:
    """The server for this process and those that it starts; requests that fail are repeated for 10 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", _bucket_server.address)
        patch.setenv(patience.PATIENCE_VARIABLE, "10")
        patience.client.cache_clear()
        yield _bucket_server
    patience.client.cache_clear()


@pytest.fixture(scope="session")
def bucket_run(_bucket_server, make_tiny_config, faces) -> tuple[BucketPath, list[str]]:
    """A whole run, and the requests that it made. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", _bucket_server.address)
        patience.client.cache_clear()
        workdir = _bucket_server.folder()
        _bucket_server.forget()
        train(make_tiny_config(), faces, str(workdir))
    patience.client.cache_clear()
    return workdir, _bucket_server.requests()


@pytest.fixture
def server(module_server) -> Iterator[BucketServer]:
    """The server, mended after the test."""
    yield module_server
    module_server.fault(None)
