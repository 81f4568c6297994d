"""One call for every source of data: `load`."""

import logging
from pathlib import Path

from fer_jax.data.csv_cache import read_csv_cached
from fer_jax.data.dataset import Dataset
from fer_jax.data.folder_reader import FolderOptions, read_folder
from fer_jax.data.inspection import differs_from_published
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.runtime.user_path import user_path

_log = logging.getLogger("fer_jax")

_ACCEPTED = (
    "expected 'synthetic', 'synthetic:N' (N training images), a .csv file, an image folder "
    "(train|validation|test/<class>/<image>), or a folder with the dataset of scripts/prepare_data.py"
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
        N // 4), always the same faces; a csv (`read_csv`), parsed once only; an image folder (`read_folder`); or a
        folder that holds a TFDS dataset (`read_tfds`).
      validation_fraction: for an image folder without a validation split, the part of the training images to take.
      seed: the seed by which they are chosen.
      cache_dir: where the arrays of a csv are kept (default: `csv_cache.default_cache_dir()`).
      folder: how an image folder is read; no other source uses it. With its `class_names`, for the evaluation of a
        model, `validation_fraction` is ignored if there is a validation split.

    The logger `fer_jax` warns of a csv or folder in the form of FER2013 whose counts differ from the published ones.

    Raises:
      InputError: no such source, an option that has no effect on it, or bad content.
    """
    text = str(source)
    folder = folder or FolderOptions()
    name, _, count = text.partition(":")
    if name == "synthetic":
        _refuse_folder_options(text, validation_fraction, folder)
        return _synthetic(text, count)
    path = user_path(text, f"{text}:", f"; {_ACCEPTED}")
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(f"{path}: pickles are not read, since unpickling runs code from the file; {_ACCEPTED}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; {_ACCEPTED}")
    if path.is_file() and path.suffix.lower() == ".csv":
        _refuse_folder_options(text, validation_fraction, folder)
        return _compared(read_csv_cached(path, cache_dir))
    if not path.is_dir():
        raise InputError(f"{path}: not a known kind of file; {_ACCEPTED}")

    # Imported here, because the import takes half a second and other sources do not need it.
    from fer_jax.data.tfds_builder import find_tfds, read_tfds

    if find_tfds(path) is not None:
        _refuse_folder_options(text, validation_fraction, folder)
        return read_tfds(path)
    return _compared(read_folder(path, validation_fraction=validation_fraction, seed=seed, options=folder))


def _synthetic(text: str, count: str) -> Dataset:
    if text == "synthetic":
        n_train = _SYNTHETIC_TRAIN
    elif count.isascii() and count.isdigit() and len(count) <= 6 and int(count) >= 8:
        n_train = int(count)
    else:
        raise InputError(f"{text!r}: expected synthetic:N with a number N of training images from 8 to 999999")
    return synthetic_faces(n_train, n_train // 8, n_train // 4, seed=0)


def _refuse_folder_options(text: str, validation_fraction: float | None, folder: FolderOptions) -> None:
    """Raise `InputError` for options without effect on this source, except in evaluation, which copies them."""
    if folder.class_names is not None:
        return
    if validation_fraction is not None:
        raise InputError(
            f"config.data.validation_fraction (--validation-fraction) is {validation_fraction}, but {text!r} has a "
            "validation split of its own; leave the option out"
        )
    if folder.image_size is not None:
        raise InputError(
            f"config.data.image_size is {folder.image_size}, but only the images of a folder are resized, not those of "
            f"{text!r}; leave the option out"
        )
    if folder.classes != FolderOptions.classes:
        raise InputError(
            f"config.data.classes (--classes) is {folder.classes}, but only an image folder has class folders, not "
            f"{text!r}; leave the option out"
        )


def _compared(data: Dataset) -> Dataset:
    if data.has_form_of_fer2013() and (difference := differs_from_published(data)):
        _log.warning("%s", difference)
    return data
