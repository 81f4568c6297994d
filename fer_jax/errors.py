"""The one exception for what a user can mend, and how a command reports it."""

import functools
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something that the user gave cannot be used: a file, a row, an option, a folder.

    The message stands alone: it names the file, the row or key, what was found, what was expected, and what to do. It
    is one printable line: what a name or a damaged file brings into it besides is escaped, and the middle of what would
    fill a screen is left out.
    """

    LONGEST = 2000
    """Characters."""

    def __init__(self, message: object):
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))
        if len(text) > self.LONGEST:
            text = f"{text[: self.LONGEST - 505]} ... {text[-500:]}"
        super().__init__(text)


def exit_on_input_error(main: Callable[..., int | None]) -> Callable[..., int | None]:
    """Makes a script's `main` print an `InputError` as one line on stderr and exit with status 2."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapped
