"""Trace a few training steps, for xprof (TensorBoard's profile plugin) and Perfetto."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import jax

from fer_jax.storage.bucket import AnyPath, BucketPath, upload_folder

FOLDER = "profile"
"""The folder of traces in a run's folder: `xprof --logdir RUN/profile`."""

_WARM_UP = 3


class StepTrace(contextlib.AbstractContextManager):
    """Traces `steps` steps of this process, after three that warm up; 0 for none.

    A run that ends earlier gives a shorter trace. For a run in a bucket it is written on this machine first.
    """

    def __init__(self, workdir: AnyPath, steps: int):
        self._folder = workdir / FOLDER
        self._written: Path | None = None if isinstance(workdir, BucketPath) else workdir / FOLDER
        if steps and self._written is None:
            self._written = Path(tempfile.mkdtemp(prefix="fer_jax_profile_"))
        self._left = steps
        self._warm_up = _WARM_UP
        self._running = False

    def before_step(self) -> None:
        """Call before each step; starts the trace when it is time."""
        if self._left and not self._running:
            if self._warm_up:
                self._warm_up -= 1
            else:
                assert self._written is not None
                jax.profiler.start_trace(self._written, create_perfetto_trace=True)
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
        if isinstance(self._folder, BucketPath) and self._written is not None:
            upload_folder(self._written, self._folder)
            shutil.rmtree(self._written)

    def __exit__(self, *exception) -> None:
        if self._running:
            self._stop()
