"""Read the official `fer2013.csv` and its kin: other column names and order, no `Usage`, packed, or of other software.

The competition's `icml_face_data.csv` and `train.csv`, CK+ as csv with 7 for contempt, words as labels, semicolons or
tabs between the fields, UTF-16, gzip, zip and tar are all read.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fer_jax.data.classes import decide_classes, rename
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import IMAGE_SIZE, SPLIT_OF_NAME, USAGE_OF_SPLIT
from fer_jax.data.listing import Damaged, Listing, to_dataset
from fer_jax.data.options import FolderOptions
from fer_jax.data.packed import Member, members
from fer_jax.errors import InputError, shown
from fer_jax.expressions import CONTEMPT, EIGHT_EXPRESSIONS, EXPRESSIONS, NUM_EXPRESSIONS, expression_of

_LABEL_COLUMNS = ("emotion", "label", "labels", "expression", "class")
_PIXEL_COLUMNS = ("pixels", "pixel")
_USAGE_COLUMNS = ("usage", "split")
_PIXELS = IMAGE_SIZE * IMAGE_SIZE
_SPLIT_INDEX = {name: SPLITS.index(split) for name, split in SPLIT_OF_NAME.items()}
_DELIMITERS = ",;\t|"

_MAX_LINE = 2**20
"""Characters; a row of FER2013 has 9,300 at most. A file without line ends would fill the memory."""

_EXPLAINED = 10
"""Of so many damaged rows the first fault is looked for; of more it is not worth the time."""


@dataclasses.dataclass(frozen=True)
class CsvRows:
    """The rows of a csv that can be read: images uint8 [n, 48, 48], labels as they are written.

    `splits` int [n] are indices of `SPLITS`, -1 where the csv has no Usage; `rows` int [n] are zero-based data rows,
    `lines` int [n] their lines in the file. `damaged` has for other rows: their number, and what is wrong.
    """

    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    rows: np.ndarray
    lines: np.ndarray
    damaged: tuple[tuple[int, str], ...] = ()

    def __post_init__(self):
        n = len(self.labels)
        kinds = [(array.shape, array.dtype.kind) for array in (self.labels, self.splits, self.rows, self.lines)]
        if self.images.shape != (n, IMAGE_SIZE, IMAGE_SIZE) or self.images.dtype != np.uint8:
            raise ValueError(f"images: expected uint8 [{n}, 48, 48], found {self.images.dtype} {self.images.shape}")
        if kinds != [((n,), "U"), *3 * [((n,), "i")]]:
            raise ValueError(f"expected labels as text, and integers, [{n}] each, found {kinds}")


def read_csv(
    path: str | Path,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    options: FolderOptions | None = None,
) -> Dataset:
    """Read a csv with the columns `emotion`, `pixels` (2,304 numbers from 0 to 255) and, mostly, `Usage`.

    An emotion is a number from 0 to 6 in the order of `EXPRESSIONS` (also as `3.0`), or the name of an expression; with
    contempt on demand also 7. Usage is `Training`, `PublicTest` or `PrivateTest`, or the name of a split. Columns may
    be in any order, and their names in any letter case and with surrounding spaces; other columns are ignored. Row ids
    are the zero-based data rows. `path` may be compressed, or an archive with one such csv.

    Args:
      path: the file.
      validation_fraction: for a csv without rows for validation, the part of the training rows to take.
      seed: the seed by which they are chosen.
      options: the default is `FolderOptions()`; what concerns the size and colour of images is ignored.

    Raises:
      InputError: the file cannot be read, a column is missing, rows are damaged, or training or validation has no row.
        The message names the file, the zero-based data row and the line.
    """
    member = find_csv(members(Path(path)), str(path))
    return csv_dataset(read_rows(member), member, validation_fraction, seed, options or FolderOptions())


def find_csv(found: Sequence[Member], where: str) -> Member:
    """Return the one csv among files of the archive or folder `where` that holds faces; a single file is taken for it.

    If there are several, the one with Usage is meant: the competition has the whole set beside the training rows.
    Raises `InputError` if there is none, or still more than one.
    """
    if len(found) == 1 and not found[0].inner:
        return found[0]
    headers = {member: _columns_of(member) for member in found if csv_like(member.inner or member.path.name)}
    faces = {member: columns for member, columns in headers.items() if columns is not None}
    best = [member for member, columns in faces.items() if columns.usage is not None] or list(faces)
    if not best:
        raise InputError(f"{where}: {_holds(found)}, no csv with the columns emotion and pixels; {_remedy(found)}")
    if len(best) > 1:
        names = ", ".join(member.inner or member.path.name for member in best)
        raise InputError(f"{where}: holds several csv files of faces ({names}); give the one you mean")
    return best[0]


def csv_like(name: str) -> bool:
    """Return whether a file of this name inside a folder or archive may be a csv."""
    name = name.rpartition("/")[2].lower()
    return name.endswith((".csv", ".tsv")) and not name.startswith(".")


def is_csv_of_faces(member: Member) -> bool:
    """Return whether a file begins with the header of a csv that `read_csv` reads."""
    return _columns_of(member) is not None


def _holds(found: Sequence[Member]) -> str:
    names = [member.inner or member.path.name for member in found]
    return f"holds {', '.join(names[:4])}{f' and {len(names) - 4} more files' if len(names) > 4 else ''}"


def _remedy(found: Sequence[Member]) -> str:
    names = [member.inner.lower() for member in found]
    if any(name.endswith(".npy") for name in names):
        return "arrays of NumPy are not read: write a csv, or an image folder"
    if any(name.startswith("xl/") for name in names):
        return "a spreadsheet is not read: save it as csv"
    if any(name.endswith("data.pkl") for name in names):
        return "it is a file of PyTorch, not of images"
    return "unpack it, and give the folder with the images or the csv"


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The indices of the columns, the number of all columns, and the character between fields."""

    label: int
    pixels: int
    usage: int | None
    width: int
    delimiter: str


