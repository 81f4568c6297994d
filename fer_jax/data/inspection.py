"""What is in a data set: counts by class, exact duplicates across splits, and images without content."""

import collections
import dataclasses

import numpy as np

from fer_jax.data.fer2013 import PUBLISHED_COUNTS, SPLITS, Fer2013
from fer_jax.expressions import NUM_EXPRESSIONS


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
        """Images that would go if one of each group stayed."""
        return sum(len(group) - 1 for group in self.groups)


def find_duplicates(data: Fer2013) -> Duplicates:
    """The exact duplicates among all images of all splits."""
    places = collections.defaultdict(list)
    for name in SPLITS:
        split = data.split(name)
        for image, label, row_id in zip(split.images, split.labels.tolist(), split.row_ids.tolist(), strict=True):
            places[image.tobytes()].append((row_id, label, name))
    groups, conflicting = [], []
    twins = {name: [] for name in SPLITS if name != "train"}
    for group in places.values():
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


def class_counts(data: Fer2013) -> dict[str, np.ndarray]:
    """Images by split and class: int64 [7] for each split, in the order of `data.class_names`."""
    return {name: np.bincount(data.split(name).labels, minlength=NUM_EXPRESSIONS) for name in SPLITS}


def constant_images(data: Fer2013) -> dict[str, tuple[int, ...]]:
    """The row ids, by split, of images whose pixels all have one value."""
    found = {}
    for name in SPLITS:
        split = data.split(name)
        pixels = split.images.reshape(len(split), -1)
        found[name] = tuple(split.row_ids[pixels.min(axis=1) == pixels.max(axis=1)].tolist())
    return found


def differs_from_published(data: Fer2013) -> str | None:
    """One line that says how the split sizes or class counts differ from the published FER2013; None if equal."""
    if data.is_published():
        return None
    found = " / ".join(str(len(data.split(name))) for name in SPLITS)
    published = " / ".join(str(sum(PUBLISHED_COUNTS[name])) for name in SPLITS)
    if found == published:
        return f"{data.source}: the split sizes are those of the published FER2013 ({found}), its class counts are not"
    return f"{data.source}: {found} images in {' / '.join(SPLITS)}, the published FER2013 has {published}"


def summarise(data: Fer2013) -> dict:
    """What `prepare_data.py` reports, in JSON types: counts beside the published ones, duplicates, constant images."""
    duplicates = find_duplicates(data)
    return {
        "source": data.source,
        "fingerprint": data.fingerprint(),
        "class_names": list(data.class_names),
        "counts": {name: counts.tolist() for name, counts in class_counts(data).items()},
        "published_counts": {name: list(counts) for name, counts in PUBLISHED_COUNTS.items()},
        "duplicates": {
            "groups": len(duplicates.groups),
            "surplus_images": duplicates.surplus,
            "conflicting_label_groups": [list(group) for group in duplicates.conflicting],
            "twins_in_train": {name: list(row_ids) for name, row_ids in duplicates.twins_in_train.items()},
        },
        "constant_images": {name: list(row_ids) for name, row_ids in constant_images(data).items()},
    }


def summary_text(summary: dict) -> str:
    """The result of `summarise` as a table and a few lines for a terminal."""
    names = summary["class_names"]
    lines = [f"{summary['source']}: images by class, with the published FER2013 in brackets"]
    lines.append(" " * 12 + "".join(f"{name:>15}" for name in (*names, "all")))
    for split in SPLITS:
        found, published = summary["counts"][split], summary["published_counts"][split]
        cells = [f"{n} ({p})" for n, p in zip((*found, sum(found)), (*published, sum(published)), strict=True)]
        lines.append(f"{split:12}" + "".join(f"{cell:>15}" for cell in cells))
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
