"""The record of a run: `metrics.jsonl` for programs, TensorBoard event files for the eye.

`metrics.jsonl` holds one flat JSON object a line, of two kinds:

- `{"kind": "train", "step": 1344, "epoch": 2.99, "loss": ..., "accuracy": ..., "gradient_norm": ...,
  "update_norm": ..., "parameter_norm": ..., "learning_rate": ..., "images_per_second": ...}`, one every logging
  interval: means over the batches of the interval, and the norms of its last step, over the parameters that train;
- `{"kind": "epoch", "step": 1347, "epoch": 3, "train_loss": ..., "train_accuracy": ..., "validation_loss": ...,
  "validation_accuracy": ..., "learning_rate": ..., "images_per_second": ..., "seconds": ...}`, one at the end of each
  epoch, counted from 1.

`step` is the number of optimizer steps done. Accuracies are fractions of 1. JSON has no NaN and no infinity, so a
value that is not finite is written as null.
"""

import json
import math
import numbers
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from fer_jax.errors import InputError
from fer_jax.storage.bucket import BucketPath
from fer_jax.storage.lines import read_log, start_log
from fer_jax.storage.periodic import PeriodicCall

FILE_NAME = "metrics.jsonl"
"""The name of the file in a run's folder."""

TENSORBOARD_FOLDER = "tensorboard"
"""The folder of event files in a run's folder: `tensorboard --logdir RUN/tensorboard`."""

FLUSH_SECONDS = 30.0
"""How often what was logged is written into a bucket; and before each checkpoint there."""

KINDS = ("train", "epoch")


class MetricsLog:
    """Appends to the record of the run in `workdir`, which is made if missing.

    `resume_step` is the step of the checkpoint that the run resumes from: what was recorded after it is dropped, for
    the run will do these steps again. Without it the run is new and its record starts empty. `resume_epoch` counts the
    epochs that were whole: the last step of one may be saved before the line that sums it up is due.

    A line outlives a crash of the program once `write` has returned, and TensorBoard sees it; in a bucket, where
    nothing can be appended, once `flush` has, which a thread calls every `FLUSH_SECONDS` too. With `silent` nothing is
    read or written: for processes that train beside the one that writes. `check` is called before anything is written
    into a bucket, and raises if another command has the run. Use as a context manager, or call `close`.
    Raises `InputError` if the `metrics.jsonl` to resume is damaged.
    """

    def __init__(
        self,
        workdir: str | os.PathLike | BucketPath,
        resume_step: int | None = None,
        resume_epoch: float = math.inf,
        *,
        silent: bool = False,
        check: Callable[[], None] = lambda: None,
    ):
        self._silent = silent
        self._check = check
        self._epoch_ended = False
        if silent:
            return
        workdir = workdir if isinstance(workdir, BucketPath) else Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        kept = [
            line
            for line in (read_metrics(workdir) if resume_step is not None else [])
            if line["step"] <= resume_step and not (line["kind"] == "epoch" and line["epoch"] > resume_epoch)
        ]
        self._first_step = 0 if resume_step is None else resume_step + 1
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in kept)
        self._file = start_log(workdir / FILE_NAME, text)
        folder = workdir / TENSORBOARD_FOLDER
        folder.mkdir(exist_ok=True)
        self._tensorboard = _EventsInBucket(folder) if isinstance(folder, BucketPath) else _events_writer(folder)
        # TensorBoard hides what earlier files hold from this step on.
        self._tensorboard.write_event(
            Event(wall_time=time.time(), step=self._first_step, session_log=SessionLog(status=SessionLog.START))
        )
        self._flushing = None
        if isinstance(workdir, BucketPath):
            self._flushing = PeriodicCall(self.flush, FLUSH_SECONDS)

    def write(self, step: int, metrics: Mapping[str, float], kind: str = "train") -> None:
        """Append one line of `kind` ("train" or "epoch"), and each metric as a TensorBoard scalar.

        Values are Python, NumPy or JAX scalars. The tags are `train/loss`, `validation/accuracy` (from
        `validation_accuracy`) and, for the rest of an epoch's line, `epoch/train_loss`.
        """
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}")
        if self._silent:
            return
        values = {
            name: value if isinstance(value, numbers.Integral) else float(value) for name, value in metrics.items()
        }
        line = {"kind": kind, "step": int(step), **{name: finite_or_none(value) for name, value in values.items()}}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        for name, value in values.items():
            self._add(summary.scalar(_tag(kind, name), value), int(step))
        self._tensorboard.flush()
        self._epoch_ended |= kind == "epoch"

    def flush(self) -> None:
        """Return when all lines outlive a crash. Called from any thread, more often than needed at no cost."""
        if self._silent:
            return
        if self._flushing:
            self._check()
        whole, self._epoch_ended = self._epoch_ended, False
        self._file.flush(whole=whole)
        if isinstance(self._tensorboard, _EventsInBucket):
            self._tensorboard.store(last=whole)

    def write_text(self, tag: str, text: str) -> None:
        """Show `text`, read as Markdown, under TensorBoard's tag `tag`: the run's configuration, for one."""
        if not self._silent:
            self._add(summary.text(tag, text), self._first_step)

    def close(self) -> None:
        """Write what is pending and closes the files."""
        if not self._silent:
            if self._flushing:
                self._flushing.end()
                self._check()
            self._file.close()
            self._tensorboard.close()

    def _add(self, values: Summary, step: int) -> None:
        self._tensorboard.write_event(Event(wall_time=time.time(), step=step, summary=values))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _events_writer(folder: Path) -> EventsWriter:
    # Not its SummaryWriter, whose background thread dies of a full disk and leaves the program waiting for it.
    # It names files by the second and would overwrite one that was begun in the same second.
    return EventsWriter(str(folder / "events"), filename_suffix=f".{time.time_ns()}")


