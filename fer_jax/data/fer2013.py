"""FER2013 in memory: three splits of 48x48 gray faces, with what is published about them."""

import dataclasses
import hashlib

import numpy as np

from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS

IMAGE_SIZE = 48
"""Height and width of a FER2013 image in pixels."""

SPLITS = ("train", "validation", "test")
"""The role of each split here: training, selection of the epoch, and the final test, opened once."""

USAGE_OF_SPLIT = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
"""The name of each split in the `Usage` column of the official csv."""

PUBLISHED_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "validation": (467, 56, 496, 895, 653, 415, 607),
    "test": (491, 55, 528, 879, 594, 416, 626),
}
"""Images by split and class, in the order of `EXPRESSIONS` (Kaggle "Challenges in Representation Learning", 2013)."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of one split: `images` uint8 [n, 48, 48], `labels` int32 [n], `row_ids` int32 [n].

    A row id is the image's place in its source: the zero-based data row of a csv, or the rank of the file in the
    sorted listing of an image folder. It is unique over all splits.
    """

    images: np.ndarray
    labels: np.ndarray
    row_ids: np.ndarray

    def __post_init__(self):
        n = len(self.images)
        if self.images.shape != (n, IMAGE_SIZE, IMAGE_SIZE) or self.images.dtype != np.uint8:
            raise ValueError(f"images: expected uint8 [n, 48, 48], found {self.images.dtype} {self.images.shape}")
        for name, array in (("labels", self.labels), ("row_ids", self.row_ids)):
            if array.shape != (n,) or array.dtype != np.int32:
                raise ValueError(f"{name}: expected int32 [{n}], found {array.dtype} {array.shape}")

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class Fer2013:
    """A data set in the form of FER2013: its splits, its class names, and where it came from.

    `source` is a short description for reports, such as `csv fer2013.csv`.
    """

    train: Split
    validation: Split
    test: Split
    source: str
    class_names: tuple[str, ...] = EXPRESSIONS

    def split(self, name: str) -> Split:
        """The split `train`, `validation` or `test`."""
        if name not in SPLITS:
            raise KeyError(name)
        return getattr(self, name)

    def is_published(self) -> bool:
        """Whether every split has the published number of images of every class."""
        classes = len(self.class_names)
        return all(
            tuple(np.bincount(self.split(name).labels, minlength=classes)) == PUBLISHED_COUNTS[name] for name in SPLITS
        )

    def describe_split(self, name: str) -> str:
        """The split for reports: `test (PrivateTest)` for the published FER2013, `test` for any other data."""
        return f"{name} ({USAGE_OF_SPLIT[name]})" if self.is_published() else name

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the arrays of all splits and the class names: equal data, equal fingerprint."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for name in SPLITS:
            split = self.split(name)
            for array in (split.images, split.labels, split.row_ids):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check_no_split_empty(splits: np.ndarray, source: str) -> None:
    """Raises `InputError` if an index into `SPLITS` is missing from `splits`, integers [n]."""
    for index, name in enumerate(SPLITS):
        if index not in splits:
            raise InputError(
                f"{source}: no image of the {name} split ({USAGE_OF_SPLIT[name]}) among {len(splits)}; "
                "training, selection and the final test each need images of their own"
            )


def from_rows(images: np.ndarray, labels: np.ndarray, splits: np.ndarray, source: str) -> Fer2013:
    """The data set whose row i is `images[i]`, with `labels[i]`, in the split `SPLITS[splits[i]]`.

    `images` is uint8 [n, 48, 48]; `labels` and `splits` are integers [n]. An image's row id is its place in these
    arrays. Raises `InputError` if a split has no image.
    """
    check_no_split_empty(splits, source)
    parts = {}
    for index, name in enumerate(SPLITS):
        row_ids = np.flatnonzero(splits == index).astype(np.int32)
        parts[name] = Split(images[row_ids], labels[row_ids].astype(np.int32), row_ids)
    return Fer2013(**parts, source=source)
