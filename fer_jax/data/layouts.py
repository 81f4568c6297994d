"""Find out what a folder holds: images by split and class, by class alone, rows in files, or labels in lists."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from fer_jax.data.csv_reader import csv_like, find_csv, is_csv_of_faces
from fer_jax.data.fer2013 import SPLIT_OF_NAME
from fer_jax.data.image_files import IMAGE_SUFFIXES
from fer_jax.data.packed import members, plain
from fer_jax.errors import InputError
from fer_jax.expressions import expression_of

_log = logging.getLogger("fer_jax")

_LITTER = (
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
"""What systems leave in folders, in lower case; hidden files besides."""

_PACKED = (".gz", ".tgz", ".zip", ".bz2", ".xz", ".tar")

_DEEP = 4
"""Folders within folders that are searched for a data set."""

_MANY = 300
"""The most folders that are searched for one."""

RAFDB_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"""RAF-DB's list of labels, as its authors and as others spell it."""

FERPLUS_SPLITS = {"fer2013train": "train", "fer2013valid": "validation", "fer2013test": "test"}
"""The folders of FER+, in lower case; each has its images and a `label.csv`."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a folder holds.

    `kind` is `splits` (folders of classes by split), `classes` (folders of images by class), `images` (images without
    folders), `csv` (`file` holds faces as rows), `parquet`, `rafdb` (`file` is its list) or `ferplus`; `path` is the
    folder in which that begins.
    """

    kind: str
    path: Path
    file: Path | None = None


def find_layout(path: Path) -> Layout:
    """Return what the folder `path` holds, or the one folder below it that holds a data set.

    Raises `InputError` if it holds nothing that is known, or more than one data set; the message says what was found.
    """
    if is_saved_by_datasets(path):
        raise InputError(
            f"{path}: a data set that the library `datasets` has saved; write it as parquet by "
            "split.to_parquet('DIR/train.parquet') for each split, and give DIR"
        )
    found = _search(path, _DEEP, [_MANY])
    if not found:
        raise InputError(f"{path}: no train folder, found {_shown(path)}; {_advice(path)}")
    if len(found) > 1:
        names = ", ".join(str(layout.file or layout.path) for layout in found[:5])
        raise InputError(f"{path}: holds several data sets ({names}); give the one you mean")
    (layout,) = found
    if layout.path != path or layout.file is not None:
        _log.warning("%s: reading %s", path, layout.file or layout.path)
    return layout


def entries(folder: Path) -> list[os.DirEntry]:
    """Return what lies in a folder, but for hidden files and what systems leave there, sorted by name."""
    with os.scandir(folder) as found:
        return sorted(
            (entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in _LITTER),
            key=lambda entry: entry.name,
        )


def is_image(entry: os.DirEntry) -> bool:
    """Return whether an entry is a file that is called an image."""
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()


def is_saved_by_datasets(path: Path) -> bool:
    """Return whether a folder was written by the library `datasets`, in its own format."""
    return any(path.joinpath(name).is_file() for name in ("dataset_dict.json", "state.json")) or any(
        path.glob("*.arrow")
    )


def parquet_files(path: Path) -> list[Path]:
    """Return the parquet files in a folder and up to two levels below, sorted."""
    found = {file for depth in ("", "*/", "*/*/") for file in path.glob(depth + "*.parquet") if file.is_file()}
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(path).parts))


def _search(path: Path, levels: int, left: list[int]) -> list[Layout]:
    """Return the data sets in `path` and so many levels below; `left` has the number of folders to search at most."""
    left[0] -= 1
    inside = entries(path)
    folders = [entry for entry in inside if entry.is_dir()]
    files = [Path(entry.path) for entry in inside if entry.is_file()]
    if here := _at(path, folders, files):
        return [here]
    if not levels or left[0] < len(folders):
        return []
    below = [layout for entry in folders for layout in _search(Path(entry.path), levels - 1, left)]
    # Pictures beside a data set, of its paper for one, are none.
    return [layout for layout in below if layout.kind != "images"] or below


def _at(path: Path, folders: Sequence[os.DirEntry], files: Sequence[Path]) -> Layout | None:
    """Return the data set that begins in this very folder."""
    splits = [entry for entry in folders if entry.name.lower() in SPLIT_OF_NAME]
    if any(_has_folder(entry.path) for entry in splits):
        return Layout("splits", path)
    if any(entry.name.lower() in FERPLUS_SPLITS and Path(entry.path, "label.csv").is_file() for entry in folders):
        return Layout("ferplus", path)
    if lists := [file for name in RAFDB_LISTS for file in (*path.glob(name), *path.glob(f"*/{name}"))]:
        return Layout("rafdb", path, lists[0])
    if any(file.suffix.lower() == ".parquet" for file in files):
        return Layout("parquet", path)
    if splits and parquet_files(path):
        return Layout("parquet", path)
    if file := _csv_in(path, files):
        return Layout("csv", path, file)
    if splits:
        return Layout("splits", path)
    if any(_has_image(entry.path) for entry in folders):
        return Layout("classes", path)
    return Layout("images", path) if any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in files) else None


def _csv_in(path: Path, files: Sequence[Path]) -> Path | None:
    """Return the csv of faces in a folder, which may be packed."""
    as_they_are = [plain(file) for file in files if csv_like(file.name)]
    if any(map(is_csv_of_faces, as_they_are)):
        return find_csv(as_they_are, str(path)).path
    holding = [file for file in files if file.name.lower().endswith(_PACKED) and _holds_csv(file)]
    if len(holding) > 1:
        names = ", ".join(file.name for file in holding)
        raise InputError(f"{path}: holds several archives with csv files of faces ({names}); give the one you mean")
    return holding[0] if holding else None


def _holds_csv(file: Path) -> bool:
    try:
        return is_csv_of_faces(find_csv(members(file), str(file)))
    except InputError:
        return False


def _has_folder(path: str) -> bool:
    return any(entry.is_dir() for entry in entries(Path(path)))


def _has_image(path: str) -> bool:
    return any(map(is_image, entries(Path(path))))


def _shown(path: Path) -> str:
    found = [entry.name + ("/" if entry.is_dir() else "") for entry in entries(path)]
    return (", ".join(found[:5]) + (", ..." if len(found) > 5 else "")) or "nothing at all"


def _advice(path: Path) -> str:
    names = [entry.name.lower() for entry in entries(path)]
    if packed := [name for name in names if name.endswith(_PACKED)]:
        return f"give the archive itself if it holds a csv, or unpack {packed[0]}"
    if any(name.endswith((".tfrecord", ".record")) or ".tfrecord-" in name for name in names):
        return "TFRecord files are not read: write the images as files, in train|validation|test/<class>/<image>"
    if any(expression_of(name) for name in names):
        return "its class folders hold no image files; expected train|validation|test/<class>/<image>"
    return (
        "expected train|validation|test/<class>/<image>, <class>/<image> with config.data.validation_fraction "
        "(--validation-fraction), a csv with emotion and pixels, parquet files, or RAF-DB or FER+ as they come"
    )
