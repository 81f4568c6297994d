"""Image folders: `train|validation|test/<class>/<image>`, and the copy of FER2013 with one merged `test` folder."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from fer_jax.data.fer2013 import IMAGE_SIZE, SPLITS, USAGE_OF_SPLIT, Fer2013, check_no_split_empty, from_rows
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS, label_of

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
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp")
_CONVERTIBLE = ("1", "P", "LA", "PA", "RGB", "RGBA")
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")
# In the merged `test` folder the start of a file name tells its official split.
_MERGED_PREFIXES = {f"{USAGE_OF_SPLIT[name]}_": name for name in ("validation", "test")}


def read_folder(path: str | Path, *, validation_fraction: float | None = None, seed: int = 0) -> Fer2013:
    """Reads 48x48 gray images from `<split>/<class>/<image>` below `path`.

    Split and class folders are known by name, in any letter case and under the usual other names (`val`,
    `PrivateTest`, `happiness`). Without a validation folder, a test folder whose file names start with `PublicTest_`
    and `PrivateTest_` is split by them; any other folder needs `validation_fraction`. Colour files count if their
    three channels are equal. Hidden files are passed over. Row ids are ranks in the sorted list of relative paths.

    Args:
      path: the folder that holds the split folders.
      validation_fraction: the fraction (0 to 1, exclusive) of each class of the training images that becomes the
        validation split, for a folder that has none.
      seed: of the choice of these images.

    Raises:
      InputError: an unknown folder, a file that is no readable 48x48 gray image, an empty split, or a
        `validation_fraction` that is missing, out of range, or given where there is a validation split.
    """
    path = Path(path)
    try:
        folders = _split_folders(path)
        files = sorted(
            (file.relative_to(path).as_posix(), split, label)
            for split, folder in folders.items()
            for file, label in _labelled_files(folder)
        )
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be listed: {error.strerror}") from error

    names = [name for name, _, _ in files]
    splits = np.array([SPLITS.index(split) for _, split, _ in files], int)
    labels = np.array([label for _, _, label in files], int)
    official = "validation" in folders or _split_merged_test(path, names, splits)
    if official and validation_fraction is not None:
        raise InputError(
            f"{path}: validation_fraction (config.data.validation_fraction) is {validation_fraction}, but this folder "
            "has a validation split of its own; leave the option out"
        )
    if not official:
        _take_validation(path, labels, splits, validation_fraction, seed)
    source = f"folder {path.resolve().name}"
    check_no_split_empty(splits, source)
    images = np.stack([_image(path / name) for name in names])
    return from_rows(images, labels, splits, source)


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _LITTER),
            key=lambda entry: entry.name,
        )


def _split_folders(path: Path) -> dict[str, Path]:
    """The folder of each split; files beside these folders, such as a read-me, do not matter."""
    found = [entry.name for entry in _entries(path) if entry.is_dir()]
    folders = {}
    for name in found:
        split = _SPLIT_OF_FOLDER.get(name.lower())
        if split is None:
            raise InputError(
                f"{path / name}: no known split folder, expected {', '.join(SPLITS)} "
                f"(or one of {', '.join(sorted(set(_SPLIT_OF_FOLDER) - set(SPLITS)))}); rename or remove it"
            )
        if split in folders:
            raise InputError(f"{path}: {folders[split].name!r} and {name!r} both name the {split} split; keep one")
        folders[split] = path / name
    for split in ("train", "test"):
        if split not in folders:
            raise InputError(
                f"{path}: no {split} folder, found {', '.join(found) or 'no folder at all'}; expected "
                f"train|validation|test/<class>/<image>, with the classes {', '.join(EXPRESSIONS)}"
            )
    return folders


def _labelled_files(split_folder: Path) -> list[tuple[Path, int]]:
    files = []
    for class_entry in _entries(split_folder):
        if not class_entry.is_dir():
            raise InputError(f"{class_entry.path}: a file where class folders are expected; move it away")
        try:
            label = label_of(class_entry.name)
        except KeyError:
            raise InputError(
                f"{class_entry.path}: unknown class folder, expected {', '.join(EXPRESSIONS)}; rename or remove it"
            ) from None
        for entry in _entries(Path(class_entry.path)):
            if not entry.is_file() or not entry.name.lower().endswith(_IMAGE_SUFFIXES):
                raise InputError(
                    f"{entry.path}: not an image file, expected only {', '.join(_IMAGE_SUFFIXES)} here; move it away"
                )
            files.append((Path(entry.path), label))
    return files


def _split_merged_test(path: Path, names: list[str], splits: np.ndarray) -> bool:
    """Moves `PublicTest_` files of the test folder to validation; False if no file there bears an official name."""
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
    """Moves the nearest whole number to `fraction` of each class from train to validation."""
    if fraction is None:
        raise InputError(
            f"{path}: no validation folder, and the files of the test folder do not start with "
            f"{' and '.join(_MERGED_PREFIXES)}; set config.data.validation_fraction (--validation-fraction), "
            "say to 0.1, to take that part of the training images"
        )
    if not 0 < fraction < 1:
        raise InputError(f"config.data.validation_fraction (--validation-fraction) is {fraction}, expected 0 < x < 1")
    rng = np.random.default_rng(seed)
    for label in range(len(EXPRESSIONS)):
        rows = rng.permutation(np.flatnonzero((splits == SPLITS.index("train")) & (labels == label)))
        splits[rows[: round(fraction * len(rows))]] = SPLITS.index("validation")


def _image(file: Path) -> np.ndarray:
    """The gray image as uint8 [48, 48]."""
    try:
        with Image.open(file) as image:
            size, mode = image.size, image.mode
            # Modes of more than 8 bits would lose their lower bits in a conversion: they are refused below.
            pixels = np.asarray(image if mode not in _CONVERTIBLE else image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: not a readable image: {error}; get the file anew") from error
    if size != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"{file}: {size[0]} x {size[1]} pixels, expected {IMAGE_SIZE} x {IMAGE_SIZE}; crop the face and resize it"
        )
    if mode == "L":
        return pixels
    if mode not in _CONVERTIBLE:
        raise InputError(f"{file}: image mode {mode}, expected 8-bit gray; convert it first")
    gray, alpha = pixels[..., 0], pixels[..., 3]
    if (pixels[..., :3] != gray[..., None]).any() or (alpha != 255).any():
        raise InputError(f"{file}: a coloured or transparent image, expected gray; convert it first")
    return gray
