"""One call for every source of data: `load`."""

import logging
from pathlib import Path
from typing import Any

from fer_jax.data.csv_cache import read_csv_cached
from fer_jax.data.csv_reader import is_csv_of_faces
from fer_jax.data.dataset import Dataset
from fer_jax.data.folder_reader import read_layout
from fer_jax.data.image_files import IMAGE_SUFFIXES
from fer_jax.data.inspection import differs_from_published
from fer_jax.data.label_lists import read_label_lists
from fer_jax.data.layouts import find_layout, is_saved_by_datasets, parquet_files
from fer_jax.data.options import FolderOptions
from fer_jax.data.packed import is_packed, plain
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError, is_exhaustion
from fer_jax.runtime.user_path import input_path

_log = logging.getLogger("fer_jax")

_ACCEPTED = (
    "expected 'synthetic', 'synthetic:N' (N training images), a .csv file, an image folder "
    "(train|validation|test/<class>/<image>), parquet files, or a folder with the dataset of scripts/prepare_data.py; "
    "docs/own_data.md lists the forms that are read"
)
_SYNTHETIC_TRAIN = 8000


def load(
    source: str | Path,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    folder: FolderOptions | None = None,
) -> Dataset:
    """Load the data set that `source` names.

    Args:
      source: `synthetic` (8,000 training, 1,000 validation and 2,000 test images) or `synthetic:N` (N, N // 8 and
        N // 4), always the same faces; a csv (`read_csv`), parsed once only; an image folder (`read_folder`); parquet
        files (`read_parquet`); RAF-DB or FER+ (`read_label_lists`); or a folder that holds a TFDS dataset
        (`read_tfds`) or one of the others.
      validation_fraction: for data without a validation split, the part of the training images to take.
      seed: the seed by which they are chosen.
      cache_dir: where the arrays of a csv are kept (default: `csv_cache.default_cache_dir()`).
      folder: how the data are read. With its `class_names`, for the evaluation of a model, `validation_fraction` is
        ignored if there is a validation split.

    The logger `fer_jax` warns of a csv or folder in the form of FER2013 whose counts differ from the published ones.

    Raises:
      InputError: no such source, an option that has no effect on it, or bad content.
    """
    text = str(source)
    folder = folder or FolderOptions()
    name, _, count = text.partition(":")
    if name == "synthetic":
        _refuse_options(text, validation_fraction, folder)
        return _synthetic(text, count)
    path = input_path(text, f"{text}:", f"; {_ACCEPTED}")
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(f"{path}: pickles are not read, since unpickling runs code from the file; {_ACCEPTED}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; {_ACCEPTED}")
    options = {"validation_fraction": validation_fraction, "seed": seed, "options": folder}
    try:
        return _read_file(path, cache_dir, options) if path.is_file() else _read_folder(path, cache_dir, options)
    except OSError as error:
        if is_exhaustion(error):
            raise
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error


def _read_file(path: Path, cache_dir: str | Path | None, options: dict[str, Any]) -> Dataset:
    start = plain(path).start(512)
    if start.startswith(_PARQUET):
        # Imported where it is needed, because the import takes a while.
        from fer_jax.data.parquet_reader import read_parquet

        return _compared(read_parquet(path, [path], **options))
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        raise InputError(f"{path}: a single image, expected a data set; scripts/predict.py predicts for images")
    like_csv = path.suffix.lower() in (".csv", ".tsv", ".txt") or start.lstrip()[:1] == b"<"
    if like_csv or is_packed(start) or is_csv_of_faces(plain(path)):
        _refuse_options_of_images(str(path), options["options"])
        return _compared(read_csv_cached(path, cache_dir, **options))
    what = next((f" ({what})" for magic, what in _REFUSED.items() if start.startswith(magic)), "")
    raise InputError(f"{path}: not a known kind of file{what}; {_ACCEPTED}")


_PARQUET = b"PAR1"

_REFUSED = {
    b"\x93NUMPY": "an array of NumPy; write the images as files in class folders",
    b"\x89HDF": "HDF5; write the images as files in class folders, or as a csv",
    b"ARROW1": "Arrow; write it as parquet",
    b"7z\xbc\xaf": "7-Zip; unpack it",
    b"Rar!": "RAR; unpack it",
    b"%PDF": "PDF",
}
"""What other files are, by their first bytes, and what to do with them."""


def _read_folder(path: Path, cache_dir: str | Path | None, options: dict[str, Any]) -> Dataset:
    if not path.is_dir():
        raise InputError(f"{path}: not a known kind of file; {_ACCEPTED}")
    # Imported here, because the import takes half a second and other sources do not need it.
    from fer_jax.data.tfds_builder import find_tfds, read_tfds

    if not is_saved_by_datasets(path) and find_tfds(path) is not None:
        _refuse_options(str(path), options["validation_fraction"], options["options"])
        return read_tfds(path)
    layout = find_layout(path)
    if layout.kind == "csv":
        assert layout.file is not None
        return _read_file(layout.file, cache_dir, options)
    if layout.kind == "parquet":
        from fer_jax.data.parquet_reader import read_parquet

        return _compared(read_parquet(path, parquet_files(layout.path), **options))
    if layout.kind in ("rafdb", "ferplus"):
        return _compared(read_label_lists(path, layout, **options))
    return _compared(read_layout(path, layout, **options))


def _synthetic(text: str, count: str) -> Dataset:
    if text == "synthetic":
        n_train = _SYNTHETIC_TRAIN
    elif count.isascii() and count.isdigit() and len(count) <= 6 and int(count) >= 8:
        n_train = int(count)
    else:
        raise InputError(f"{text!r}: expected synthetic:N with a number N of training images from 8 to 999999")
    return synthetic_faces(n_train, n_train // 8, n_train // 4, seed=0)


def _refuse_options(text: str, validation_fraction: float | None, folder: FolderOptions) -> None:
    """Raise `InputError` for options without effect on a source that has splits and classes of its own.

    An evaluation copies the options of the training, and is not refused.
    """
    if folder.class_names is not None:
        return
    if validation_fraction is not None:
        raise InputError(
            f"config.data.validation_fraction (--validation-fraction) is {validation_fraction}, but {text!r} has a "
            "validation split of its own; leave the option out"
        )
    for key, option, value in (
        ("class_names", "--class-names", folder.names),
        ("classes", "--classes", folder.classes if folder.classes != FolderOptions.classes else None),
        ("skip_damaged", "--skip-damaged", folder.skip_damaged or None),
    ):
        if value is not None:
            raise InputError(
                f"config.data.{key} ({option}) is {value}, but only an image folder and other data with labels of "
                f"their own need it, not {text!r}; leave the option out"
            )
    _refuse_options_of_images(text, folder)


def _refuse_options_of_images(text: str, folder: FolderOptions) -> None:
    """Raise `InputError` for options that need files of images."""
    if folder.class_names is not None:
        return
    if folder.image_size is not None:
        raise InputError(
            f"config.data.image_size is {folder.image_size}, but only the images of a folder are resized, not those of "
            f"{text!r}; leave the option out"
        )
    if folder.classes == "folders":
        raise InputError(
            f"config.data.classes (--classes) is {folder.classes}, but only an image folder has class folders, not "
            f"{text!r}; leave the option out"
        )


def _compared(data: Dataset) -> Dataset:
    if len(data.train) and data.has_form_of_fer2013() and (difference := differs_from_published(data)):
        _log.warning("%s", difference)
    return data
