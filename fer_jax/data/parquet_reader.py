"""Read parquet files as the hubs export data sets: encoded images and labels by row, a file or more for each split."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from fer_jax.data.classes import decide_classes, rename
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import SPLIT_OF_NAME
from fer_jax.data.image_files import EncodedImage
from fer_jax.data.listing import Listing, read_pictures, to_dataset
from fer_jax.data.options import FolderOptions
from fer_jax.errors import InputError, first_line, shown
from fer_jax.expressions import EIGHT_EXPRESSIONS

_IMAGE_COLUMNS = ("image", "img", "image_bytes", "img_bytes", "jpg", "png", "face", "pixels")
_LABEL_COLUMNS = ("label", "labels", "emotion", "expression", "class", "cls")


def read_parquet(
    path: Path,
    files: Sequence[Path],
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    options: FolderOptions | None = None,
) -> Dataset:
    """Read the images and labels of parquet files; their names or folders begin with the split, or they have none.

    Images are encoded (PNG, JPEG, ...) bytes, alone or with a path beside them. Labels are numbers, whose names are
    those that the file carries for them, or else FER2013's; or they are words. Row ids count through the sorted files.

    Args:
      path: the file or folder that the user gave.
      files: the files, sorted.
      validation_fraction: as for `read_folder`.
      seed: the seed by which validation images are chosen.
      options: the default is `FolderOptions()`.

    Raises:
      InputError: a file that is damaged or has other columns, and what `to_dataset` raises.
    """
    options = options or FolderOptions()
    pictures, labels, splits = [], [], []
    for file in files:
        found, words = _read(file)
        pictures += found
        labels += words
        splits += [_split_of(file, path)] * len(found)
    if not pictures:
        raise InputError(f"{path}: no row in {len(files)} parquet files")
    distinct = list(dict.fromkeys(labels))
    names = rename(path, distinct, options.names, "label", strict=options.class_names is None)
    class_names, by_name = decide_classes(path, list(dict.fromkeys(names.values())), options, word="label")
    by_label = {label: by_name[name] for label, name in names.items()}

    def read(chosen: np.ndarray):
        return read_pictures(str(path), [pictures[index] for index in chosen], options)

    listing = Listing(
        where=str(path),
        source=f"parquet {path.resolve().name}",
        class_names=class_names,
        labels=np.array([-1 if by_label[label] is None else by_label[label] for label in labels], int),
        splits=np.array(splits, int),
        row_ids=np.arange(len(pictures)),
        read=read,
        names=[Path(picture.name).name for picture in pictures],
        unknown=[name for name, label in by_name.items() if label is None],
        promised=("train", *(["validation"] if SPLITS.index("validation") in splits else [])),
        without_validation="no file whose name begins with `validation`",
    )
    return to_dataset(listing, validation_fraction=validation_fraction, seed=seed, options=options)


def _read(file: Path) -> tuple[list[EncodedImage], list[str]]:
    """Return the images of a file, and their labels as words."""
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            image, label = (_column(schema, columns) for columns in (_IMAGE_COLUMNS, _LABEL_COLUMNS))
            if image is None or label is None:
                raise InputError(
                    f"{file}: the columns {', '.join(schema.names[:10])}; expected an image ({_IMAGE_COLUMNS[0]}, of "
                    f"encoded bytes) and a label ({_LABEL_COLUMNS[0]})"
                )
            table = opened.read(columns=[image, label])
    except (OSError, pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise InputError(f"{file}: cannot be read as parquet: {first_line(error)}; download it again") from error
    images = table.column(image)
    if pyarrow.types.is_struct(images.type) and "bytes" in [field.name for field in images.type]:
        images = pyarrow.compute.struct_field(images, "bytes")
    if not (pyarrow.types.is_binary(images.type) or pyarrow.types.is_large_binary(images.type)):
        raise InputError(
            f"{file}: the column {image} is of {shown(str(images.type))}, expected the encoded bytes of image files; "
            "write the images as files, in train|validation|test/<class>/<image>"
        )
    pictures = [EncodedImage(f"{file}, row {row}", content or b"") for row, content in enumerate(images.to_pylist())]
    return pictures, _words(file, label, table.column(label), _label_names(schema, label))


def _column(schema: pyarrow.Schema, known: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(schema.names)}
    return next((by_lower[name] for name in known if name in by_lower), None)


def _label_names(schema: pyarrow.Schema, column: str) -> Sequence[str]:
    """Return the names that `datasets` writes into a file for its numbers, or FER2013's."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError):
        return EIGHT_EXPRESSIONS
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else EIGHT_EXPRESSIONS


def _words(file: Path, column: str, values: pyarrow.ChunkedArray, names: Sequence[str]) -> list[str]:
    kind = values.type
    if pyarrow.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        words = values.to_pylist()
    elif pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        words = [_name_of(value, names) for value in values.to_pylist()]
    else:
        raise InputError(f"{file}: the column {column} is of {shown(str(kind))}, expected numbers or words")
    for row, word in enumerate(words):
        if not word or not word.isprintable():
            raise InputError(
                f"{file}, row {row}: {column} {shown(values[row].as_py())}, expected a number from 0 to "
                f"{len(names) - 1}, or a name"
            )
    return words


def _name_of(value: float | None, names: Sequence[str]) -> str | None:
    return names[int(value)] if value is not None and value == value // 1 and 0 <= value < len(names) else None


def _split_of(file: Path, root: Path) -> int:
    """Return the index in `SPLITS` of the split that a file, or a folder of it below `root`, is named after; or -1."""
    parts = [file.name, *(file.relative_to(root).parts[-2::-1] if file != root else ())]
    for part in parts:
        start = re.match("[a-z]*", part.lower())
        if start and (name := start[0]) in SPLIT_OF_NAME:
            return SPLITS.index(SPLIT_OF_NAME[name])
    return -1
