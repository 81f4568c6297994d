"""What is said of each face, and of each picture without one: as JSON lines or csv."""

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

FORMATS = ("jsonl", "csv")

FACE, NO_FACE, ERROR = "face", "no face", "error"
"""The statuses of a row."""


@dataclasses.dataclass
class Row:
    """One face, or why there is none.

    Attributes:
      file: the path as it was given, or the number of a camera.
      status: `face`, `no face`, or `error`.
      frame: of a video, counted from 0; None for a picture.
      time: of the frame, in seconds from the first one; None for a picture.
      box: left, top, right, bottom in pixels of the upright picture: the square that the network was shown.
      score: of the detector, 0 to 1; None for a picture that is taken whole.
      probabilities: float32 [classes]; None until they are known, and where there is no face.
      error: what is wrong, in one line; empty unless the status is `error`.
    """

    file: str
    status: str
    frame: int | None = None
    time: float | None = None
    box: tuple[int, int, int, int] | None = None
    score: float | None = None
    probabilities: np.ndarray | None = None
    error: str = ""


class RowWriter:
    """Writes rows to `stream`, a JSON object or a line of csv each, as soon as they are known.

    `label` is the most probable class; `abstained` says that its probability is below `threshold`.
    """

    def __init__(self, stream: TextIO, form: str, class_names: Sequence[str], threshold: float):
        self._stream = stream
        self._class_names = class_names
        self._threshold = threshold
        self._csv = csv.writer(stream, lineterminator="\n") if form == "csv" else None
        if self._csv:
            probabilities = [f"probability_{name}" for name in class_names]
            box = ["left", "top", "right", "bottom"]
            self._csv.writerow(
                ["file", "frame", "time", "status", *box, "score", "label", "abstained", *probabilities, "error"]
            )

    def write(self, row: Row) -> None:
        """Write one row."""
        label, abstained = None, None
        values: list[float | None] = [None] * len(self._class_names)
        if row.probabilities is not None:
            best = int(row.probabilities.argmax())
            label, abstained = self._class_names[best], bool(row.probabilities[best] < self._threshold)
            values = [float(f"{value:.4g}") for value in row.probabilities]
        time = None if row.time is None else round(row.time, 4)
        score = None if row.score is None else round(row.score, 4)
        # What is no text in UTF-8, as names of files may be, is written escaped.
        file = row.file.encode("utf-8", "backslashreplace").decode()
        if self._csv:
            box: Sequence[int | None] = row.box or [None] * 4
            self._csv.writerow(
                [file, row.frame, time, row.status, *box, score, label, _digit(abstained), *values, row.error]
            )
            return
        line: dict[str, Any] = {"file": file}
        if row.frame is not None:
            line |= {"frame": row.frame, "time": time}
        line["status"] = row.status
        if row.status == FACE:
            probabilities = dict(zip(self._class_names, values, strict=True))
            line |= {"box": row.box, "score": score, "label": label, "abstained": abstained}
            line["probabilities"] = probabilities
        if row.error:
            line["error"] = row.error
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Let whoever reads the stream see what was written."""
        self._stream.flush()


def _digit(value: bool | None) -> int | None:
    return None if value is None else int(value)


@dataclasses.dataclass
class Summary:
    """What a prediction came to: inputs read, faces, pictures without one, inputs with an error; seconds of it all."""

    pictures: int = 0
    faces: int = 0
    without: int = 0
    abstained: int = 0
    errors: int = 0
    seconds: float = math.nan

    def __str__(self) -> str:
        parts = [f"{self.faces:,} faces in {self.pictures:,} pictures"]
        if self.without:
            parts.append(f"{self.without:,} without a face")
        if self.abstained:
            parts.append(f"{self.abstained:,} abstained")
        if self.errors:
            parts.append(f"{self.errors:,} not read")
        rate = self.pictures / self.seconds if self.seconds > 0 else 0
        return f"{', '.join(parts)}; {self.seconds:.1f} s, {rate:.{0 if rate >= 10 else 1}f} pictures/s"
