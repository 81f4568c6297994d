"""Audit a data set: which images are of one photograph, in which splits, with which labels, and which are empty."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from fer_jax.audit.search import SIZE, THRESHOLD, Progress, same_photographs
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.twins import COLUMNS, KINDS, digest

_MANY = 32
"""Of more images that are alike to the pixel not every pair is listed: each is with the first one of every split."""

_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images of one photograph: indices into `Audit`'s images, `first` < `second`; `kind` is one of `KINDS`."""

    first: int
    second: int
    kind: str
    similarity: float


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found.

    `splits` (indices into `SPLITS`), `row_ids`, `labels`, `digests` and `constant` (all pixels have one value) are of
    all images, in the order of the splits; `files` are their names below the folder of the data, or None.
    """

    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    splits: np.ndarray
    row_ids: np.ndarray
    labels: np.ndarray
    digests: tuple[str, ...]
    constant: np.ndarray
    files: tuple[str, ...] | None
    pairs: tuple[Pair, ...]
    threshold: float

    def name(self, index: int) -> str:
        """Name an image for people: its file, or its row."""
        return self.files[index] if self.files else f"row {self.row_ids[index]}"

    def across(self, pair: Pair) -> bool:
        """Whether the two images are in different splits."""
        return bool(self.splits[pair.first] != self.splits[pair.second])

    def conflicting(self, pair: Pair) -> bool:
        """Whether the two images have different labels."""
        return bool(self.labels[pair.first] != self.labels[pair.second])

    def with_twin(self, split: str, inside: str) -> dict[str, int]:
        """Count the images of `split` that have a twin in the split `inside`, by the best kind of it."""
        best: dict[int, int] = {}
        wanted = SPLITS.index(split), SPLITS.index(inside)
        for pair in self.pairs:
            for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
                if (self.splits[one], self.splits[other]) == wanted:
                    best[one] = min(best.get(one, len(KINDS)), KINDS.index(pair.kind))
        counts = np.bincount(list(best.values()), minlength=len(KINDS))
        return dict(zip(KINDS, counts.tolist(), strict=True))

    def summary(self) -> dict:
        """Return the counts as plain JSON values."""
        names = [name for index, name in enumerate(SPLITS) if (self.splits == index).any()]
        pairs = {}
        for kind in KINDS:
            of_kind = [pair for pair in self.pairs if pair.kind == kind]
            pairs[kind] = {
                "pairs": len(of_kind),
                "across_splits": sum(map(self.across, of_kind)),
                "conflicting_labels": sum(map(self.conflicting, of_kind)),
            }
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "images": {name: int((self.splits == SPLITS.index(name)).sum()) for name in names},
            "threshold": self.threshold,
            "pairs": pairs,
            "images_with_a_twin": {
                f"{one} in {other}": self.with_twin(one, other) for one, other in itertools.permutations(names, 2)
            },
            "constant_images": {
                name: self.row_ids[self.constant & (self.splits == SPLITS.index(name))].tolist() for name in names
            },
        }

    def twins_csv(self) -> str:
        """Return the list of pairs that `fer_jax.data.twins.read_twins` reads; files are named where there are any."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*COLUMNS, *(("file_a", "file_b") if self.files else ())])
        for pair in self.pairs:
            ends = (pair.first, pair.second)
            places = [
                field
                for i in ends
                for field in (self.row_ids[i], SPLITS[self.splits[i]], self.class_names[self.labels[i]])
            ]
            names = [self.files[i] for i in ends] if self.files else []
            similarity = f"{pair.similarity:.3f}"
            writer.writerow([*places, pair.kind, similarity, *(self.digests[i] for i in ends), *names])
        return text.getvalue()


