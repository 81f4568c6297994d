"""Atomic writes: to a file under a temporary name beside its path, then renamed; to an object as a whole."""

import contextlib
import datetime
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.lock import no_link


@contextlib.contextmanager
def replace_file(path: str | os.PathLike | BucketPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if not.

    The temporary name keeps the suffix of `path`, because some writers choose the format by it. Missing parent folders
    are created. For a place in a bucket the temporary file is one of this machine's, and its content is written there.
    """
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory(prefix="fer_jax_") as folder:
            yield Path(folder, path.name)
            path.upload(Path(folder, path.name))
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def try_writing(folder: Path) -> None:
    """Make `folder` where it is missing, and write a file there that vanishes at once; raise `OSError` if it cannot be.

    For commands that write at the end of long work, before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_text(path: str | os.PathLike | BucketPath, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    if isinstance(path, BucketPath):
        path.write_text(text)
        return
    with replace_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def add_line(path: AnyPath, text: str) -> None:
    """Append a line to a file, with the time before it. A failure to write it is no matter.

    An object is read and written anew, in one try.
    """
    line = f"{datetime.datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n"
    with contextlib.suppress(OSError):
        if isinstance(path, BucketPath):
            try:
                earlier = path.read_bytes(once=True)
            except FileNotFoundError:
                earlier = b""
            path.write_bytes(earlier + line.encode(), once=True)
        else:
            with open(path, "a", encoding="utf-8", opener=no_link) as file:
                file.write(line)
