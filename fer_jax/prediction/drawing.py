"""Pictures with what was found in them: a box around each face, its label, and a bar for each class."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fer_jax.errors import InputError
from fer_jax.prediction import video
from fer_jax.prediction.pipeline import Predicted
from fer_jax.prediction.results import FACE, Row
from fer_jax.prediction.sources import Source, check_apart_from
from fer_jax.storage.bucket import AnyPath
from fer_jax.storage.files import replace_file

_LONGEST = 1280  # Pixels of a drawn picture's longer side: larger ones are made smaller.
_SMALLEST = 480  # Small ones are made larger, so that the text has room.
_COLOUR = (255, 176, 0)
_ABSTAINED = (170, 170, 170)


def drawn(picture: Image.Image, rows: Sequence[Row], class_names: Sequence[str], threshold: float) -> Image.Image:
    """Return `picture` as RGB with the faces of `rows` marked; gray where the model abstains."""
    scale = min(_LONGEST / max(picture.size), max(1.0, _SMALLEST / max(picture.size)))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    image = picture.convert("RGB").resize((width, height))
    canvas = ImageDraw.Draw(image, "RGBA")
    for row in rows:
        if row.status == FACE and row.box is not None:
            _draw_face(canvas, row, [round(edge * scale) for edge in row.box], class_names, threshold)
    return image


def _draw_face(canvas: ImageDraw.ImageDraw, row: Row, box: list[int], class_names: Sequence[str], threshold: float):
    assert row.probabilities is not None
    left, top, right, _ = box
    best = int(row.probabilities.argmax())
    colour = _ABSTAINED if row.probabilities[best] < threshold else _COLOUR
    canvas.rectangle(box, outline=colour, width=2)
    height = min(max((right - left) // 12, 9), 16)
    font = ImageFont.load_default(height)
    width = max(int(font.getlength(name)) for name in class_names)
    bar = 4 * height
    panel = (left, top, left + width + bar + 12, top + (height + 3) * len(class_names) + 4)
    canvas.rectangle(panel, fill=(0, 0, 0, 150))
    for index, (name, probability) in enumerate(zip(class_names, row.probabilities.tolist(), strict=True)):
        y = top + 2 + index * (height + 3)
        canvas.text((left + 4, y), name, font=font, fill=colour if index == best else (255, 255, 255))
        start = left + width + 8
        canvas.rectangle((start, y + 2, start + bar * probability, y + height), fill=colour)


class Drawings:
    """Writes drawn pictures into `folder`: `NAME.jpg` for a picture, `NAME.mp4` for a video, numbered where needed.

    Use as a context manager, whose end finishes the last video.

    Raises `InputError` where a drawing cannot be written, or lies in the folder of what it is drawn from.
    """

    def __init__(self, folder: AnyPath, class_names: Sequence[str], threshold: float, rate: float):
        self._folder = folder
        self._class_names = class_names
        self._threshold = threshold
        self._rate = rate or 25.0
        self._used: set[AnyPath] = set()
        self._video = contextlib.ExitStack()
        self._source: Source | None = None
        self._add: Callable[[Image.Image, float], None] | None = None

    def add(self, found: Predicted) -> None:
        """Draw one picture or frame; one that could not be read has no drawing."""
        if found.picture is None:
            return
        image = drawn(found.picture, found.rows, self._class_names, self._threshold)
        with self._writable():
            self._write(found, image)

    def _write(self, found: Predicted, image: Image.Image) -> None:
        check_apart_from(found.source, self._folder / "drawing")
        if found.source.kind == "picture":
            with replace_file(self._place(found.source.name, ".jpg")) as beside:
                image.save(beside, quality=92)
            return
        if found.source is not self._source:
            self._video.close()
            self._source = found.source
            beside = self._video.enter_context(replace_file(self._place(found.source.name, ".mp4")))
            self._add = self._video.enter_context(video.video_writer(beside, image.size, self._rate))
        time = found.rows[0].time
        assert self._add is not None
        self._add(image, 0.0 if time is None or math.isnan(time) else time)

    def _place(self, name: str, suffix: str) -> AnyPath:
        stem, number = Path(name).stem, 1
        place = self._folder / f"{stem}{suffix}"
        while place in self._used:
            number += 1
            place = self._folder / f"{stem}-{number}{suffix}"
        self._used.add(place)
        return place

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"--draw={self._folder}: cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> "Drawings":
        with self._writable():
            self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exception) -> None:
        with self._writable():
            self._video.close()
