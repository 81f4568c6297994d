"""From the list of what a source holds to a data set: splits, damage, the images, and what has to be said of them."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_jax.data.dataset import SPLITS, Dataset, Split, check_no_split_empty
from fer_jax.data.fer2013 import IMAGE_SIZE
from fer_jax.data.image_files import ImageFiles, Picture, decode_all, survey
from fer_jax.data.input_choice import choose_input
from fer_jax.data.inspection import missing_classes
from fer_jax.data.options import FolderOptions
from fer_jax.errors import InputError
from fer_jax.expressions import EIGHT_EXPRESSIONS, EXPRESSIONS

_log = logging.getLogger("fer_jax")

_SHOWN = 10
"""Of what is damaged, how many are named in a message."""

SKIP = "set config.data.skip_damaged=True (--skip-damaged) to pass over"

Images = np.ndarray | ImageFiles
Damaged = Mapping[int, InputError]


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a source holds, image by image, before anything is decoded.

    Attributes:
      where: the source, as messages begin.
      source: its short description for reports.
      class_names: the names of the classes.
      labels: int [n], indices of `class_names`; -1 for an image of a class that the model to be evaluated has not.
      unknown: the names of these classes.
      splits: int [n], indices of `SPLITS`; -1 for an image without a split.
      row_ids: int [n], as in a `Split`.
      read: decodes the images at some of the n indices, and returns by position which of them are damaged, and why.
      names: what an image is called where damage is listed, such as its path relative to `where`.
      files: the paths of the images relative to the source; none where they are in no files of their own.
      damaged: what was found damaged so far, and is no image of the n: its name, and why.
      promised: the splits that the source says it has.
      without_validation: the message if there is none and no fraction is given.
    """

    where: str
    source: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    row_ids: np.ndarray
    read: Callable[[np.ndarray], tuple[Images, Damaged]]
    names: Sequence[str]
    unknown: Sequence[str] = ()
    files: Sequence[str] = ()
    damaged: Sequence[tuple[str, InputError]] = ()
    promised: tuple[str, ...] = ("train", "validation")
    without_validation: str = "no validation split"


def to_dataset(listing: Listing, *, validation_fraction: float | None, seed: int, options: FolderOptions) -> Dataset:
    """Return the data set of a listing, read as `options` say.

    Splits are checked before the images are read, which may take long.

    Raises:
      InputError: damage (all of it in one message, unless `options.skip_damaged`), an empty split or class, images of
        one class alone, or a `validation_fraction` that is missing, impossible, or given where there is a validation
        split.
    """
    kept = np.flatnonzero(np.asarray(listing.labels) >= 0)
    if dropped := len(listing.labels) - len(kept):
        unknown = ", ".join(listing.unknown)
        _log.warning(
            "%s: %d images of %s, which the model does not know, are left out", listing.where, dropped, unknown
        )
    if not len(listing.labels) and listing.damaged:
        raise _damage(listing, listing.damaged)
    if not len(kept):
        raise InputError(f"{listing.where}: no image" + (" of a class that the model knows" if dropped else ""))
    try:
        _assign_splits(listing, kept, validation_fraction, seed, options)
    except InputError:
        # What is missing may be missing because it is damaged.
        if listing.damaged and not options.skip_damaged:
            raise _damage(listing, listing.damaged) from None
        raise

    images, found = listing.read(kept)
    damaged = [*listing.damaged, *((listing.names[kept[index]], error) for index, error in sorted(found.items()))]
    source = listing.source
    good = np.array([index for index in range(len(kept)) if index not in found], int)
    if damaged:
        if not options.skip_damaged or not len(good):
            raise _damage(listing, damaged)
        _log.warning("%s", _passed_over(listing, damaged))
        source += f", without {len(damaged)} damaged"
    if found:
        images, kept = _subset(images, good), kept[good]
    labels, splits = _assign_splits(listing, kept, validation_fraction, seed, options)

    parts = {}
    for index, name in enumerate(SPLITS):
        rows = np.flatnonzero(splits == index)
        parts[name] = Split(
            _subset(images, rows),
            labels[rows].astype(np.int32),
            np.asarray(listing.row_ids)[kept[rows]].astype(np.int32),
            files=tuple(listing.files[row] for row in kept[rows]) if len(listing.files) else (),
        )
    data = Dataset(**parts, source=source, class_names=listing.class_names)
    if options.class_names is None and (missing := missing_classes(data)):
        _log.warning("%s%s", missing, "; the validation fraction is small for them" if validation_fraction else "")
    return data


