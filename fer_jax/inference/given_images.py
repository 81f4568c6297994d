"""Images as people hand them to a trained model: arrays, PIL images, paths, and lists of these.

All are brought to what the model was trained on, by the rules of `fer_jax.data.image_files`: the largest centred
square, resized by Pillow's bilinear filter to the size of the training images, in gray or RGB. What could be read in
two ways, such as floats, is refused with the way to say which is meant: a wrong guess gives wrong numbers silently.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from fer_jax.data.image_files import ImageFiles, decode, pixels_of
from fer_jax.errors import InputError
from fer_jax.runtime.user_path import user_path

EXPECTED = (
    "expected uint8 [h, w], [h, w, 1], [h, w, 3], [n, h, w], [n, h, w, 1] or [n, h, w, 3], a PIL image, a path, or a "
    "list of single images"
)

SMALLEST = 8
"""Pixels of a side: below it, an axis is more likely to be channels than rows or columns."""


def given_images(images: object, image_shape: tuple[int, ...]) -> "GivenImages":
    """Return `images` as a sequence to take batches from, each uint8 [n, *image_shape].

    Args:
      images: uint8 (or whole numbers from 0 to 255) [h, w], [h, w, 1], [h, w, 3], [n, h, w], [n, h, w, 1] or
        [n, h, w, 3]; a PIL image; the path of an image file; a list or tuple of such single images, of any sizes; or
        `ImageFiles`. An array of three axes is [n, h, w] unless its last axis has 1 or 3.
      image_shape: (size, size) for gray or (size, size, 3) for RGB, in pixels.

    Raises:
      InputError: for anything else; for the image of a list, when its batch is taken.
    """
    if isinstance(images, ImageFiles):
        return GivenImages(len(images), lambda span: np.stack([decode(_file(images, i), image_shape) for i in span]))
    if isinstance(images, list | tuple):
        return GivenImages(len(images), lambda span: _several([images[i] for i in span], span.start, image_shape))
    if _is_single(images):
        return GivenImages(1, lambda span: _single(images, "the image", image_shape)[None])
    array = _array(images, "images", image_shape)
    return GivenImages(len(array), lambda span: _fitted(array[span.start : span.stop], image_shape))


class GivenImages:
    """A number of images, checked and brought to one shape batch by batch."""

    def __init__(self, number: int, take: Callable[[range], np.ndarray]):
        self._number, self._take = number, take

    def __len__(self) -> int:
        return self._number

    def batches(self, most: int) -> Iterator[np.ndarray]:
        """Yield the images, uint8 [n, *image_shape], at most `most` at a time; raise `InputError` for a bad one."""
        for start in range(0, self._number, most):
            yield self._take(range(start, min(start + most, self._number)))


def _file(files: ImageFiles, index: int) -> Path:
    return Path(files.root, files.names[index])


def _is_single(image: object) -> TypeGuard[str | os.PathLike | Image.Image]:
    return isinstance(image, str | os.PathLike | Image.Image)


def _several(images: list, first: int, image_shape: tuple[int, ...]) -> np.ndarray:
    """The images of a list from number `first` on, in threads: Pillow decodes without the interpreter's lock."""

    def one(numbered: tuple[int, Any]) -> np.ndarray:
        number, image = numbered
        what = f"image {number} of the list"
        if _is_single(image):
            return _single(image, what, image_shape)
        if isinstance(image, list | tuple):
            raise InputError(f"{what}: a {type(image).__name__}, {EXPECTED}")
        array = _array(image, what, image_shape, alone=True)
        return _fitted(array, image_shape)[0]

    if not images:
        return np.empty((0, *image_shape), np.uint8)
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(one, enumerate(images, first))))


