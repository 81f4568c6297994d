"""Files inside compressed files and archives, read as streams: nothing is unpacked to the disk, nor followed out of it.

What a file is, is decided by its first bytes and not by its name.
"""

import bz2
import contextlib
import dataclasses
import functools
import gzip
import io
import itertools
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from fer_jax.errors import InputError, first_line, is_exhaustion

MAX_BYTES = 16 * 2**30
"""Of unpacked content; more is refused as a bomb. The csv of FER2013 has 0.3 GB, so this is 1.9 million faces."""

_MAX_MEMBERS = 1_000_000

_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")

_DAMAGED = (OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError)
"""What the readers of compressed content raise: RuntimeError for a password, NotImplementedError for a method."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A file, perhaps inside another: `name` says where, for messages; `inner` is its path inside, or empty.

    `open()` is a context manager that gives its content as a buffered binary stream.
    """

    path: Path
    inner: str
    open: Callable[[], contextlib.AbstractContextManager[io.BufferedReader]]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.path} ({self.inner})" if self.inner else str(self.path)

    def start(self, size: int = 4096) -> bytes:
        """Return its first bytes; raise `InputError` if they cannot be read."""
        with self.open() as stream:
            return stream.read(size)


def plain(path: Path) -> Member:
    """Return the file `path` as it is."""
    return Member(path, "", functools.partial(_opened, path))


def members(path: Path) -> list[Member]:
    """Return the files that are in the archive `path`; of a compressed or plain file the one that it is.

    Raises `InputError` for a file that cannot be read, or a damaged or endless archive.
    """
    start = plain(path).start(512)
    if start.startswith(_ZIP):
        with _readable(path), zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
        return [Member(path, name, functools.partial(_from_zip, path, name)) for name in names[:_MAX_MEMBERS]]
    unpacked = Member(path, "", functools.partial(_opened, path, _decompressor(start)))
    if unpacked.start(512)[257:262] != b"ustar":
        return [unpacked]
    with unpacked.open() as stream, _readable(path), tarfile.open(fileobj=stream, mode="r|") as archive:
        names = [info.name for info in itertools.islice(archive, _MAX_MEMBERS) if info.isreg()]
    return [Member(path, name, functools.partial(_from_tar, unpacked, name)) for name in names]


def is_packed(start: bytes) -> bool:
    """Return whether a file of these first bytes is compressed, or an archive."""
    return start.startswith((*_ZIP, *_COMPRESSED)) or start[257:262] == b"ustar"


def _decompressor(start: bytes) -> Callable[[BinaryIO], BinaryIO] | None:
    return next((open_ for magic, open_ in _COMPRESSED.items() if start.startswith(magic)), None)


@contextlib.contextmanager
def _opened(path: Path, decompressor: Callable[[BinaryIO], BinaryIO] | None = None) -> Iterator[io.BufferedReader]:
    with _readable(path):
        file = path.open("rb")
    with file:
        yield _bounded(path, decompressor(file) if decompressor else file)


@contextlib.contextmanager
def _from_zip(path: Path, name: str) -> Iterator[io.BufferedReader]:
    with _readable(path):
        archive = zipfile.ZipFile(path)
    with archive:
        with _readable(path):
            stream = archive.open(name)
        with stream:
            yield _bounded(path, stream)


@contextlib.contextmanager
def _from_tar(unpacked: Member, name: str) -> Iterator[io.BufferedReader]:
    path = unpacked.path
    with unpacked.open() as file:
        with _readable(path):
            archive = tarfile.open(fileobj=file, mode="r|")  # noqa: SIM115 (closed below)
        with archive:
            with _readable(path):
                stream = next(archive.extractfile(info) for info in archive if info.name == name and info.isreg())
            assert stream is not None  # of a regular file
            yield _bounded(path, stream)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, *_DAMAGED) as error:
        if is_exhaustion(error):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{path}: cannot be read: {reason}") from error


def _bounded(path: Path, stream: IO[bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(path, stream), 2**18)


class _Bounded(io.RawIOBase):
    """A stream whose errors are `InputError`, as is its end after `MAX_BYTES`."""

    def __init__(self, path: Path, stream: IO[bytes]):
        self._path, self._stream, self._left = path, stream, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with _readable(self._path):
            content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise InputError(f"{self._path}: holds more than {MAX_BYTES:,} bytes; no such data set is read")
        buffer[: len(content)] = content
        return len(content)
