"""Image folders: by split and class, by class alone, and the copy of FER2013 with one merged `test` folder."""

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_jax.data.classes import decide_classes, is_known, label_among, naming_advice, rename
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import SPLIT_OF_NAME, USAGE_OF_SPLIT
from fer_jax.data.image_files import IMAGE_SUFFIXES
from fer_jax.data.layouts import Layout, entries, find_layout, is_image
from fer_jax.data.listing import Listing, read_pictures, to_dataset
from fer_jax.data.options import FolderOptions
from fer_jax.errors import InputError

_log = logging.getLogger("fer_jax")

# In the merged `test` folder the start of a file name tells its official split.
_MERGED_PREFIXES = {f"{USAGE_OF_SPLIT[name]}_": name for name in ("validation", "test")}

_MISSPELT = 0.75
"""From this likeness to the name of a split on, a folder beside the splits is one that is misspelt."""


def read_folder(
    path: str | Path,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    options: FolderOptions | None = None,
) -> Dataset:
    """Read the images of `<split>/<class>/<image>` below `path`, or of `<class>/<image>`.

    Split folders are recognised by name, in any letter case and by the usual other names (`val`, `PrivateTest`); the
    test folder may be missing. Class folders are expressions or other classes (`classes`). Without a validation
    folder, a test folder whose file names start with `PublicTest_` and `PrivateTest_` is split by them; any other
    folder needs `validation_fraction`. Files are gray or RGB as `image_files` says; the data are RGB if any file has a
    coloured pixel. Hidden files are ignored. Row ids are indices into the sorted list of relative paths.

    Args:
      path: the folder that holds the split folders, at most a few levels below.
      validation_fraction: the fraction (0 to 1, exclusive) of each class of the training images that becomes the
        validation split, for a folder that has none.
      seed: the seed by which these images are chosen.
      options: the default is `FolderOptions()`.

    Returns:
      The data. The images of the splits are arrays, or `ImageFiles` if `options.input` is or resolves to `streaming`.

    Raises:
      InputError: an unknown folder, files that are no images or are refused, an empty split or class, or a
        `validation_fraction` that is missing, out of range, or given where there is a validation split.
    """
    path, options = Path(path), options or FolderOptions()
    try:
        layout = find_layout(path)
        return read_layout(path, layout, validation_fraction=validation_fraction, seed=seed, options=options)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be listed: {error.strerror}") from error


def read_layout(
    path: Path, layout: Layout, *, validation_fraction: float | None, seed: int, options: FolderOptions
) -> Dataset:
    """Read the images of the folder `path`, in which `layout` (`splits`, `classes` or `images`) was found."""
    evaluating = options.class_names is not None
    root = layout.path
    class_folders = _class_folders(layout, options)
    found = list(dict.fromkeys(folder.name for _, folder in class_folders))
    names = rename(root, found, options.names, "class folder", strict=not evaluating)
    class_names, label_of = _labels(layout, class_folders, names, options)
    if not evaluating and options.names is None and (advice := naming_advice(class_names)):
        _log.warning("%s: %s", root, advice)

    files, damaged = [], []
    for split, folder in class_folders:
        label = label_of[names[folder.name]]
        good, bad = _images_in(folder)
        files += [(file.relative_to(root).as_posix(), split, -1 if label is None else label) for file in good]
        damaged += [(Path(file).relative_to(root).as_posix(), error) for file, error in bad]
    files.sort()
    paths = [name for name, _, _ in files]
    splits = np.array([-1 if split is None else SPLITS.index(split) for _, split, _ in files], int)
    in_folders = {split for split, _ in class_folders} | _promised(layout)
    if "validation" not in in_folders and _split_merged_test(root, paths, splits):
        in_folders.add("validation")
    if layout.kind == "splits" and "test" in in_folders:
        prefixes = " and ".join(_MERGED_PREFIXES)
        without = f"no validation folder, and the files of the test folder do not start with {prefixes}"
    else:
        without = "no validation folder" if layout.kind == "splits" else "class folders without a split"

    def read(chosen: np.ndarray):
        names = [paths[index] for index in chosen]
        return read_pictures(str(path), [root / name for name in names], options, (str(root), names))

    listing = Listing(
        where=str(root),
        source=f"folder {path.resolve().name}",
        class_names=class_names,
        labels=np.array([label for _, _, label in files], int),
        splits=splits,
        row_ids=np.arange(len(files)),
        read=read,
        names=paths,
        unknown=[name for name, label in label_of.items() if label is None],
        files=paths,
        damaged=sorted(damaged, key=lambda found: found[0]),
        promised=tuple(name for name in SPLITS if name in in_folders),
        without_validation=without,
    )
    return to_dataset(listing, validation_fraction=validation_fraction, seed=seed, options=options)


