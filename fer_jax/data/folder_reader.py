"""Image folders: `train|validation|test/<class>/<image>`, and the copy of FER2013 with one merged `test` folder."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_jax.data.class_folders import decide_class_names, label_of_folder
from fer_jax.data.dataset import SPLITS, Dataset, check_no_split_empty, from_rows
from fer_jax.data.fer2013 import IMAGE_SIZE, USAGE_OF_SPLIT
from fer_jax.data.image_files import IMAGE_SUFFIXES, ImageFiles, survey
from fer_jax.data.resident import choose_input
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS

_log = logging.getLogger("fer_jax")

_SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "publictest": "validation",
    "test": "test",
    "privatetest": "test",
}
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")
# In the merged `test` folder the start of a file name tells its official split.
_MERGED_PREFIXES = {f"{USAGE_OF_SPLIT[name]}_": name for name in ("validation", "test")}


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """How an image folder is read.

    Attributes:
      image_size: height and width in pixels to which the images are resized. None: that of the files if they are all
        squares of one size, or else their longest side; at most `input_size`, but 48 pixels are always kept.
      input_size: height and width in pixels of the network's input.
      classes: one of `class_folders.CLASSES`.
      input: one of `resident.INPUTS`: whether the images are read at once or stay in their files.
      class_names: to evaluate a model on the folder, the model's classes. Then no split is required, and
        `validation_fraction` is ignored if there is a validation split.
      colour: to evaluate a model, whether it was trained on RGB; None: as the files are.
    """

    image_size: int | None = None
    input_size: int = 200
    classes: str = "auto"
    input: str = "auto"
    class_names: tuple[str, ...] | None = None
    colour: bool | None = None


def read_folder(
    path: str | Path,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    options: FolderOptions | None = None,
) -> Dataset:
    """Read the images of `<split>/<class>/<image>` below `path`.

    Split folders are recognised by name, in any letter case and by the usual other names (`val`, `PrivateTest`); the
    test folder may be missing. Class folders are expressions or other classes (`class_folders`). Without a
    validation folder, a test folder whose file names start with `PublicTest_` and `PrivateTest_` is split by them; any
    other folder needs `validation_fraction`. Files are gray or RGB as `image_files` says; the data are RGB if any file
    has a coloured pixel. Hidden files are ignored. Row ids are indices into the sorted list of relative paths.

    Args:
      path: the folder that holds the split folders.
      validation_fraction: the fraction (0 to 1, exclusive) of each class of the training images that becomes the
        validation split, for a folder that has none.
      seed: the seed by which these images are chosen.
      options: the default is `FolderOptions()`.

    Returns:
      The data. The images of the splits are arrays, or `ImageFiles` if `options.input` is or resolves to `streaming`.

    Raises:
      InputError: an unknown folder, a file that is no image or one that is refused, an empty split or class, or a
        `validation_fraction` that is missing, out of range, or given where there is a validation split.
    """
    path, options = Path(path), options or FolderOptions()
    evaluating = options.class_names is not None
    try:
        folders = _split_folders(path, evaluating)
        class_names = options.class_names
        if class_names is None:
            names = [entry.name for entry in _class_entries(folders["train"])]
            class_names = decide_class_names(folders["train"], names, options.classes)
        files = sorted(
            (file.relative_to(path).as_posix(), split, label)
            for split, folder in folders.items()
            for file, label in _labelled_files(folder, class_names)
        )
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be listed: {error.strerror}") from error

    names = [name for name, _, _ in files]
    splits = np.array([SPLITS.index(split) for _, split, _ in files], int)
    labels = np.array([label for _, _, label in files], int)
    official = "validation" in folders or _split_merged_test(path, names, splits)
    if official and validation_fraction is not None and not evaluating:
        raise InputError(
            f"{path}: validation_fraction (config.data.validation_fraction) is {validation_fraction}, but this folder "
            "has a validation split of its own; leave the option out"
        )
    if not official and not (evaluating and (validation_fraction is None or "train" not in folders)):
        _take_validation(path, labels, splits, validation_fraction, seed)
    source = f"folder {path.resolve().name}"
    if not evaluating:
        check_no_split_empty(splits, str(path), [name for name in SPLITS if name != "test" or name in folders])
        _check_no_class_empty(path, labels[splits == SPLITS.index("train")], class_names)
    if not names:
        raise InputError(f"{path}: no image in {', '.join(folder.name for folder in folders.values())}")
    images = _image_files(path, names, source, options)
    data = from_rows(images, labels, splits, source, class_names)
    return data.in_memory() if choose_input(options.input, data.nbytes)[0] == "resident" else data


def _image_files(path: Path, names: Sequence[str], source: str, options: FolderOptions) -> ImageFiles:
    """Return the files as images of one shape; log the shape unless every file already has it."""
    found = survey(path, names)
    longest = max(map(max, found.sizes))
    size = options.image_size or min(longest, max(IMAGE_SIZE, options.input_size))
    colour = found.colour if options.colour is None else options.colour
    if found.sizes != ((size, size),):
        kind = "RGB" if colour else "gray"
        extremes = sorted({found.sizes[0], found.sizes[-1]})
        found_sizes = " to ".join(f"{width} x {height}" for width, height in extremes)
        _log.warning("%s: images of %s pixels, read as %d x %d %s", source, found_sizes, size, size, kind)
    return ImageFiles(str(path), tuple(names), found.num_bytes, (size, size, 3) if colour else (size, size))


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _LITTER),
            key=lambda entry: entry.name,
        )


def _split_folders(path: Path, evaluating: bool) -> dict[str, Path]:
    """Return the folder of each split; files beside these folders, such as a read-me, are ignored."""
    found = [entry.name for entry in _entries(path) if entry.is_dir()]
    folders = {}
    for name in found:
        split = _SPLIT_OF_FOLDER.get(name.lower())
        if split is None and not any(other.lower() in _SPLIT_OF_FOLDER for other in found):
            break
        if split is None:
            raise InputError(
                f"{path / name}: no known split folder, expected {', '.join(SPLITS)} "
                f"(or one of {', '.join(sorted(set(_SPLIT_OF_FOLDER) - set(SPLITS)))}); rename or remove it"
            )
        if split in folders:
            raise InputError(f"{path}: {folders[split].name!r} and {name!r} both name the {split} split; keep one")
        folders[split] = path / name
    if not folders or ("train" not in folders and not evaluating):
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(
            f"{path}: no train folder, found {shown or 'no folder at all'}; expected "
            "train|validation|test/<class>/<image>; where there are class folders alone, move them into a folder "
            "`train` and set config.data.validation_fraction (--validation-fraction)"
        )
    return folders


def _class_entries(split_folder: Path) -> list[os.DirEntry]:
    entries = _entries(split_folder)
    for entry in entries:
        if not entry.is_dir():
            raise InputError(f"{entry.path}: a file where class folders are expected; move it away")
        # It becomes the name of a class, in JSON files, reports and pictures.
        if not entry.name.isprintable():
            raise InputError(f"{entry.path}: a class folder whose name cannot be printed, or is no UTF-8; rename it")
    return entries


def _labelled_files(split_folder: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    files = []
    for class_entry in _class_entries(split_folder):
        label = label_of_folder(Path(class_entry.path), class_names)
        for entry in _entries(Path(class_entry.path)):
            if not entry.is_file() or not entry.name.lower().endswith(IMAGE_SUFFIXES):
                raise InputError(
                    f"{entry.path}: not an image file, expected only {', '.join(IMAGE_SUFFIXES)} here; move it away"
                )
            files.append((Path(entry.path), label))
    return files


def _check_no_class_empty(path: Path, train_labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Raise `InputError` if a class of the user's own has no training images; FER2013's classes may be empty."""
    if class_names == EXPRESSIONS:
        return
    counts = np.bincount(train_labels, minlength=len(class_names))
    if not counts.all():
        name = class_names[int(counts.argmin())]
        raise InputError(f"{path}: no training image of the class {name!r}; add some, or remove its folder")


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


def _take_validation(path: Path, labels: np.ndarray, splits: np.ndarray, fraction: float | None, seed: int) -> None:
    """Move `fraction` of each class, rounded to whole images, from train to validation."""
    if fraction is None:
        raise InputError(
            f"{path}: no validation folder, and the files of the test folder do not start with "
            f"{' and '.join(_MERGED_PREFIXES)}; set config.data.validation_fraction (--validation-fraction), "
            "say to 0.1, to take that part of the training images"
        )
    if not 0 < fraction < 1:
        raise InputError(f"config.data.validation_fraction (--validation-fraction) is {fraction}, expected 0 < x < 1")
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero((splits == SPLITS.index("train")) & (labels == label)))
        splits[rows[: round(fraction * len(rows))]] = SPLITS.index("validation")
