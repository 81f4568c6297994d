"""End a run that hangs: a device, a collective or a file system that never answers."""

import contextlib
import faulthandler
import sys
import time

COMPILE_ALLOWANCE = 30.0
"""Minutes that a compilation may take on top of the limit for a step."""


class Watchdog(contextlib.AbstractContextManager):
    """Ends the process with status 1, after printing the stacks of all threads, if no beat comes for `minutes`.

    0 minutes switch it off. A thread outside the interpreter watches, so that it works even while compiled code holds
    the interpreter's lock.
    """

    def __init__(self, minutes: float):
        self._seconds = 60 * minutes
        self._allowance: float | None = None
        self._armed = 0.0

    def beat(self, allowance: float = 0.0) -> None:
        """Report that the run is alive; the next beat is due within the limit and `allowance` (minutes)."""
        now = time.monotonic()
        # Each arming starts a thread; a fast network does not need one at every step.
        recently = now - self._armed < min(1.0, self._seconds / 10)
        if not self._seconds or (recently and allowance == self._allowance):
            return
        self._armed, self._allowance = now, allowance
        # The stderr of the process: what `sys.stderr` was replaced with may have no file descriptor.
        faulthandler.dump_traceback_later(self._seconds + 60 * allowance, exit=True, file=sys.__stderr__ or 2)

    def __enter__(self) -> "Watchdog":
        self.beat(COMPILE_ALLOWANCE)
        return self

    def __exit__(self, *exception) -> None:
        faulthandler.cancel_dump_traceback_later()