def _class_folders(layout: Layout, options: FolderOptions) -> list[tuple[str | None, Path]]:
    """Return the class folders, each with its split, or None where the layout has no splits."""
    path, evaluating = layout.path, options.class_names is not None
    if layout.kind == "images":
        # A class folder on its own, for an evaluation.
        if not evaluating or not is_known(path.name, options):
            raise InputError(
                f"{path}: images without class folders; scripts/predict.py predicts for them, and to train or evaluate "
                "sort them into a folder for each class"
            )
        return [(None, path)]
    if layout.kind == "classes":
        found = _class_entries(path)
        empty = [entry for entry in found if not any(map(is_image, entries(Path(entry.path))))]
        if empty:
            _log.warning("%s: passed over %s, without an image", path, ", ".join(entry.name for entry in empty))
        return [(None, Path(entry.path)) for entry in found if entry not in empty]
    return [
        (split, Path(entry.path))
        for split, folder in _split_folders(path, evaluating).items()
        for entry in _class_entries(_unnested(folder))
    ]


def _promised(layout: Layout) -> set[str]:
    """Return the splits that have a folder, with images or without."""
    if layout.kind != "splits":
        return set()
    return {
        SPLIT_OF_NAME[e.name.lower()] for e in entries(layout.path) if e.name.lower() in SPLIT_OF_NAME and e.is_dir()
    }


def _labels(
    layout: Layout, class_folders: Sequence[tuple[str | None, Path]], names: Mapping[str, str], options: FolderOptions
) -> tuple[tuple[str, ...], dict[str, int | None]]:
    """Return the class names, and the class of each name; training alone decides which there are."""
    by_parent: dict[Path, list[str]] = {}
    for _, folder in class_folders:
        by_parent.setdefault(folder.parent, []).append(names[folder.name])
    if options.class_names is not None:
        labels: dict[str, int | None] = {}
        for parent, inside in by_parent.items():
            labels |= decide_classes(parent, inside, options)[1]
        return options.class_names, labels
    train = next((folder.parent for split, folder in class_folders if split in ("train", None)), None)
    if train is None:
        train = layout.path / next(e.name for e in entries(layout.path) if SPLIT_OF_NAME.get(e.name.lower()) == "train")
    class_names, labels = decide_classes(train, list(dict.fromkeys(by_parent.get(train, []))), options)
    for parent, inside in by_parent.items():
        labels |= {name: label_among(parent, name, class_names) for name in inside}
    return class_names, labels


def _split_folders(path: Path, evaluating: bool) -> dict[str, Path]:
    """Return the folder of each split; files and other folders beside them, such as a read-me, are passed over."""
    found = [entry.name for entry in entries(path) if entry.is_dir()]
    folders: dict[str, Path] = {}
    for name in found:
        split = SPLIT_OF_NAME.get(name.lower())
        if split is None:
            if _may_be_a_split(path / name):
                raise InputError(
                    f"{path / name}: no known split folder, expected {', '.join(SPLITS)} "
                    f"(or one of {', '.join(sorted(set(SPLIT_OF_NAME) - set(SPLITS)))}); rename or remove it"
                )
            _log.warning("%s: passed over, it is no split", path / name)
            continue
        if split in folders:
            raise InputError(f"{path}: {folders[split].name!r} and {name!r} both name the {split} split; keep one")
        folders[split] = path / name
    if "train" not in folders and not evaluating:
        raise InputError(
            f"{path}: no train folder, found {', '.join(found[:5])}; expected train|validation|test/<class>/<image>; "
            f"to train on one of these alone, give {path / found[0]} with config.data.validation_fraction "
            "(--validation-fraction)"
        )
    return folders