def read_pictures(
    where: str, pictures: Sequence[Picture], options: FolderOptions, files: tuple[str, Sequence[str]] | None = None
) -> tuple[Images, Damaged]:
    """Return pictures as images of one shape, and which are damaged; log the shape unless every picture has it.

    `files` has the root of the pictures and their paths relative to it, if they are files: these may be streamed.
    """
    found = survey(pictures)
    if not found.sizes:
        return np.zeros((len(pictures), 1, 1), np.uint8), found.damaged
    longest = max(map(max, found.sizes))
    size = options.image_size or min(longest, max(IMAGE_SIZE, options.input_size))
    colour = found.colour if options.colour is None else options.colour
    if found.sizes != ((size, size),):
        kind = "RGB" if colour else "gray"
        extremes = sorted({found.sizes[0], found.sizes[-1]})
        found_sizes = " to ".join(f"{width} x {height}" for width, height in extremes)
        _log.warning("%s: images of %s pixels, read as %d x %d %s", where, found_sizes, size, size, kind)
    shape = (size, size, 3) if colour else (size, size)
    num_bytes = (len(pictures) - len(found.damaged)) * math.prod(shape)
    if files and choose_input(options.input, num_bytes)[0] == "streaming":
        # Damage below the header would end a run in its middle.
        damaged = survey(pictures, whole=True).damaged if options.skip_damaged else found.damaged
        return ImageFiles(files[0], tuple(files[1]), found.num_bytes, shape), damaged
    images, damaged = decode_all(pictures, shape)
    return images, {**damaged, **found.damaged}


def _subset(images: Images, indices: np.ndarray) -> Images:
    return images.subset(indices) if isinstance(images, ImageFiles) else images[indices]


def _assign_splits(
    listing: Listing, kept: np.ndarray, fraction: float | None, seed: int, options: FolderOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels and the splits of the images `kept`, and check them."""
    labels, splits = np.asarray(listing.labels)[kept], np.asarray(listing.splits)[kept].copy()
    evaluating = options.class_names is not None
    splits[splits < 0] = SPLITS.index(options.unsplit if evaluating else "train")
    official = "validation" in listing.promised or SPLITS.index("validation") in splits
    has_train = SPLITS.index("train") in splits
    if fraction is not None and not evaluating and official:
        raise InputError(
            f"{listing.where}: validation_fraction (config.data.validation_fraction) is {fraction}, but this source "
            "has a validation split of its own; leave the option out"
        )
    if not official and has_train and (fraction is not None or not evaluating):
        _take_validation(listing, labels, splits, fraction, seed)
    if evaluating:
        return labels, splits
    check_no_split_empty(splits, listing.where, [name for name in SPLITS if name in ("train", *listing.promised)])
    _check_classes(listing, labels[splits == SPLITS.index("train")])
    return labels, splits


def _take_validation(
    listing: Listing, labels: np.ndarray, splits: np.ndarray, fraction: float | None, seed: int
) -> None:
    """Move `fraction` of each class, rounded to whole images, from train to validation."""
    if fraction is None:
        raise InputError(
            f"{listing.where}: {listing.without_validation}; set config.data.validation_fraction "
            "(--validation-fraction), say to 0.1, to take that part of the training images"
        )
    if not 0 < fraction < 1:
        raise InputError(f"config.data.validation_fraction (--validation-fraction) is {fraction}, expected 0 < x < 1")
    rng = np.random.default_rng(seed)
    taken, most = 0, 0
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero((splits == SPLITS.index("train")) & (labels == label)))
        splits[rows[: round(fraction * len(rows))]] = SPLITS.index("validation")
        taken, most = taken + round(fraction * len(rows)), max(most, len(rows))
    if not taken:
        least = (math.floor(50 / most) + 1) / 100
        raise InputError(
            f"{listing.where}: config.data.validation_fraction (--validation-fraction) is {fraction}, too small to "
            f"take one of the {most} training images of a class, so there is no image of the validation split; "
            f"set it to {least:g} or more"
        )


def _check_classes(listing: Listing, train_labels: np.ndarray) -> None:
    """Raise `InputError` if training has one class alone, or lacks a class of the user's own."""
    class_names = listing.class_names
    counts = np.bincount(train_labels, minlength=len(class_names))
    if class_names not in (EXPRESSIONS, EIGHT_EXPRESSIONS) and not counts.all():
        name = class_names[int(counts.argmin())]
        raise InputError(f"{listing.where}: no training image of the class {name!r}; add some, or remove its folder")
    if np.count_nonzero(counts) < 2:
        raise InputError(
            f"{listing.where}: all {counts.sum()} training images are of one class, {class_names[counts.argmax()]!r}; "
            "there is nothing to learn from less than two classes, add images of another"
        )


def _damage(listing: Listing, damaged: Sequence[tuple[str, InputError]]) -> InputError:
    first = str(damaged[0][1])
    if len(damaged) == 1:
        return InputError(f"{first}; or {SKIP} it")
    return InputError(f"{first}; {_listed(damaged)}: mend or remove them, or {SKIP} them")


def _listed(damaged: Sequence[tuple[str, InputError]]) -> str:
    names = ", ".join(name for name, _ in damaged[:_SHOWN]) + (", ..." if len(damaged) > _SHOWN else "")
    return f"{len(damaged)} are damaged or not to be used ({names})"


def _passed_over(listing: Listing, damaged: Sequence[tuple[str, InputError]]) -> str:
    listed = "".join(f"\n  {error}" for _, error in damaged)
    return f"{listing.where}: {len(damaged)} damaged passed over, as config.data.skip_damaged says:{listed}"


def relative(path: str | Path, root: Path) -> str:
    """Return `path` as it is called below `root`, with `/` between folders."""
    return Path(path).relative_to(root).as_posix()
