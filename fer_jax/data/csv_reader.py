"""Read the official `fer2013.csv` and its variant `icml_face_data.csv`, with other column names and order."""

import csv
from pathlib import Path

import numpy as np

from fer_jax.data.dataset import SPLITS, Dataset, check_no_split_empty, from_rows
from fer_jax.data.fer2013 import IMAGE_SIZE, USAGE_OF_SPLIT
from fer_jax.errors import InputError, shown
from fer_jax.expressions import EXPRESSIONS, NUM_EXPRESSIONS

_COLUMNS = ("emotion", "pixels", "usage")
_PIXELS = IMAGE_SIZE * IMAGE_SIZE
_LABELS = {str(label): label for label in range(NUM_EXPRESSIONS)}
_SPLIT_INDEX = {USAGE_OF_SPLIT[name]: index for index, name in enumerate(SPLITS)}


def read_csv(path: str | Path) -> Dataset:
    """Read a csv with the columns `emotion` (0 to 6), `pixels` (2,304 numbers from 0 to 255) and `Usage`.

    Columns may be in any order, and their names in any letter case and with surrounding spaces; other columns are
    ignored. Row ids are the zero-based data rows.

    Raises:
      InputError: the file cannot be read, a column is missing, a row is damaged, or a split has no row. The message
        names the file, the zero-based data row and the line.
    """
    path = Path(path)
    images, labels, splits = [], [], []
    try:
        # Bytes that are not UTF-8 become characters that no field may hold, so the check of the row reports them.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file, strict=True)
            columns, width = _header(next(reader, []), path)
            for fields in reader:
                if not fields:
                    continue
                where = f"{path}, row {len(images)} (line {reader.line_num})"
                if len(fields) != width:
                    raise InputError(
                        f"{where}: found {len(fields)} fields where the header has {width}; "
                        "the row is truncated or damaged, get the file anew"
                    )
                label, pixels, usage = (fields[column].strip() for column in columns)
                if label not in _LABELS:
                    raise InputError(
                        f"{where}: emotion {shown(label)}, expected a label from 0 ({EXPRESSIONS[0]}) "
                        f"to {NUM_EXPRESSIONS - 1} ({EXPRESSIONS[-1]})"
                    )
                if usage not in _SPLIT_INDEX:
                    raise InputError(f"{where}: Usage {shown(usage)}, expected one of {', '.join(_SPLIT_INDEX)}")
                images.append(_pixels(pixels, where))
                labels.append(_LABELS[label])
                splits.append(_SPLIT_INDEX[usage])
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(
            f"{path}, row {len(images)} (line {reader.line_num}): not valid csv: {error}; get the file anew"
        ) from error
    if not images:
        raise InputError(f"{path}: a header without data rows, expected a row for each image")
    check_no_split_empty(np.array(splits), str(path))
    stacked = np.stack(images).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    return from_rows(stacked, np.array(labels), np.array(splits), f"csv {path.name}")


def _header(fields: list[str], path: Path) -> tuple[list[int], int]:
    """Return the indices of the three columns, and the number of all columns."""
    if not fields:
        raise InputError(f"{path}: empty file, expected a header line with emotion, pixels, Usage")
    names = [name.strip().lower() for name in fields]
    for column in _COLUMNS:
        if names.count(column) != 1:
            raise InputError(
                f"{path} (line 1): {names.count(column)} columns named {column!r} in the header "
                f"{shown(','.join(fields))}, expected emotion, pixels and Usage once each"
            )
    return [names.index(column) for column in _COLUMNS], len(names)


def _pixels(text: str, where: str) -> np.ndarray:
    """Parse the pixels to uint8 [2304]."""
    # NumPy's text parser takes signs for separators and stops silently at a NUL: pass it only digits and spaces.
    # int64 holds the largest number it can return, so no number wraps around into 0..255.
    if text.isascii() and text.replace(" ", "").isdigit():
        values = np.fromstring(text, np.int64, sep=" ")
        if values.size == _PIXELS and values.max() <= 255:
            return values.astype(np.uint8)
    return _pixels_one_by_one(text.split(), where)


def _pixels_one_by_one(tokens: list[str], where: str) -> np.ndarray:
    """Parse pixel by pixel, slowly, to name the first fault; accept any whitespace between the numbers."""
    values = []
    for index, token in enumerate(tokens):
        digits = token.lstrip("0") if token.isascii() and token.isdigit() else "damaged"
        if len(digits) > 3 or int(digits or 0) > 255:
            raise InputError(f"{where}: pixel {index} is {shown(token)}, expected a whole number from 0 to 255")
        values.append(int(digits or 0))
    if len(values) != _PIXELS:
        raise InputError(f"{where}: found {len(values)} pixels, expected {_PIXELS} ({IMAGE_SIZE} x {IMAGE_SIZE})")
    return np.array(values, np.uint8)
