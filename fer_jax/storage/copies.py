"""Copies of what lies in a bucket, on this machine: made once for each generation, and read as files from then on."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TextIO

from platformdirs import user_cache_path

from fer_jax.storage.bucket import BucketPath, StoredObject, download_folder, listing_digest
from fer_jax.storage.environment import number_from_environment
from fer_jax.storage.patience import MissingObject

COPIES_VARIABLE = "FER_JAX_BUCKET_COPIES"
"""The environment variable that says how many gigabytes (1e9 bytes) of copies are kept."""

_COPIES_GIGABYTES = 20.0
_COPYING = ".copying_"
# A copy that was begun so many seconds ago and that no process holds will not be completed.
_TORN_SECONDS = 3600.0
# The lock of a copy, beside it: each process that has read it holds it to its end.
_LOCK = ".in_use"
# Of so many copies, those asked for last: each keeps a file open.
_MOST_HELD = 200
_held: dict[Path, TextIO] = {}


def local_copy(place: BucketPath) -> Path:
    """Return a copy of the object at `place`, or of the folder there, with its name.

    It lies in the user's cache folder (`~/.cache/fer_jax/buckets` on Linux) and is made anew when an object has
    changed. A copy that is not complete never gets its name. Once a new one is there, those that were not used for the
    longest time are removed until all of them have at most `FER_JAX_BUCKET_COPIES` gigabytes; none of the last 200 that
    a process of this machine has asked for and may still read.

    Raises `MissingObject` if there is neither, `OSError` if the copy cannot be written, and `InputError` if the
    environment says nonsense.
    """
    most = _most_bytes()
    objects = place.objects()
    if not objects:
        try:
            objects = [StoredObject("", 0, place.generation())]
        except MissingObject:
            raise MissingObject(f"{place}: no such object or folder") from None
    digest = hashlib.sha256(f"{place}\n{listing_digest(objects)}".encode()).hexdigest()[:32]
    folder = user_cache_path("fer_jax") / "buckets" / digest
    copy = folder / (place.name or place.bucket)
    while not _hold(folder, copy):
        _make(place, objects, folder, copy)
        _remove_oldest(folder.parent, most)
    return copy


def _most_bytes() -> float:
    expected = "a number of gigabytes, such as 20"
    return 1e9 * number_from_environment(COPIES_VARIABLE, _COPIES_GIGABYTES, lambda found: 0 <= found < 1e9, expected)


def _hold(folder: Path, copy: Path) -> bool:
    """Keep others from removing `copy` as long as this process lives; return whether it is there."""
    if not copy.exists():
        return False
    if folder not in _held:
        lock = _locked(folder, fcntl.LOCK_SH)
        if lock is None or not copy.exists():  # removed meanwhile
            return False
        _held[folder] = lock
        if len(_held) > _MOST_HELD:
            _held.pop(next(iter(_held))).close()
    os.utime(folder)
    return True


def _locked(folder: Path, kind: int) -> TextIO | None:
    """The lock of the copy in `folder`, held; None where another process has it, or there is no such folder any more.

    On a file system without locks it is open, and `LOCK_EX`, by which a copy is removed, is refused.
    """
    try:
        file = open(folder / _LOCK, "a", encoding="utf-8")  # noqa: SIM115 (held by the caller)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, kind)
    except OSError:
        if kind & fcntl.LOCK_EX:
            file.close()
            return None
    return file


def _make(place: BucketPath, objects: list[StoredObject], folder: Path, copy: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=_COPYING, dir=folder.parent))
    try:
        with open(beside / _LOCK, "a") as lock:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_SH)
            if objects[0].name:
                download_folder(place, beside / copy.name, objects)
            else:
                place.download(beside / copy.name)
        try:
            os.rename(beside, folder)
        except OSError:
            if not copy.exists():  # another process was faster
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _remove_oldest(copies: Path, most: float) -> None:
    """Remove what torn off commands have left, and the copies unused for longest beyond `most` bytes in all."""
    whole, left = [], 0
    for folder in copies.iterdir():
        try:
            used = folder.stat().st_mtime
            if folder.name.startswith("."):
                if used < time.time() - _TORN_SECONDS:
                    _remove(folder)
                continue
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        except FileNotFoundError:  # removed by another process
            continue
        whole.append((used, size, folder))
        left += size
    # The newest one is what this was called for.
    for _, size, folder in sorted(whole)[:-1]:
        if left <= most:
            return
        if _remove(folder):
            left -= size


def _remove(folder: Path) -> bool:
    lock = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is None:
        return False
    with lock:
        # Nobody finds half of it.
        gone = folder.with_name(f".removed_{folder.name}")
        with contextlib.suppress(OSError):
            os.rename(folder, gone)
            shutil.rmtree(gone)
            return True
        return False
