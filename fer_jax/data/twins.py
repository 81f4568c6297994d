"""Twins: images of one photograph in a data set, by a list that an audit made, and what to do about them.

A list names images by the digest of their pixels, so that it holds for any order and any splits of the same images.
FER2013's own list is shipped: `fer2013_twins.csv.gz`, written by `fer-jax audit fer2013.csv --out=DIR`.
"""

import collections
import csv
import dataclasses
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import IMAGE_SIZE
from fer_jax.errors import InputError, shown
from fer_jax.runtime.user_path import input_path

KINDS = ("exact", "near", "mirrored")
"""Pixel for pixel the same; the same photograph in another crop, brightness or coding; the same but mirrored."""

DROPS = ("none", "exact", "near")
"""What may be taken out of training: nothing, exact twins, or twins of any kind."""

COLUMNS = ("row_a", "split_a", "label_a", "row_b", "split_b", "label_b", "kind", "similarity", "digest_a", "digest_b")
"""Of a list: row ids, splits and class names of the two images of a pair, what makes them twins, their digests."""

SHIPPED = Path(__file__).with_name("fer2013_twins.csv.gz")

_DIGITS = 12
_ENOUGH = 0.95
"""The share of a list's images among those of a data set from which on the list is about it.

Copies of FER2013 differ in some images; of parts of it the list does not know all that there is to know.
"""


@dataclasses.dataclass(frozen=True)
class Twins:
    """Pairs of digests of images of one photograph, with their kinds; exact twins share a digest.

    `source` is a short description for reports.
    """

    pairs: tuple[tuple[str, str, str], ...]
    source: str


def digest(image: np.ndarray) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of an image's pixels, uint8."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:_DIGITS]


def digests(images: Iterable[np.ndarray]) -> list[str]:
    """Return the digest of each image."""
    return [digest(image) for image in images]


def read_twins(path: str | Path) -> Twins:
    """Read a list as `fer-jax audit` writes it; raise `InputError` that names the file and the row for any other."""
    path = input_path(str(path), f"{path}:", "; expected the twins.csv that fer-jax audit writes")
    pairs = []
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: no column {missing[0]!r} in the header {shown(','.join(reader.fieldnames or ()))}; "
                    "expected the twins.csv that fer-jax audit writes"
                )
            for index, row in enumerate(reader):
                pair = row["digest_a"], row["digest_b"], row["kind"]
                if pair[2] not in KINDS or not all(_is_digest(text) for text in pair[:2]):
                    raise InputError(
                        f"{path}, row {index}: kind and digests {shown(pair)}, expected one of {', '.join(KINDS)} and "
                        f"two of {_DIGITS} hexadecimal digits; make the list anew by fer-jax audit"
                    )
                pairs.append(pair)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (csv.Error, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); make the list anew by fer-jax audit") from error
    return Twins(tuple(pairs), path.name)


def _is_digest(text: str | None) -> bool:
    return text is not None and len(text) == _DIGITS and not set(text) - set("0123456789abcdef")


class TwinIndex:
    """Where in a data set the images of one photograph are.

    Attributes:
      twins: the list of near and mirrored twins, or None where there is none for these images: exact twins are found
        without any.
    """

    def __init__(self, data: Dataset, path: str | None = None):
        """Digest all images of `data`, and take the list at `path`, or the shipped one if it is about these images.

        Raises `InputError` for a list that cannot be read or is about other images.
        """
        self._digests = {name: digests(data.split(name).images) for name in SPLITS}
        self._row_ids = {name: data.split(name).row_ids for name in SPLITS}
        known = set().union(*self._digests.values())
        self.twins = None
        if path is not None:
            self.twins = read_twins(path)
            if (share := _share_known(self.twins, known)) < _ENOUGH:
                raise InputError(
                    f"{path}: {100 * share:.0f} % of its images are in {data.source}, expected at least "
                    f"{100 * _ENOUGH:.0f} %: it lists the twins of other data, or of these at another size; make the "
                    "list by fer-jax audit of these data"
                )
        elif data.image_shape == (IMAGE_SIZE, IMAGE_SIZE):
            shipped = read_twins(SHIPPED)
            self.twins = shipped if _share_known(shipped, known) >= _ENOUGH else None

    def kinds(self, split: str, inside: Sequence[str]) -> np.ndarray:
        """Return for each image of `split` the best kind of twin that it has in the splits `inside`.

        int8 [n]: the index in `KINDS`, or -1 where there is none.
        """
        there = set().union(*(self._digests[name] for name in inside))
        partners: collections.defaultdict[str, int] = collections.defaultdict(lambda: len(KINDS))
        for first, second, kind in self.twins.pairs if self.twins else ():
            for one, other in ((first, second), (second, first)):
                if other in there:
                    partners[one] = min(partners[one], KINDS.index(kind))
        found = (0 if own in there else partners.get(own, -1) for own in self._digests[split])
        return np.fromiter(found, np.int8, len(self._digests[split]))

    def to_drop(self, kind: str) -> np.ndarray:
        """Return the row ids of training images with a twin in validation or test: an `exact` one, or of any kind."""
        kinds = self.kinds("train", ("validation", "test"))
        return self._row_ids["train"][kinds == 0 if kind == "exact" else kinds >= 0]


def _share_known(twins: Twins, known: set[str]) -> float:
    """Return the share of the images in `twins` that are `known`; 1 for an empty list."""
    listed = {digest for first, second, _ in twins.pairs for digest in (first, second)}
    return len(listed & known) / len(listed) if listed else 1.0
