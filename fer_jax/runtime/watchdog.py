"""Notices that training hangs: a device, a collective or a file system that never answers."""

import contextlib
import faulthandler
import sys
import time

COMPILE_ALLOWANCE = 30.0
"""Minutes that a compilation may take on top of the limit for a step."""


class Watchdog(contextlib.AbstractContextManager):
    """Ends the process with status 1, after the stacks of all threads on stderr, if nothing is heard for `minutes`.

    0 minutes switch it off. The watching is done by a thread outside the interpreter, which works even while compiled
    code holds the interpreter's lock.
    """

    def __init__(self, minutes: float):
        self._seconds = 60 * minutes
        self._allowance: float | None = None
        self._armed = 0.0

    def beat(self, allowance: float = 0.0) -> None:
        """Says that all is well; the next word is due within the limit and `allowance` (minutes)."""
        now = time.monotonic()
        # Each time a thread starts, which is not for every step of a fast network.
        recently = now - self._armed < min(1.0, self._seconds / 10)
        if not self._seconds or (recently and allowance == self._allowance):
            return
        self._armed, self._allowance = now, allowance
        # The stderr of the process: what `sys.stderr` was replaced with may have no file descriptor.
        faulthandler.dump_traceback_later(self._seconds + 60 * allowance, exit=True, file=sys.__stderr__)

    def __enter__(self) -> "Watchdog":
        self.beat(COMPILE_ALLOWANCE)
        return self

    def __exit__(self, *exception) -> None:
        faulthandler.cancel_dump_traceback_later()