class _EventsInBucket:
    """Event files of this machine that are copied into a bucket; another one begins after each epoch.

    So each stays small enough to be written anew with each flush. TensorBoard reads one after the other.
    """

    def __init__(self, place: BucketPath):
        self._place = place
        self._folder = tempfile.TemporaryDirectory(prefix="fer_jax_events_")
        self._writer: EventsWriter | None = None
        self._new = False
        self._waiting: dict[str, bytes] = {}
        # The second is not held while an event is added: that never waits for the storage.
        self._storing, self._writing = threading.Lock(), threading.Lock()

    def write_event(self, event: Event) -> None:
        with self._writing:
            if self._writer is None:
                self._writer = _events_writer(Path(self._folder.name))
            self._writer.write_event(event)
            self._new = True

    def flush(self) -> None:
        """Do nothing: `store` does, less often."""

    def store(self, *, last: bool = False) -> None:
        """Return when all events are stored; with `last` the next one begins another file."""
        with self._storing:
            with self._writing:
                if self._writer is not None and self._new:
                    self._writer.flush()
                    (file,) = Path(self._folder.name).iterdir()
                    self._waiting[file.name] = file.read_bytes()
                    self._new = False
                    if last:
                        self._writer.close()
                        self._writer = None
                        file.unlink()
            while self._waiting:
                name, content = next(iter(self._waiting.items()))
                (self._place / name).write_bytes(content)
                del self._waiting[name]

    def close(self) -> None:
        """Store what is pending."""
        try:
            self.store(last=True)
        finally:
            self._folder.cleanup()


def _tag(kind: str, name: str) -> str:
    if kind == "epoch" and name.startswith("validation_"):
        return name.replace("_", "/", 1)
    return f"{kind}/{name}"


def finite_or_none(value: float) -> int | float | None:
    """Return `value` as a plain int or float that JSON can hold; None if it is NaN or infinite."""
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def read_metrics(workdir: str | os.PathLike | BucketPath) -> list[dict]:
    """Return the lines of `metrics.jsonl` in the run's folder, oldest first; empty if there is no such file.

    A last line that was cut off while it was written is left out. Raises `InputError` for any other line that is not
    a JSON object with a `kind`, an integer `step` and, of the kind "epoch", a number `epoch`; and for a file that
    cannot be read.
    """
    path = (workdir if isinstance(workdir, BucketPath) else Path(workdir)) / FILE_NAME
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file; move it away")
    try:
        text = read_log(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    # A whole line ends with a newline, so whatever follows the last one was cut off.
    *whole, _ = (text or "").split("\n")
    lines = []
    for number, text in enumerate(whole, start=1):
        try:
            line = json.loads(text, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            line = None
        if not _is_line(line):
            raise InputError(
                f"{path}, line {number}: expected a JSON object with a kind ({' or '.join(KINDS)}), a step and, for an "
                f"epoch, its number, found {text[:80]!r}; delete this line, or move the file away"
            )
        lines.append(line)
    return lines


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _is_line(line: object) -> bool:
    return (
        isinstance(line, dict)
        and line.get("kind") in KINDS
        and type(line.get("step")) is int
        and (line["kind"] == "train" or type(line.get("epoch")) in (int, float))
    )


def epoch_history(lines: Sequence[Mapping]) -> list[dict]:
    """Return the epochs among the lines of `read_metrics`, in order, each without its `kind`."""
    return [
        {name: value for name, value in line.items() if name != "kind"} for line in lines if line["kind"] == "epoch"
    ]