def audit(data: Dataset, threshold: float = THRESHOLD, progress: Progress = lambda what, part: None) -> Audit:
    """Compare all images of `data` with each other; `threshold` is the least similarity of near and mirrored twins.

    Raises `InputError` naming a file that cannot be decoded.
    """
    splits = [data.split(name) for name in SPLITS]
    n = sum(map(len, splits))
    small, names, constant = np.empty((n, SIZE, SIZE), np.uint8), [], np.empty(n, bool)
    for index, (picture, name, empty) in enumerate(_looked_at([split.images for split in splits])):
        small[index], constant[index] = picture, empty
        names.append(name)
        if index % _CHUNK == 0:
            progress("reading", (index + 1) / n)
    of_split = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    found = _pairs(small, names, constant, of_split, threshold, progress)
    in_files = all(split.files for split in splits if len(split))
    return Audit(
        source=data.source,
        fingerprint=data.fingerprint(),
        class_names=tuple(data.class_names),
        splits=of_split,
        row_ids=np.concatenate([split.row_ids for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        digests=tuple(names),
        constant=constant,
        files=tuple(file for split in splits for file in split.files) if in_files else None,
        pairs=found,
        threshold=threshold,
    )


def _looked_at(images: Sequence[np.ndarray | ImageFiles]) -> Iterator[tuple[np.ndarray, str, bool]]:
    """Yield of each image itself at 48 x 48 pixels of gray, its digest, and whether all its pixels have one value."""

    def look(place: tuple[np.ndarray | ImageFiles, int]) -> tuple[np.ndarray, str, bool]:
        image = place[0][place[1]]
        return as_compared(image), digest(image), bool(image.min() == image.max())

    places = [(of_split, index) for of_split in images for index in range(len(of_split))]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(places), _CHUNK):
            yield from pool.map(look, places[start : start + _CHUNK])


def as_compared(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 [size, size] or [size, size, 3], at 48 x 48 pixels of gray."""
    if image.shape == (SIZE, SIZE):
        return image
    return np.asarray(Image.fromarray(image).convert("L").resize((SIZE, SIZE), Image.Resampling.BOX))


def _pairs(
    small: np.ndarray,
    names: Sequence[str],
    constant: np.ndarray,
    splits: np.ndarray,
    threshold: float,
    progress: Progress,
) -> tuple[Pair, ...]:
    """Return all pairs, in the order of their images."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    pairs = [
        Pair(min(ends), max(ends), "exact", 1.0)
        for group in groups.values()
        if len(group) > 1
        for ends in _every(group, group, splits)
    ]
    # One image of each group is compared; what is like it is like all of them.
    unique = [group for group in groups.values() if not constant[group[0]]]
    near = same_photographs(small[[group[0] for group in unique]], threshold, progress)
    for first, second, similarity, mirrored in zip(
        near.first.tolist(), near.second.tolist(), near.similarity.tolist(), near.mirrored.tolist(), strict=True
    ):
        kind = "mirrored" if mirrored else "near"
        for ends in _every(unique[first], unique[second], splits):
            pairs.append(Pair(min(ends), max(ends), kind, min(similarity, 1.0)))
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def _every(ours: Sequence[int], theirs: Sequence[int], splits: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs of one of `ours` and one of `theirs`, each once; of many images only some, see `_MANY`."""
    if max(len(ours), len(theirs)) <= _MANY:
        yield from itertools.combinations(ours, 2) if ours is theirs else itertools.product(ours, theirs)
        return
    few_ours, few_theirs = (
        [_first_of(split, group, splits) for split in _met(group, splits)] for group in (ours, theirs)
    )
    ends = itertools.chain(itertools.product(ours, few_theirs), itertools.product(few_ours, theirs))
    yield from {(min(pair), max(pair)) for pair in ends if pair[0] != pair[1]}


def _met(group: Sequence[int], splits: np.ndarray) -> Sequence[int]:
    return np.unique(splits[list(group)]).tolist()


def _first_of(split: int, group: Sequence[int], splits: np.ndarray) -> int:
    return next(index for index in group if splits[index] == split)