def _columns_of(member: Member) -> _Columns | None:
    with member.open() as stream:
        header = next(_lines(stream, member.name), "")
    try:
        return _header(header, member.name)
    except InputError:
        return None


def read_rows(member: Member) -> CsvRows:
    """Parse a csv; raise `InputError` if it cannot be read, has no header, or not one whole row."""
    where = member.name
    images, labels, splits, rows, lines = [], [], [], [], []
    damaged: list[tuple[int, str]] = []
    with member.open() as stream:
        text = _lines(stream, where)
        header = next(text, "")
        columns = _header(header, where)
        reader = csv.reader(text, strict=True, delimiter=columns.delimiter)
        row = -1
        while True:
            try:
                fields = next(reader, None)
                if fields is None:
                    break
                if not fields:
                    continue
                row += 1
                label, pixels, split = _parse(fields, columns, explain=len(damaged) < _EXPLAINED)
            except (csv.Error, _RowError) as error:
                said = str(error)
                if isinstance(error, csv.Error):
                    row += 1
                    said = f"not valid csv: {error}; get the file anew"
                damaged.append((row, f"{where}, row {row} (line {reader.line_num + 1}): {said}"))
                continue
            images.append(pixels)
            labels.append(label)
            splits.append(split)
            rows.append(row)
            lines.append(reader.line_num + 1)
    if row < 0:
        raise InputError(f"{where}: a header without data rows, expected a row for each image")
    stacked = np.stack(images) if images else np.zeros((0, _PIXELS), np.uint8)
    return CsvRows(
        stacked.reshape(-1, IMAGE_SIZE, IMAGE_SIZE),
        np.array(labels, str),
        np.array(splits, int),
        np.array(rows, int),
        np.array(lines, int),
        tuple(damaged),
    )


def csv_dataset(
    table: CsvRows, member: Member, validation_fraction: float | None, seed: int, options: FolderOptions
) -> Dataset:
    """Return the data set of the rows of a csv; raise what `read_csv` raises."""
    where = member.name
    class_names, label_of = _classes(table, where, options)
    unknown = [_expression(_plain_number(label)) or label for label, found in label_of.items() if found == -1]
    labels = np.array([label_of[label] for label in table.labels.tolist()], int)
    wrong = labels == _WRONG
    damaged = [*table.damaged, *((row, text) for row, text in _wrong_labels(table, wrong, where))]
    good = np.flatnonzero(~wrong)
    names = [f"row {row}" for row in table.rows[good].tolist()]

    def read(chosen: np.ndarray) -> tuple[np.ndarray, Damaged]:
        return table.images[good[chosen]], {}

    listing = Listing(
        where=where,
        source=f"csv {member.inner.rpartition('/')[2] or member.path.name}",
        class_names=class_names,
        labels=labels[good],
        splits=table.splits[good],
        row_ids=table.rows[good],
        read=read,
        names=names,
        unknown=sorted(set(unknown)),
        damaged=[(f"row {row}", InputError(text)) for row, text in sorted(damaged)],
        promised=("train", "validation") if SPLITS.index("validation") in table.splits else ("train",),
        without_validation=f"no row of the validation split ({USAGE_OF_SPLIT['validation']})",
    )
    return to_dataset(listing, validation_fraction=validation_fraction, seed=seed, options=options)


