"""Inspect a data set: counts by class, exact duplicates across splits, and images without content."""

import collections
import dataclasses
import hashlib
import itertools

import numpy as np

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import PUBLISHED_COUNTS


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Pixel-identical images, within and across the splits.

    Attributes:
      groups: sets of two or more identical images, each a tuple of row ids.
      conflicting: those of `groups` whose images do not all have one label.
      twins_in_train: for `validation` and `test`, the row ids of their images that are in `train`, too.
    """

    groups: tuple[tuple[int, ...], ...]
    conflicting: tuple[tuple[int, ...], ...]
    twins_in_train: dict[str, tuple[int, ...]]

    @property
    def surplus(self) -> int:
        """The number of images to remove so that one of each group remains."""
        return sum(len(group) - 1 for group in self.groups)


def find_duplicates(data: Dataset) -> Duplicates:
    """Find the exact duplicates among all images of all splits."""
    groups_by_digest = collections.defaultdict(list)
    for name in SPLITS:
        split = data.split(name)
        for image, label, row_id in zip(split.images, split.labels.tolist(), split.row_ids.tolist(), strict=True):
            # A digest instead of the image: the images may not fit into memory.
            groups_by_digest[hashlib.sha256(image.tobytes()).digest()].append((row_id, label, name))
    groups, conflicting = [], []
    twins: dict[str, list] = {name: [] for name in SPLITS if name != "train"}
    for group in groups_by_digest.values():
        if len(group) == 1:
            continue
        row_ids = tuple(row_id for row_id, _, _ in group)
        groups.append(row_ids)
        if len({label for _, label, _ in group}) > 1:
            conflicting.append(row_ids)
        if any(name == "train" for _, _, name in group):
            for row_id, _, name in group:
                if name != "train":
                    twins[name].append(row_id)
    return Duplicates(
        tuple(groups), tuple(conflicting), {name: tuple(sorted(row_ids)) for name, row_ids in twins.items()}
    )


def class_counts(data: Dataset) -> dict[str, np.ndarray]:
    """Count the images by split and class: int64 [classes] for each split, in the order of `data.class_names`."""
    return {name: np.bincount(data.split(name).labels, minlength=len(data.class_names)) for name in SPLITS}


def missing_classes(data: Dataset) -> str | None:
    """Name in one line the classes without an image in train, validation or test; None if every split has them all.

    A split without any image, as test may be, counts for nothing.
    """
    counts = {name: found for name, found in class_counts(data).items() if found.sum()}
    everywhere = np.all([found == 0 for found in counts.values()], axis=0)
    lines = [f"of {_names(data, everywhere)} in any split"] if everywhere.any() else []
    for name, found in counts.items():
        if (missing := (found == 0) & ~everywhere).any():
            lines.append(f"of {_names(data, missing)} in {name}")
    if not lines:
        return None
    return f"{data.source}: no image {', '.join(lines)}; what is not in train is never learnt"


def _names(data: Dataset, chosen: np.ndarray) -> str:
    names = list(itertools.compress(data.class_names, chosen))
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def constant_images(data: Dataset) -> dict[str, tuple[int, ...]]:
    """Return the row ids, by split, of images whose pixels all have one value."""
    found = {}
    for name in SPLITS:
        split = data.split(name)
        constant = (image.min() == image.max() for image in split.images)
        found[name] = tuple(itertools.compress(split.row_ids.tolist(), constant))
    return found


def differs_from_published(data: Dataset) -> str | None:
    """Describe in one line how split sizes or class counts differ from the published FER2013; None if equal."""
    if data.is_published():
        return None
    found = " / ".join(str(len(data.split(name))) for name in SPLITS)
    published = " / ".join(str(sum(PUBLISHED_COUNTS[name])) for name in SPLITS)
    if found == published:
        return f"{data.source}: the split sizes are those of the published FER2013 ({found}), its class counts are not"
    return f"{data.source}: {found} images in {' / '.join(SPLITS)}, the published FER2013 has {published}"


def summarise(data: Dataset) -> dict:
    """Return the report of `prepare_data.py` in JSON types: counts, duplicates, constant images.

    `published_counts` is None for data that do not have the form of FER2013.
    """
    published = {name: list(counts) for name, counts in PUBLISHED_COUNTS.items()}
    duplicates = find_duplicates(data)
    return {
        "source": data.source,
        "fingerprint": data.fingerprint(),
        "class_names": list(data.class_names),
        "counts": {name: counts.tolist() for name, counts in class_counts(data).items()},
        "image_shape": list(data.image_shape),
        "published_counts": published if data.has_form_of_fer2013() else None,
        "duplicates": {
            "groups": len(duplicates.groups),
            "surplus_images": duplicates.surplus,
            "conflicting_label_groups": [list(group) for group in duplicates.conflicting],
            "twins_in_train": {name: list(row_ids) for name, row_ids in duplicates.twins_in_train.items()},
        },
        "constant_images": {name: list(row_ids) for name, row_ids in constant_images(data).items()},
    }


def summary_text(summary: dict) -> str:
    """Format the result of `summarise` as a table and a few lines for a terminal."""
    names, published = summary["class_names"], summary["published_counts"]
    note = ", with the published FER2013 in brackets" if published else ""
    size = " x ".join(map(str, summary["image_shape"][:2])) + (" RGB" if len(summary["image_shape"]) == 3 else " gray")
    width = max(15, *(len(name) + 2 for name in names))
    lines = [f"{summary['source']}: {size} images by class{note}"]
    lines.append(" " * 12 + "".join(f"{name:>{width}}" for name in (*names, "all")))
    for split in SPLITS:
        found = summary["counts"][split]
        cells = [str(n) for n in (*found, sum(found))]
        if published:
            cells = [f"{n} ({p})" for n, p in zip(cells, (*published[split], sum(published[split])), strict=True)]
        lines.append(f"{split:12}" + "".join(f"{cell:>{width}}" for cell in cells))
    duplicates = summary["duplicates"]
    lines.append(
        f"exact duplicates: {duplicates['groups']} groups, {duplicates['surplus_images']} surplus images, "
        f"{len(duplicates['conflicting_label_groups'])} groups with conflicting labels"
    )
    twins = ", ".join(f"{len(row_ids)} {name} images" for name, row_ids in duplicates["twins_in_train"].items())
    lines.append(f"with a twin in train: {twins}")
    constant = ", ".join(f"{len(row_ids)} in {name}" for name, row_ids in summary["constant_images"].items())
    lines.append(f"constant images: {constant}")
    return "\n".join(lines)
