"""Trace a few training steps, for xprof (TensorBoard's profile plugin) and Perfetto."""

import contextlib
from pathlib import Path

import jax

FOLDER = "profile"
"""The folder of traces in a run's folder: `xprof --logdir RUN/profile`."""

_WARM_UP = 3


class StepTrace(contextlib.AbstractContextManager):
    """Traces `steps` steps of this process, after three that warm up; 0 for none.

    A run that ends earlier gives a shorter trace.
    """

    def __init__(self, workdir: Path, steps: int):
        self._folder = workdir / FOLDER
        self._left = steps
        self._warm_up = _WARM_UP
        self._running = False

    def before_step(self) -> None:
        """Call before each step; starts the trace when it is time."""
        if self._left and not self._running:
            if self._warm_up:
                self._warm_up -= 1
            else:
                jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
                self._running = True

    def after_step(self, result: jax.Array) -> str | None:
        """Call after each step with one of its results; ends the trace when it is long enough, and says where it is."""
        if not self._running:
            return None
        self._left -= 1
        if self._left:
            return None
        result.block_until_ready()
        self._stop()
        return f"trace for xprof and Perfetto: {self._folder}"

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False

    def __exit__(self, *exception) -> None:
        if self._running:
            self._stop()
