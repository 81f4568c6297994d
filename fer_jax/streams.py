"""Standard output and error that may go away: a closed pipe, a full disk, a terminal that hung up.

A command's work does not depend on who reads what it says. A stream that can no longer be written goes quiet, standard
error says so if it still can, and the work goes on to its own exit status.
"""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


class OutputLost(Exception):
    """Standard output can no longer be written; `by_reader`: because whoever read it has seen enough."""

    def __init__(self, message: str, by_reader: bool):
        super().__init__(message)
        self.by_reader = by_reader


class LastingStream:
    """The text stream `stream`, whose `write` and `flush` never raise: after the first failure they do nothing.

    Characters that its encoding lacks are written as escapes. `on_loss` is called once, with a sentence that names the
    stream and the reason; but where `is_result` is set, `OutputLost` is raised instead. Everything else is that of
    `stream`.
    """

    def __init__(self, stream: TextIO, name: str, on_loss: Callable[[str], None] = lambda reason: None):
        self._stream = stream
        self._name = name
        self._on_loss = on_loss
        self._lost = False
        self.is_result = False

    def write(self, text: str) -> int:
        """Write `text` if the stream still takes it; return the number of its characters."""
        try:
            self._attempt(lambda: self._stream.write(text))
        except UnicodeEncodeError as error:
            escaped = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self._attempt(lambda: self._stream.write(escaped))
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it still takes anything."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            action()
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError) as error:
            # Of a file object that somebody has closed. Any other ValueError is a bug.
            if isinstance(error, ValueError) and not self._stream.closed:
                raise
            self._lost = True
            loss = f"{self._name} {_reason(error)}"
            if self.is_result:
                _drop(self._stream)
                raise OutputLost(loss, isinstance(error, BrokenPipeError)) from error
            self._on_loss(loss)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError) or error.errno == errno.EPIPE:
        return "is closed"
    return f"cannot be written ({os.strerror(error.errno)})" if error.errno else f"cannot be written ({error})"


_losses: list[str] = []
_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def told_of_losses(listener: Callable[[str], None]) -> Iterator[None]:
    """Call `listener` with a sentence for each standard stream that is lost already, or is lost inside the block."""
    _listeners.append(listener)
    try:
        for loss in list(_losses):
            listener(loss)
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def lasting_standard_streams() -> Iterator[None]:
    """In the block, `sys.stdout` and `sys.stderr` are a `LastingStream` each, also where one was closed from the start.

    What was buffered when one is lost, and what libraries write to it below Python, is dropped.
    """
    before = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    missing = {name: descriptor for descriptor, (name, stream) in enumerate(before.items()) if stream is None}
    for descriptor in missing.values():
        _open_nothing(descriptor)
    for name, descriptor in missing.items():
        setattr(sys, name, open(os.devnull, "w" if descriptor else "r", encoding="utf-8"))  # noqa: SIM115
    for name, shown in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        setattr(sys, name, LastingStream(stream, shown, functools.partial(_lose, stream)))
    try:
        yield
    finally:
        for name in ("stdout", "stderr"):
            getattr(sys, name).flush()
        for name, stream in before.items():
            setattr(sys, name, stream)


@contextlib.contextmanager
def output_is_result() -> Iterator[None]:
    """In the block, a write to standard output raises `OutputLost` when the stream is lost, and nobody is told.

    For a command whose work is what it writes.
    """
    # A command runs inside `lasting_standard_streams`.
    stream: Any = sys.stdout
    before, stream.is_result = stream.is_result, True
    try:
        yield
    finally:
        stream.is_result = before


def _open_nothing(descriptor: int) -> None:
    """Let a descriptor that is closed take all and have nothing.

    A file opened later would otherwise get it, and with it whatever libraries print.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)


def _drop(stream: TextIO) -> None:
    """Let what the stream has buffered, and flushes at the end of the process, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _lose(stream: TextIO, loss: str) -> None:
    _drop(stream)
    _losses.append(loss)
    print(f"note: {loss}; the work goes on without it", file=sys.stderr)
    for listener in list(_listeners):
        listener(loss)
