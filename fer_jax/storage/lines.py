"""A log of lines: appended to a file on a disk, kept in parts that are read back as one in a bucket."""

import threading
from pathlib import Path
from typing import Protocol

from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath, BucketPath

PARTS = ".parts"
"""What follows the name of a log in the name of the folder of its parts."""

# The name of a part: the number of lines before its first one.
_DIGITS = 12


class LineLog(Protocol):
    """Where lines go, each a text that ends with a newline."""

    def write(self, line: str) -> None:
        """Add a line."""

    def flush(self, *, whole: bool = False) -> None:
        """Return when all lines are stored; with `whole` where they are read by one request."""

    def close(self) -> None:
        """Store all lines and free what is held."""


def start_log(path: AnyPath, text: str) -> LineLog:
    """Let the log hold `text`, lines, and nothing else; return where more go."""
    return _BucketLog(path, text) if isinstance(path, BucketPath) else _FileLog(path, text)


def read_log(path: AnyPath) -> str | None:
    """Return the content of a log, None if there is no file of that name. Bytes that are not UTF-8 are replaced."""
    if not isinstance(path, BucketPath):
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    text = path.read_text(errors="replace") if path.is_file() else None
    parts = path.with_name(path.name + PARTS)
    lines = (text or "").split("\n")[:-1]
    for name in sorted(found.name for found in parts.objects() if found.name.isdigit()):
        added = (parts / name).read_text(errors="replace").split("\n")[:-1]
        start = int(name)
        if start > len(lines):
            break
        # One that the whole has already was about to be deleted.
        if start + len(added) > len(lines):
            lines = lines[:start] + added
            text = "".join(f"{line}\n" for line in lines)
    return text


class _FileLog:
    """A file to which lines are appended: each is with the operating system when `write` returns."""

    def __init__(self, path: Path, text: str):
        files.write_text(path, text)
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed by close)

    def write(self, line: str) -> None:
        self._file.write(line)

    def flush(self, *, whole: bool = False) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class _BucketLog:
    """One object with the lines so far, and parts with those since; `write` alone stores nothing.

    A part says by its name how many lines come before it. So the content is the same whether or not parts that the
    whole already has are still there, as after a crash.
    """

    def __init__(self, path: BucketPath, text: str):
        self._path = path
        self._parts = path.with_name(path.name + PARTS)
        self._lines = [f"{line}\n" for line in text.split("\n")[:-1]]
        self._stored = len(self._lines)
        self._names: list[str] = []
        # Not held while a line is added: that never waits for the storage.
        self._storing = threading.Lock()
        path.write_text(text)
        # From the last to the first, so that what is left after a crash is a log too.
        for found in reversed(self._parts.objects()):
            (self._parts / found.name).unlink(missing_ok=True)

    def write(self, line: str) -> None:
        self._lines.append(line)

    def flush(self, *, whole: bool = False) -> None:
        with self._storing:
            lines = self._lines.copy()
            if whole and (self._names or self._stored < len(lines)):
                self._path.write_text("".join(lines))
                self._stored = len(lines)
                while self._names:
                    (self._parts / self._names[-1]).unlink(missing_ok=True)
                    self._names.pop()
            elif self._stored < len(lines):
                name = f"{self._stored:0{_DIGITS}}"
                (self._parts / name).write_text("".join(lines[self._stored :]))
                self._names.append(name)
                self._stored = len(lines)

    def close(self) -> None:
        self.flush(whole=True)
