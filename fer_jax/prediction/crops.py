"""From a picture to the squares that the network sees, framed as FER2013 frames faces."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps

from fer_jax.detection.centerface import Face

MARGIN = 1.05
"""The side of the square around a detected face, over the longer side of its box.

In FER2013 the detector's box is 0.95 of the picture's height, with its middle at 0.51: the medians of the 644 faces
that it found in 400 pictures with a border of 16 and of 24 replicated pixels.
"""

FACES = ("auto", "whole", "detect")

CROP_SIDE = 128
"""In `auto`, a square picture of at most so many pixels a side is taken for a face that was cut out before."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """A face as the network sees it: `pixels` uint8 of its image shape, cut out of `box`; the detector's `score`."""

    pixels: np.ndarray
    box: tuple[int, int, int, int]
    score: float | None


def is_cut_out(size: tuple[int, int]) -> bool:
    """Tell whether a picture of `size` is taken for a face by `--faces=auto`."""
    return size[0] == size[1] <= CROP_SIDE


def crops(
    picture: Image.Image,
    image_shape: tuple[int, ...],
    detect: Callable[[Image.Image], list[Face]] | None,
) -> list[Crop]:
    """Cut the faces out of `picture`; without `detect` its largest centred square, as training cuts images."""
    width, height = picture.size
    if detect is None:
        box = _square(width / 2, height / 2, min(picture.size))
        # As `fer_jax.data.image_files.decode` does.
        shape = image_shape[0], image_shape[1]
        fitted = ImageOps.fit(picture.convert(_mode(image_shape)), shape, Image.Resampling.BILINEAR)
        return [Crop(np.asarray(fitted), box, None)]
    found = []
    for face in detect(picture):
        left, top, right, bottom = face.box
        side = max(1, round(MARGIN * max(right - left, bottom - top)))
        box = _square((left + right) / 2, (top + bottom) / 2, side)
        found.append(Crop(cut_out(picture, box, image_shape), box, face.score))
    return found


def _square(x: float, y: float, side: int) -> tuple[int, int, int, int]:
    left, top = round(x - side / 2), round(y - side / 2)
    return left, top, left + side, top + side


def cut_out(picture: Image.Image, box: tuple[int, int, int, int], image_shape: Sequence[int]) -> np.ndarray:
    """Return `box` of `picture`, which it overlaps, as uint8 `image_shape`; the border is repeated beyond it."""
    left, top, right, bottom = box
    inside = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    part = picture.crop(inside).convert(_mode(image_shape))
    if inside != box:
        padding = [(inside[1] - top, bottom - inside[3]), (inside[0] - left, right - inside[2])]
        pixels = np.asarray(part)
        part = Image.fromarray(np.pad(pixels, padding + [(0, 0)] * (pixels.ndim - 2), mode="edge"))
    size = image_shape[0]
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))


def _mode(image_shape: Sequence[int]) -> str:
    return "L" if len(image_shape) == 2 else "RGB"