def _single(image: str | os.PathLike | Image.Image, what: str, image_shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(image, Image.Image):
        return pixels_of(image, image_shape, what)
    path = user_path(os.fspath(image), f"{what}:")
    if path.is_dir():
        raise InputError(f"{path}: a folder; give a list of the files in it")
    return decode(path, image_shape)


def _array(images: object, what: str, image_shape: tuple[int, ...], *, alone: bool = False) -> np.ndarray:
    """`images` as uint8 [n, h, w] or [n, h, w, 3]; with `alone`, one image."""
    if isinstance(images, bytes) or not hasattr(images, "__array__"):
        raise InputError(f"{what}: {type(images).__name__}, {EXPECTED}")
    array = np.asarray(images)
    shape = list(array.shape)
    if not array.size and array.ndim and not shape[0] and not alone:
        return np.empty((0, *image_shape), np.uint8)
    where = f"{what}: {array.dtype} {shape}"
    array = _as_bytes(array, where)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] <= 4):
        array = array[None]
    elif alone:
        raise InputError(f"{where}, expected one image: [h, w], [h, w, 1] or [h, w, 3]{_channels_first(array.shape)}")
    elif array.ndim == 3 and array.shape[0] == 3 == len(image_shape):
        # Three gray images, for a model of gray ones; for one of colour it is more likely an image of PyTorch's.
        raise InputError(
            f"{where}: one image with channels first, or three gray ones? Give [h, w, 3] for one "
            "(images.transpose(1, 2, 0)) or [n, h, w, 1] for three (images[..., None])"
        )
    if array.ndim not in (3, 4):
        raise InputError(f"{where}, {EXPECTED}")
    if array.ndim == 4 and array.shape[-1] not in (1, 3):
        alpha = "; leave its last channel out: images[..., :3]" if array.shape[-1] == 4 else ""
        raise InputError(f"{where}, expected 1 or 3 channels on the last axis{alpha}{_channels_first(array.shape[1:])}")
    if min(array.shape[1:3]) < SMALLEST:
        raise InputError(f"{where}, expected images of at least {SMALLEST} x {SMALLEST} pixels")
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def _channels_first(shape: tuple[int, ...]) -> str:
    """What to do where one image of this shape has its channels first."""
    if len(shape) == 3 and shape[0] in (1, 3, 4) and min(shape[1:]) >= SMALLEST:
        return "; move the channels to the end: numpy.moveaxis(images, -3, -1)"
    return ""


def _as_bytes(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f":
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if not np.isfinite([low, high]).all():
            raise InputError(f"{where}, holds numbers that are not finite; expected uint8 from 0 to 255")
        raise InputError(f"{where} from {low:.4g} to {high:.4g}, expected uint8 from 0 to 255; {_scaled(low, high)}")
    if array.dtype.kind not in "iu":
        raise InputError(f"{where}, expected uint8 from 0 to 255")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high > 255:
        raise InputError(f"{where} from {low} to {high}, expected numbers from 0 to 255, as uint8")
    return array.astype(np.uint8)


def _scaled(low: float, high: float) -> str:
    """How floats of this range become bytes, if they are what it looks like."""
    for bounds, code in (((0, 1), "images * 255"), ((-1, 1), "(images + 1) * 127.5"), ((0, 255), "images")):
        if bounds[0] <= low and high <= bounds[1]:
            return f"if they mean {bounds[0]} to {bounds[1]}, give numpy.round({code}).astype('uint8')"
    return "give the images before they were normalised"


def _fitted(images: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Images uint8 [n, h, w] or [n, h, w, 3] as uint8 [n, *image_shape]."""
    if images.shape[1:3] != image_shape[:2]:
        return np.stack([pixels_of(Image.fromarray(image), image_shape, "image") for image in images])
    if images.ndim > len(image_shape) + 1:
        return as_gray(images)
    if images.ndim < len(image_shape) + 1:
        return np.repeat(images[..., None], 3, axis=-1)
    return images


def as_gray(images: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of RGB images, uint8 [n, h, w], rounded as Pillow does when a file is read as gray."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
