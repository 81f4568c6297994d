"""Show the progress of a run: a live display on a terminal, plain lines everywhere else."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from fer_jax.streams import LastingStream

# Steps over which the estimate of the pace forgets: long enough to even out a slow interval, short enough to follow a
# change of pace, such as layers unfrozen half-way.
_MEMORY_STEPS = 500

_FORMATS = {"loss": ".4f", "accuracy": ".3f"}


class TrainingProgress:
    """Shows step, epoch, metrics, images per second and the time left on `stream`.

    On a terminal this is one line that keeps itself up to date, with `epoch_line` and `message` scrolling above it;
    elsewhere (a file, a pipe, a notebook) each call writes and flushes one line. Use as a context manager.

    `batch_size` counts images a step over all devices; `clock` gives seconds. The time left follows the pace of the
    latest updates, including the validation and the checkpoints between them. `silent` is for all processes but the
    main one. A stream that can no longer be written is left alone from then on, after a call of `on_loss` with a
    sentence that says so.
    """

    def __init__(
        self,
        total_steps: int,
        total_epochs: int,
        batch_size: int,
        *,
        stream: TextIO | None = None,
        silent: bool = False,
        on_loss: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total_steps = total_steps
        self._total_epochs = total_epochs
        self._batch_size = batch_size
        self._stream = LastingStream(sys.stdout if stream is None else stream, "standard output", on_loss)
        self._silent = silent
        self._clock = clock
        self._last: tuple[int, float] | None = None
        self._seconds_per_step: float | None = None

        # It has all that a text stream has, most of it from the stream inside.
        console = Console(file=cast(TextIO, self._stream))
        self._live = None
        # Rich takes FORCE_COLOR in the environment for a terminal, which would fill log files with control codes.
        if not silent and self._stream.isatty() and not console.is_dumb_terminal:
            columns = (TextColumn("{task.fields[place]}"), BarColumn(), TextColumn("{task.fields[status]}"))
            self._live = Progress(*columns, console=console)
            self._task = self._live.add_task("", total=total_steps, place="", status="starting")

    def update(self, step: int, epoch: int, metrics: Mapping[str, float], images_per_second: float) -> None:
        """Report that `step` steps are done and epoch `epoch` (from 1) is under way.

        `metrics` are those of the latest interval, such as `loss` and `accuracy`, shown in their order.
        """
        self._pace(step, images_per_second)
        parts = [f"{name} {value:{_FORMATS.get(name, '.3g')}}" for name, value in metrics.items()]
        parts.append(f"{images_per_second:.{0 if images_per_second >= 10 else 1}f} img/s")
        if self._seconds_per_step is not None:
            parts.append(f"{duration((self._total_steps - step) * self._seconds_per_step)} left")
        status = "  ".join(parts)
        epochs, steps = str(self._total_epochs), str(self._total_steps)
        place = f"epoch {epoch:>{len(epochs)}}/{epochs}  step {step:>{len(steps)}}/{steps}"
        if self._live:
            self._live.update(self._task, completed=step, place=place, status=status)
        else:
            self._print(f"{place}  {status}")

    def epoch_line(self, text: str) -> None:
        """Write a line that sums up an epoch; in bold on a terminal."""
        self._print(text, style="bold")

    def message(self, text: str) -> None:
        """Write any other line."""
        self._print(text)

    def _pace(self, step: int, images_per_second: float) -> None:
        now = self._clock()
        if self._last is None:
            # The clock has not run over any step yet, or else over the compilation too.
            if images_per_second > 0 and math.isfinite(images_per_second):
                self._seconds_per_step = self._batch_size / images_per_second
        elif step > self._last[0]:
            steps = step - self._last[0]
            latest = (now - self._last[1]) / steps
            before = latest if self._seconds_per_step is None else self._seconds_per_step
            self._seconds_per_step = latest + math.exp(-steps / _MEMORY_STEPS) * (before - latest)
        self._last = (step, now)

    def _print(self, text: str, style: str = "") -> None:
        if self._live:
            # As Text, brackets are no markup and the style does not spill over onto the display below.
            self._live.console.print(Text(text, style), soft_wrap=True)
        elif not self._silent:
            print(text, file=self._stream, flush=True)

    def __enter__(self) -> "TrainingProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            self._live.stop()


def duration(seconds: float) -> str:
    """Format `seconds` as `m:ss`, or `h:mm:ss` from one hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
