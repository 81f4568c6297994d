"""Image files of any size: checked before work begins, and decoded on request to uint8 squares of one size.

An image that is not square is cropped to its largest centred square, so that faces keep their proportions, and then
resized by Pillow's bilinear filter, which averages over all pixels of a larger picture. EXIF orientation is applied.
Files without a plain 8-bit gray or RGB meaning (16 bits, CMYK, animation, transparency) are refused by name.
"""

import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fer_jax.errors import InputError, is_exhaustion

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
"""The names of image files end in one of these, in any letter case."""

_GRAY_MODES = ("1", "L", "LA")
_MODES = (*_GRAY_MODES, "P", "PA", "RGB", "RGBA")

MAX_PIXELS: int = Image.MAX_IMAGE_PIXELS  # type: ignore[assignment]  # None only where somebody has set it
"""Files with more pixels are refused as decompression bombs; Pillow warns from the same number, 89 million."""

_CHUNK = 1024  # Files submitted to the threads at a time: a million futures at once would take a gigabyte.


@dataclasses.dataclass(frozen=True, repr=False)
class EncodedImage:
    """The content of an image file that lies in another file; `name` says where, for messages."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


Picture = Path | EncodedImage
"""What is decoded: a file, or the content of one."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageFiles:
    """Images that stay in their files: a read-only stand-in for an array uint8 [n, size, size] or [n, size, size, 3].

    Attributes:
      root: the folder that `names` are relative to.
      names: the n files.
      num_bytes: int64 [n], their sizes when they were listed.
      image_shape: (size, size) for gray images, (size, size, 3) for RGB.
    """

    root: str
    names: Sequence[str]
    num_bytes: np.ndarray
    image_shape: tuple[int, ...]

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, size, size) or (n, size, size, 3)."""
        return (len(self), *self.image_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all images once they are decoded."""
        return len(self) * int(np.prod(self.image_shape))

    def __getitem__(self, index: int) -> np.ndarray:
        """Decode the image at `index`; raise what `decode` raises."""
        return decode(Path(self.root, self.names[index]), self.image_shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode one image after the other; raise what `decode` raises."""
        return (self[index] for index in range(len(self)))

    def subset(self, indices: np.ndarray) -> "ImageFiles":
        """Return the images at `indices`, integers [m]."""
        names = tuple(self.names[index] for index in indices)
        return dataclasses.replace(self, names=names, num_bytes=self.num_bytes[indices])

    def pictures(self) -> list[Path]:
        """Return the paths of the files."""
        return [Path(self.root, name) for name in self.names]

    def read(self) -> np.ndarray:
        """Decode all images in threads; raise what `decode` raises, for the first of them."""
        images, damaged = decode_all(self.pictures(), self.image_shape)
        for error in damaged.values():
            raise error
        return images

    def listing(self) -> bytes:
        """Return the names and sizes of the files, for a fingerprint that does not read them."""
        text = "".join(f"{name}\0{size}\n" for name, size in zip(self.names, self.num_bytes, strict=True))
        # The way Python keeps the bytes of names that are not UTF-8.
        return text.encode(errors="surrogateescape")


@dataclasses.dataclass(frozen=True)
class Survey:
    """The facts in the headers of image files.

    `sizes` are the different (width, height) in pixels, by area; `colour` says whether any file has a pixel that is not
    gray; `num_bytes` int64 [n] are the sizes of the files. `damaged` has by index why a file cannot be used; such a
    file counts for nothing else, and its size is 0.
    """

    sizes: tuple[tuple[int, int], ...]
    colour: bool
    num_bytes: np.ndarray
    damaged: Mapping[int, InputError]


def survey(pictures: Sequence[Picture], *, whole: bool = False) -> Survey:
    """Read the headers of all files, and the pixels only if the header does not tell enough, or if `whole`.

    Pixels are read of files with transparency, and of files with three channels until the first of them proves to be
    coloured.
    """
    found_colour = False

    def look(picture: Picture) -> tuple[tuple[int, int], bool, int] | InputError:
        nonlocal found_colour

        def header(image: Image.Image) -> tuple[tuple[int, int], bool, int]:
            size, colour = image.size, False
            if image.has_transparency_data:
                _opaque(picture, image)
            if image.mode not in _GRAY_MODES and not found_colour:
                pixels = np.asarray(image.convert("RGB"))
                colour = bool((pixels != pixels[..., :1]).any())
            if whole:
                image.load()
            num_bytes = len(picture.content) if isinstance(picture, EncodedImage) else os.stat(picture).st_size
            return size, colour, num_bytes

        try:
            size, colour, num_bytes = _opened(picture, header)
        except InputError as error:
            return error
        # Threads may set this at the same time, all to the same value; it only spares work.
        found_colour = found_colour or colour
        return size, colour, num_bytes

    sizes, colours, damaged = set(), False, {}
    num_bytes = np.zeros(len(pictures), np.int64)
    for index, found in enumerate(_in_threads(look, pictures)):
        if isinstance(found, InputError):
            damaged[index] = found
        else:
            size, colour, num_bytes[index] = found
            sizes.add(size)
            colours = colours or colour
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return Survey(tuple(by_area), colours, num_bytes, damaged)


def decode_all(pictures: Sequence[Picture], image_shape: tuple[int, ...]) -> tuple[np.ndarray, dict[int, InputError]]:
    """Decode images in threads to uint8 [n, *image_shape]; return by index why one is left at zeros."""

    def attempt(picture: Picture) -> np.ndarray | InputError:
        try:
            return decode(picture, image_shape)
        except InputError as error:
            return error

    images = np.zeros((len(pictures), *image_shape), np.uint8)
    damaged = {}
    for index, found in enumerate(_in_threads(attempt, pictures)):
        if isinstance(found, InputError):
            damaged[index] = found
        else:
            images[index] = found
    return images, damaged


def decode(file: Picture, image_shape: tuple[int, ...]) -> np.ndarray:
    """Decode an image to uint8 `image_shape`, (size, size) for gray or (size, size, 3) for RGB, converting colours.

    Raises `InputError` naming a file that is missing, damaged, or of a kind that is refused.
    """
    size = image_shape[0]

    def pixels(image: Image.Image) -> np.ndarray:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size; twice the size asked for leaves enough
        # for the filter. Pillow ignores the call for other formats.
        image.draft(None, (2 * size, 2 * size))
        return _square(file, image, image_shape)

    return _opened(file, pixels)


def picture(file: Picture) -> Image.Image:
    """Decode a whole picture, gray (`L`) or RGB as its file has it; raise what `decode` raises."""

    def whole(image: Image.Image) -> Image.Image:
        gray = image.mode in _GRAY_MODES
        return _opaque(file, ImageOps.exif_transpose(image)).convert("L" if gray else "RGB")

    return _opened(file, whole)


def pixels_of(image: Image.Image, image_shape: tuple[int, ...], what: str) -> np.ndarray:
    """Bring an image that Pillow has opened or made to uint8 `image_shape` as `decode` does.

    Raises what `decode` raises, with `what` in place of the file.
    """
    return _used(what, image, lambda image: _square(what, image, image_shape))


def _square(file: Picture | str, image: Image.Image, image_shape: tuple[int, ...]) -> np.ndarray:
    image = _opaque(file, ImageOps.exif_transpose(image)).convert("RGB" if len(image_shape) == 3 else "L")
    # An image that has this size already stays the same, pixel for pixel.
    return np.asarray(ImageOps.fit(image, (image_shape[0], image_shape[1]), Image.Resampling.BILINEAR))


def _opened(file: Picture, use: Callable[[Image.Image], object]):
    """Open an image and return `use(image)`; turn every error of opening and decoding into one that names the file."""
    try:
        image = Image.open(io.BytesIO(file.content) if isinstance(file, EncodedImage) else file)
    except (*_DAMAGED, TypeError) as error:  # TypeError: a TIFF that lacks its dimensions.
        if is_exhaustion(error):
            raise
        raise _unreadable(file, error) from error
    with image:
        return _used(file, image, use)


def _used(file: Picture | str, image: Image.Image, use: Callable[[Image.Image], object]):
    """Check an open image and return `use(image)`; turn every error of decoding into one that names the file."""
    try:
        _check(file, image)
        return use(image)
    except InputError:
        raise
    except _DAMAGED as error:
        if is_exhaustion(error):
            raise
        raise _unreadable(file, error) from error


_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow's readers raise, each its own: SyntaxError for a broken PNG, EOFError for frames that are missing."""


def _unreadable(file: Picture | str, error: Exception) -> InputError:
    return InputError(f"{file}: not a readable image: {error}; get the file anew or remove it")


def _check(file: Picture | str, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{file}: {width} x {height} pixels, expected at most {MAX_PIXELS:,} in all; make it smaller")
    if image.mode not in _MODES:
        raise InputError(f"{file}: image mode {image.mode}, expected 8-bit gray or RGB; convert it first")
    # A phone's JPEG may carry further pictures (MPO) of the same scene; the first one is the photograph.
    frames = getattr(image, "n_frames", 1)
    if image.format != "MPO" and frames > 1:
        raise InputError(f"{file}: {frames} frames, expected a single image; save one frame of it")


def _opaque(file: Picture | str, image: Image.Image) -> Image.Image:
    """Return `image` without its alpha channel; raise `InputError` if a pixel is not opaque."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    if np.asarray(image.getchannel("A")).min() < 255:
        raise InputError(f"{file}: a transparent image, expected an opaque one; put it on a background first")
    return image.convert("RGB")


def _in_threads(function: Callable, items: Sequence) -> Iterator:
    """Yield `map(function, items)` in order, from threads: Pillow decodes without holding the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), _CHUNK):
            yield from pool.map(function, items[start : start + _CHUNK])
