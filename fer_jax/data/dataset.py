"""A data set: three splits of images with labels, their class names, and where they came from."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from fer_jax.data.fer2013 import IMAGE_SIZE, PUBLISHED_COUNTS, USAGE_OF_SPLIT
from fer_jax.data.image_files import ImageFiles
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS

SPLITS = ("train", "validation", "test")
"""The role of each split here: training, selection of the epoch, and the final test, opened once."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of one split: `images` uint8 [n, size, size], or [n, size, size, 3] for RGB, labels and row ids.

    `images` is an array, or `ImageFiles` of that shape where the images stay in their files. `labels` and `row_ids`
    are int32 [n]. A row id is the image's index in its source: the zero-based data row of a csv, or the index of the
    file in the sorted listing of an image folder. It is unique over all splits.

    `targets` float32 [n, classes] is the probability of each class that training aims at, where that is not the label
    alone: each row sums to 1.

    `files` are the paths of the images relative to their source, where each is a file of its own; otherwise empty.
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray
    row_ids: np.ndarray
    targets: np.ndarray | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self):
        n, shape = len(self.images), self.images.shape
        if shape not in ((n, *2 * shape[1:2]), (n, *2 * shape[1:2], 3)) or self.images.dtype != np.uint8:
            raise ValueError(f"images: expected uint8 [n, size, size] or [n, size, size, 3], found {shape}")
        for name, array in (("labels", self.labels), ("row_ids", self.row_ids)):
            if array.shape != (n,) or array.dtype != np.int32:
                raise ValueError(f"{name}: expected int32 [{n}], found {array.dtype} {array.shape}")
        targets = self.targets
        if targets is not None and (targets.ndim != 2 or len(targets) != n or targets.dtype != np.float32):
            raise ValueError(f"targets: expected float32 [{n}, classes], found {targets.dtype} {targets.shape}")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: np.ndarray) -> "Split":
        """Return the examples at `indices`, integers [m], in that order."""
        images = self.images
        images = images.subset(indices) if isinstance(images, ImageFiles) else images[indices]
        targets = None if self.targets is None else self.targets[indices]
        files = tuple(self.files[index] for index in indices) if self.files else ()
        return Split(images, self.labels[indices], self.row_ids[indices], targets, files)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in the form of FER2013: its splits, its class names, and where it came from.

    `source` is a short description for reports, such as `csv fer2013.csv`. The images of all splits have one size, 48
    pixels in FER2013, and are all gray or all RGB. `test` may be empty in data of a user's own.
    """

    train: Split
    validation: Split
    test: Split
    source: str
    class_names: tuple[str, ...] = EXPRESSIONS

    def __post_init__(self):
        shapes = {self.split(name).images.shape[1:] for name in SPLITS}
        if len(shapes) > 1:
            raise ValueError(f"images: expected one shape in all splits, found {shapes}")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(size, size) of gray images, (size, size, 3) of RGB, in pixels."""
        return tuple(self.train.images.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the images of all splits as uint8, whether or not they are in memory."""
        return sum(self.split(name).images.nbytes for name in SPLITS)

    def in_memory(self) -> "Dataset":
        """Return the same data with all images decoded; raise `InputError` naming a file that cannot be decoded."""

        def read(split: Split) -> Split:
            images = split.images
            return dataclasses.replace(split, images=images.read() if isinstance(images, ImageFiles) else images)

        return dataclasses.replace(self, train=read(self.train), validation=read(self.validation), test=read(self.test))

    def has_form_of_fer2013(self) -> bool:
        """Return whether classes and image shape are those of FER2013, so that a comparison with it makes sense."""
        return self.class_names == EXPRESSIONS and self.image_shape == (IMAGE_SIZE, IMAGE_SIZE)

    def split(self, name: str) -> Split:
        """Return the split `train`, `validation` or `test`."""
        if name not in SPLITS:
            raise KeyError(name)
        return getattr(self, name)

    def is_published(self) -> bool:
        """Return whether these are 48x48 gray images with the published number of each class in each split."""
        classes = len(self.class_names)
        return self.has_form_of_fer2013() and all(
            tuple(np.bincount(self.split(name).labels, minlength=classes)) == PUBLISHED_COUNTS[name] for name in SPLITS
        )

    def describe_split(self, name: str) -> str:
        """Name the split for reports: `test (PrivateTest)` for the published FER2013, `test` for any other data."""
        return f"{name} ({USAGE_OF_SPLIT[name]})" if self.is_published() else name

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) over the arrays of all splits and the class names.

        For images that stay in their files it covers the names and sizes of the files, so that nothing has to be read.
        """
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for name in SPLITS:
            split = self.split(name)
            targets = () if split.targets is None else (split.targets,)
            for array in (split.images, split.labels, split.row_ids, *targets):
                digest.update(str(array.shape).encode())
                digest.update(array.listing() if isinstance(array, ImageFiles) else np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check_no_split_empty(splits: np.ndarray, source: str, names: Sequence[str] = SPLITS) -> None:
    """Raise `InputError` if the index of one of `names` in `SPLITS` is missing from `splits`, integers [n]."""
    for name in names:
        if SPLITS.index(name) not in splits:
            raise InputError(
                f"{source}: no image of the {name} split ({USAGE_OF_SPLIT[name]}) among {len(splits)}; "
                "training, selection and the final test each need images of their own"
            )


def from_rows(
    images: np.ndarray | ImageFiles,
    labels: np.ndarray,
    splits: np.ndarray,
    source: str,
    class_names: tuple[str, ...] = EXPRESSIONS,
) -> Dataset:
    """Return the data set whose row i is `images[i]`, with `labels[i]`, in the split `SPLITS[splits[i]]`.

    `images` is that of a `Split`; `labels` and `splits` are integers [n]. An image's row id is its index in these
    arrays.
    """
    parts = {}
    for index, name in enumerate(SPLITS):
        row_ids = np.flatnonzero(splits == index).astype(np.int32)
        chosen = images.subset(row_ids) if isinstance(images, ImageFiles) else images[row_ids]
        parts[name] = Split(chosen, labels[row_ids].astype(np.int32), row_ids)
    return Dataset(**parts, source=source, class_names=class_names)
