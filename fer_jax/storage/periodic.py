"""Do something again and again beside the work, in a thread of its own."""

import contextlib
import threading
from collections.abc import Callable

from fer_jax.errors import InputError


class PeriodicCall:
    """Calls `action` every `seconds` until `end`. An `InputError` of it is left to whoever needs its result."""

    def __init__(self, action: Callable[[], None], seconds: float):
        self._action, self._seconds = action, seconds
        self._ended = threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def end(self) -> None:
        """Call it no more."""
        self._ended.set()

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds):
            with contextlib.suppress(InputError):
                self._action()