_WRONG = -2
"""In the place of the label of a row whose emotion means nothing."""


def _classes(table: CsvRows, where: str, options: FolderOptions) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and for each label of the csv its class, -1 (left out) or `_WRONG`."""
    found = list(dict.fromkeys(map(_plain_number, table.labels.tolist())))
    if options.names is not None:
        names = rename(where, found, options.names, "emotion", strict=options.class_names is None)
        class_names, by_name = decide_classes(where, list(dict.fromkeys(names.values())), options, word="emotion")
        by_label = {label: by_name[name] for label, name in names.items()}
    else:
        expressions = {label: _expression(label) for label in found}
        known = sorted({name for name in expressions.values() if name}, key=EIGHT_EXPRESSIONS.index)
        if options.class_names is not None:
            class_names, by_name = decide_classes(where, known, options, word="emotion")
        else:
            class_names = EIGHT_EXPRESSIONS if options.classes == "with_contempt" else EXPRESSIONS
            by_name = {name: class_names.index(name) for name in known if name in class_names}
        by_label = {label: by_name.get(name or "", _WRONG) for label, name in expressions.items()}
    as_written = {label: by_label[_plain_number(label)] for label in set(table.labels.tolist())}
    return class_names, {label: -1 if found is None else found for label, found in as_written.items()}


def _wrong_labels(table: CsvRows, wrong: np.ndarray, where: str) -> Iterator[tuple[int, str]]:
    expected = f"a label from 0 ({EXPRESSIONS[0]}) to {NUM_EXPRESSIONS - 1} ({EXPRESSIONS[-1]}), or its name"
    for index in np.flatnonzero(wrong).tolist():
        label, row = str(table.labels[index]), int(table.rows[index])
        advice = ""
        if _expression(_plain_number(label)) == CONTEMPT:
            advice = (
                "; that is contempt, as in CK+ and FER+: set config.data.classes=with_contempt "
                "(--classes=with_contempt) for eight classes, or drop its rows"
            )
        yield (
            row,
            f"{where}, row {row} (line {table.lines[index]}): emotion {shown(label)}, expected {expected}{advice}",
        )


def _plain_number(label: str) -> str:
    """Write a number as an integer: pandas makes 3.0 of 3 in a column with gaps."""
    found = re.fullmatch(r"0*([0-9]{1,9})(\.0*)?", label)
    return found[1] if found else label


def _expression(label: str) -> str | None:
    """Return the expression that a plain number or a word means, in FER2013's numbers; None if none."""
    if label.isascii() and label.isdigit():
        return EIGHT_EXPRESSIONS[int(label)] if int(label) < len(EIGHT_EXPRESSIONS) else None
    return expression_of(label)


def _lines(stream: io.BufferedReader, where: str) -> Iterator[str]:
    """Yield the lines of a text with their ends; raise `InputError` for one that is too long."""
    # Bytes that are not of the encoding become characters that no field may hold, so the check of the row reports them.
    text = io.TextIOWrapper(stream, encoding=_encoding(stream.peek(64)[:64]), errors="replace", newline="")
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE and line[-1] not in "\r\n":
            raise InputError(f"{where}: a line of more than {_MAX_LINE:,} characters, expected a csv")
        yield line
    # What wraps a stream closes it when it is dropped.
    text.detach()


def _encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(start) > 3 and not any(start[1:8:2]):
        return "utf-16-le"
    if len(start) > 3 and not any(start[0:8:2]):
        return "utf-16-be"
    return "utf-8-sig"


