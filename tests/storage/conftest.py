"""A run in a bucket of the server that `bucket_server.py` is."""

import pytest

from fer_jax.storage import patience
from fer_jax.storage.bucket import BucketPath
from fer_jax.train import train


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
