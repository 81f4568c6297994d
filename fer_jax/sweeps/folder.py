"""The folder of many runs: what it is of, who works in it, and what its runs printed."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from fer_jax.errors import InputError
from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.lock import held
from fer_jax.storage.patience import BucketError


def read_json(place: AnyPath) -> dict:
    """Return the JSON object in the file or object `place`, empty if there is none; `InputError` for anything else."""
    try:
        found = json.loads(place.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{place}: is damaged, expected a JSON object; remove it, or give another --workdir")
    return found


@contextlib.contextmanager
def opened(
    workdir: AnyPath, name: str, about: Mapping[str, Any], kind: str, grows: str | None = None
) -> Iterator[None]:
    """Make `workdir` the folder of what `about` says, kept there in the file `name`, and hold it for the block.

    `kind` is what is in it, in words. Entries may be added to the mapping `about[grows]`.

    Raises `InputError` if the folder holds something else, or another process works in it.
    """
    place = workdir / name
    if earlier := read_json(place):
        now = dict(about)
        if grows is not None:
            before = earlier.get(grows)
            before = before if isinstance(before, dict) else {}
            now[grows] = {key: value for key, value in now[grows].items() if key in before}
        changed = [f"{key}: {earlier.get(key)!r} and {now[key]!r}" for key in now if earlier.get(key) != now[key]]
        if changed:
            raise InputError(
                f"{workdir}: holds {kind} with other arguments: {'; '.join(changed)} (there and now); give the same "
                "ones, or another --workdir"
            )
    elif _holds_something(workdir):
        raise InputError(f"{workdir}: exists and is not the folder of {kind}; give a new or empty --workdir")
    with contextlib.ExitStack() as holding:
        try:
            if earlier != about:
                files.write_text(place, json.dumps(about, indent=2) + "\n")
            holding.enter_context(held(workdir / "runs.lock"))
        except BucketError:
            raise
        except OSError as error:
            raise InputError(f"{workdir}: cannot be written: {error.strerror or error}") from error
        yield


def _holds_something(workdir: AnyPath) -> bool:
    if isinstance(workdir, BucketPath):
        return workdir.exists()
    return workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir()))


class Logs:
    """What the jobs in `workdir` print: `logs/NAME.log`, which for a bucket is written on this machine first."""

    def __init__(self, workdir: AnyPath):
        self._place = workdir / "logs"
        if isinstance(self._place, BucketPath):
            digest = hashlib.sha256(str(workdir).encode()).hexdigest()[:16]
            self._folder = user_cache_path("fer_jax") / "logs" / digest
        else:
            self._folder = self._place

    def file(self, name: str) -> Path:
        """Return the file on this machine to which a job appends."""
        return self._folder / f"{name}.log"

    def kept(self, name: str) -> AnyPath:
        """Return where it is to be read."""
        return self._place / f"{name}.log"

    def keep(self, name: str) -> None:
        """Bring the log of a job that has ended to its place, if the storage answers."""
        place = self.kept(name)
        if isinstance(place, BucketPath):
            with contextlib.suppress(BucketError):
                place.upload(self.file(name))