def _may_be_a_split(folder: Path) -> bool:
    if difflib.get_close_matches(folder.name.lower(), SPLIT_OF_NAME, n=1, cutoff=_MISSPELT):
        return True
    inside = [Path(entry.path) for entry in entries(folder) if entry.is_dir()]
    return any(is_image(entry) for below in inside for entry in entries(below))


def _unnested(folder: Path) -> Path:
    """Return the folder that holds the class folders, where each level above it holds that one folder alone."""
    while True:
        inside = entries(folder)
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        below = entries(Path(inside[0].path))
        if not below or not all(entry.is_dir() for entry in below):
            return folder
        folder = Path(inside[0].path)


def _class_entries(split_folder: Path) -> list[os.DirEntry]:
    found = []
    for entry in entries(split_folder):
        if not entry.is_dir():
            if is_image(entry):
                raise InputError(f"{entry.path}: a file where class folders are expected; move it away")
            _log.warning("%s: passed over, it is no class folder", entry.path)
            continue
        # It becomes the name of a class, in JSON files, reports and pictures.
        if not entry.name.isprintable():
            raise InputError(f"{entry.path}: a class folder whose name cannot be printed, or is no UTF-8; rename it")
        found.append(entry)
    if {"images", "labels"} <= {entry.name.lower() for entry in found}:
        raise InputError(
            f"{split_folder}: holds images and labels in the layout of YOLO, for detection; sort the faces into a "
            "folder for each class"
        )
    return found


def _images_in(folder: Path) -> tuple[list[Path], list[tuple[str, InputError]]]:
    """Return the images in a class folder, and what else is there, with the reason why it cannot be used."""
    good, bad = [], []
    for entry in entries(folder):
        if is_image(entry):
            good.append(Path(entry.path))
            continue
        if entry.is_dir():
            what = f", but a folder inside a class folder; move its images up, into {folder}"
        elif entry.is_symlink() and not os.path.exists(entry.path):
            what = f", but a link to {os.readlink(entry.path)}, which is not there; remove it"
        elif entry.name.lower().endswith((".heic", ".heif", ".avif")):
            what = " of a kind that is read; convert it to JPEG or PNG"
        else:
            what = f", expected only {', '.join(IMAGE_SUFFIXES)} here; move it away"
        bad.append((entry.path, InputError(f"{entry.path}: not an image file{what}")))
    return good, bad


def _split_merged_test(path: Path, names: list[str], splits: np.ndarray) -> bool:
    """Move `PublicTest_` files of the test folder to validation; return False if no file has an official name."""
    rows = np.flatnonzero(splits == SPLITS.index("test"))
    by_row = {}
    for row in rows:
        file_name = names[row].rpartition("/")[2]
        by_row[row] = next((split for prefix, split in _MERGED_PREFIXES.items() if file_name.startswith(prefix)), None)
    unnamed = [row for row, split in by_row.items() if split is None]
    # A folder of PrivateTest_ files alone is a plain test folder.
    if len(unnamed) == len(rows) or set(by_row.values()) == {"test"}:
        return False
    if unnamed:
        raise InputError(
            f"{path / names[unnamed[0]]}: the file name starts with neither {' nor '.join(_MERGED_PREFIXES)}, though "
            "other files of this test folder do; restore the names, or make a validation folder"
        )
    for row, split in by_row.items():
        splits[row] = SPLITS.index(split)
    return True
