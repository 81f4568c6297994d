"""What the demo's page asks for: the faces in a picture with their probabilities, and where the model looks."""

import threading
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from fer_jax.data import image_files
from fer_jax.detection.centerface import Face
from fer_jax.errors import InputError, shown
from fer_jax.prediction.classifiers import Classifier, Explains
from fer_jax.prediction.crops import FACES, crops, cut_out, is_cut_out

_LARGEST = 2
"""The longest side of a box, over that of its picture."""


class Judge:
    """Judges pictures one after the other, whatever thread asks.

    `classifier` judges at most `batch_size` faces at once; `detect` finds them, or is None where every picture is a
    face; a face whose largest probability is below `threshold` counts as abstained.

    Attributes:
      choices: the values of `faces` that `faces_in` takes.
      class_names: of the classifier.
      explains: whether `explanation` can be asked for; exported files have no feature maps to look at.
    """

    def __init__(
        self,
        classifier: Classifier,
        detect: Callable[[Image.Image], list[Face]] | None,
        *,
        batch_size: int,
        threshold: float = 0.0,
    ):
        self._classifier = classifier
        self._detect = detect
        self._batch_size = batch_size
        self._threshold = threshold
        self._one_at_a_time = threading.Lock()
        self.choices = FACES if detect else ("whole",)
        self.class_names = classifier.class_names
        self.explains = isinstance(classifier, Explains)

    def warm_up(self) -> None:
        """Compile the network, so that the first picture does not wait for it."""
        self._probabilities(np.zeros((1, *self._classifier.image_shape), np.uint8))

    def faces_in(self, content: bytes, faces: str) -> dict:
        """Return the size of the picture that the file `content` holds, and its faces, as JSON has them.

        `faces` is one of `choices`. Raises `InputError` for another one, and for a picture that cannot be read.
        """
        if faces not in self.choices:
            raise InputError(f"faces={shown(faces)}: expected one of {', '.join(self.choices)}")
        picture = _picture(content)
        whole = faces == "whole" or (faces == "auto" and is_cut_out(picture.size))
        found = crops(picture, self._classifier.image_shape, None if whole else self._detect)
        rows: Iterable[np.ndarray] = self._probabilities(np.stack([crop.pixels for crop in found])) if found else ()
        return {
            "width": picture.width,
            "height": picture.height,
            "faces": [
                {
                    "box": crop.box,
                    "score": crop.score,
                    "label": self.class_names[int(row.argmax())],
                    "abstained": bool(row.max() < self._threshold),
                    "probabilities": [round(float(value), 4) for value in row],
                }
                for crop, row in zip(found, rows, strict=True)
            ],
        }

    def explanation(self, content: bytes, box: str, class_name: str) -> dict:
        """Return where in a face the model sees a class: its Grad-CAM, rows of whole numbers from 0 to 255 over `box`.

        `box` is one of `faces_in`, as `left,top,right,bottom`. Raises `InputError` for what is no such box, an unknown
        class, a picture that cannot be read, or a model that cannot explain.
        """
        if not self.explains:
            raise InputError("an exported file cannot be asked where it looks; start the demo with the run's folder")
        picture = _picture(content)
        face = cut_out(picture, _box(box, picture.size), self._classifier.image_shape)
        assert isinstance(self._classifier, Explains)
        with self._one_at_a_time:
            found = self._classifier.explain(face, class_name)
        return {"class": class_name, "map": np.round(255 * found).astype(int).tolist()}

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        with self._one_at_a_time:
            starts = range(0, len(images), self._batch_size)
            return np.concatenate(
                [self._classifier.predict(images[start : start + self._batch_size]) for start in starts]
            )


def _picture(content: bytes) -> Image.Image:
    return image_files.picture(image_files.EncodedImage("the picture", content))


def _box(text: str, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box that `text` names: a square that overlaps a picture of `size` and is not far larger."""
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"box={shown(text)}: expected left,top,right,bottom in whole pixels") from error
    overlaps = left < size[0] and top < size[1] and right > 0 and bottom > 0
    if not (overlaps and 0 < right - left == bottom - top <= _LARGEST * max(size)):
        raise InputError(f"box={shown(text)}: expected a square in the picture of {size[0]} x {size[1]} pixels")
    return left, top, right, bottom
