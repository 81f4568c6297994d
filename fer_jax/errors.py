"""The one exception for what a user can mend, the words that its messages share, and how a command reports it."""

import difflib
import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterable

from fer_jax.streams import lasting_standard_streams

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class InputError(ValueError):
    """Something that the user gave cannot be used: a file, a row, an option, a folder.

    The message stands alone: it names the file, the row or key, what was found, what was expected, and what to do. It
    is one printable line: other characters, from a name or a damaged file, are escaped, and the middle of a text that
    would fill a screen is left out.
    """

    LONGEST = 2000
    """Characters."""

    def __init__(self, message: object):
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))
        if len(text) > self.LONGEST:
            text = f"{text[: self.LONGEST - 505]} ... {text[-500:]}"
        super().__init__(text)


def shown(value: object, limit: int = 60) -> str:
    """Give `repr(value)` in at most `limit` characters: a damaged field may hold the rest of the file."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Hint at the known name most like `name` in any letter case, as "; did you mean 'happy'?"; empty if none is."""
    by_lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message, or the name of its class where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_exhaustion(error: BaseException) -> bool:
    """Return whether `error` says that the process is out of memory or open files, and nothing about what it read."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _EXHAUSTED
    # Libraries in C++ and Rust raise classes of their own with the words of the system.
    return isinstance(error, MemoryError) or any(os.strerror(code) in str(error) for code in _EXHAUSTED)


def exit_on_input_error(main: Callable[..., int | None]) -> Callable[..., int | None]:
    """Make a script's `main` print an `InputError` as one line on stderr and exit with status 2.

    The standard streams may go away meanwhile (`fer_jax.streams`): the exit status remains that of the work.

    With the environment variable FER_JAX_TRACEBACK=1, the traceback and those of its causes come before the line.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        with lasting_standard_streams():
            try:
                return main(*args, **kwargs)
            except InputError as error:
                if os.environ.get("FER_JAX_TRACEBACK") == "1":
                    traceback.print_exception(error)
                print(f"error: {error}", file=sys.stderr)
                sys.exit(2)

    return wrapped