def _header(line: str, where: str) -> _Columns:
    if not line:
        raise InputError(f"{where}: empty file, expected a header line with emotion, pixels, Usage")
    best: tuple[list[str], list[list[int]]] = [], []
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"').strip().lower() for name in line.strip("\r\n").split(delimiter)]
        columns = [_column(names, aliases) for aliases in (_LABEL_COLUMNS, _PIXEL_COLUMNS, _USAGE_COLUMNS)]
        if len(columns[0]) == len(columns[1]) == 1 and len(columns[2]) <= 1:
            usage = columns[2][0] if columns[2] else None
            return _Columns(columns[0][0], columns[1][0], usage, len(names), delimiter)
        if len(names) > len(best[0]):
            best = names, columns
    names, columns = best
    if line.lstrip().startswith("<"):
        raise InputError(f"{where}: a web page, not a csv, as of a login that is asked for; download the file again")
    if line.startswith("version https://git-lfs"):
        raise InputError(f"{where}: a Git LFS pointer in the place of the file; run git lfs pull")
    column, count = next(
        (name, len(found))
        for name, found in zip(("emotion", "pixels", "usage"), columns, strict=True)
        if len(found) != 1 and (name != "usage" or found)
    )
    raise InputError(
        f"{where} (line 1): {count} columns named {column!r} in the header {shown(line.strip())}, expected emotion, "
        f"pixels and Usage once each{_header_advice(names, columns)}"
    )


def _column(names: Sequence[str], aliases: Sequence[str]) -> list[int]:
    """Return the indices of the columns of the first of `aliases` that occurs."""
    for alias in aliases:
        if found := [index for index, name in enumerate(names) if name == alias]:
            return found
    return []


def _header_advice(names: Sequence[str], columns: Sequence[Sequence[int]]) -> str:
    labels, pixels, _ = columns
    if not labels and pixels:
        return "; without labels there is nothing to train or evaluate on: scripts/predict.py predicts"
    if any(name in ("pixel0", "pixel_0", "pixel1", "pixel_1", "0") for name in names):
        return "; a column for each pixel is not read: join them with spaces in one column, pixels"
    if len(names) in (2, 3) and any(name.replace(" ", "").isdigit() and len(name) > 100 for name in names):
        return "; the header line is missing: add emotion,pixels,Usage above the first row"
    if labels:
        return "; a list of image files is not read: sort the images into a folder for each class"
    return ""


class _RowError(Exception):
    """What is wrong with a row."""


def _parse(fields: Sequence[str], columns: _Columns, *, explain: bool) -> tuple[str, np.ndarray, int]:
    """Return the label, the pixels uint8 [2304] and the index of the split (-1 without one) of a row."""
    if len(fields) != columns.width:
        raise _RowError(
            f"found {len(fields)} fields where the header has {columns.width}; the row is truncated or damaged, get "
            "the file anew"
        )
    split = -1
    if columns.usage is not None:
        usage = fields[columns.usage].strip()
        if usage.lower() not in _SPLIT_INDEX:
            known = ", ".join(USAGE_OF_SPLIT.values())
            raise _RowError(f"Usage {shown(usage)}, expected one of {known}, or {', '.join(SPLITS)}")
        split = _SPLIT_INDEX[usage.lower()]
    label = fields[columns.label].strip()
    if not label or len(label) > 60 or not label.isprintable():
        raise _RowError(f"emotion {shown(label)}, expected a label from 0 to {NUM_EXPRESSIONS - 1}, or its name")
    return label, _pixels(fields[columns.pixels].strip(), explain), split


def _pixels(text: str, explain: bool) -> np.ndarray:
    """Parse the pixels to uint8 [2304]; `explain` the first fault, which takes longer."""
    # NumPy's text parser takes signs for separators and stops silently at a NUL: pass it only digits and spaces.
    # int64 holds the largest number it can return, so no number wraps around into 0..255.
    plain = _is_plain(text)
    if not plain:
        # Other white space, and lists as Python writes them.
        text = " ".join(text.strip("[]").replace(",", " ").split())
        plain = _is_plain(text)
    if plain:
        values = np.fromstring(text, np.int64, sep=" ")
        if values.size == _PIXELS and values.max() <= 255:
            return values.astype(np.uint8)
    raise _RowError(_fault(text.split()) if explain else "its pixels are not to be used")


def _is_plain(text: str) -> bool:
    """Return whether there are digits and spaces alone."""
    return bool(text) and text.isascii() and not text.encode().translate(None, b"0123456789 ")


def _fault(tokens: Sequence[str]) -> str:
    for index, token in enumerate(tokens):
        digits = token.lstrip("0") if token.isascii() and token.isdigit() else "damaged"
        if len(digits) > 3 or int(digits or 0) > 255:
            return f"pixel {index} is {shown(token)}, expected a whole number from 0 to 255"
    return f"found {len(tokens)} pixels, expected {_PIXELS} ({IMAGE_SIZE} x {IMAGE_SIZE})"
