"""Data sets whose labels are in lists beside the images: RAF-DB and FER+, in the layouts of their authors."""

import csv
from pathlib import Path

import numpy as np

from fer_jax.data.classes import RAFDB_ORDER, decide_classes, rename
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.ferplus import majority
from fer_jax.data.layouts import FERPLUS_SPLITS, Layout, entries
from fer_jax.data.listing import Listing, read_pictures, to_dataset
from fer_jax.data.options import FolderOptions
from fer_jax.errors import InputError, shown
from fer_jax.expressions import CONTEMPT, EIGHT_EXPRESSIONS

# FER+'s label.csv has no header: the name of a file, its box, and these ten numbers of votes (FERPlus, README).
_FERPLUS_VOTES = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", CONTEMPT, "unknown", "NF")

_Row = tuple[str, str | None, str]
"""The path of an image relative to the data set, its split, and the name of its class."""


def read_label_lists(
    path: Path, layout: Layout, *, validation_fraction: float | None, seed: int, options: FolderOptions
) -> Dataset:
    """Read RAF-DB or FER+ in the folder `path`, where `layout` (`rafdb` or `ferplus`) was found.

    FER+'s labels are those of its majority rule (`ferplus.majority`) over eight classes; images without one are left
    out, and those of contempt unless eight classes are asked for. Row ids are indices into the lists.

    Raises:
      InputError: a list or an image that is damaged or missing, and what `to_dataset` raises.
    """
    rows = _rafdb(layout) if layout.kind == "rafdb" else _ferplus(layout, options)
    if not rows:
        raise InputError(f"{layout.path}: no image with a label in its lists")
    found = list(dict.fromkeys(label for _, _, label in rows))
    names = rename(path, found, options.names, "label", strict=options.class_names is None)
    class_names, by_name = decide_classes(path, list(dict.fromkeys(names.values())), options, word="label")
    labels = [by_name[names[label]] for _, _, label in rows]
    splits = [-1 if split is None else SPLITS.index(split) for _, split, _ in rows]
    paths = [file for file, _, _ in rows]

    def read(chosen: np.ndarray):
        names = [paths[index] for index in chosen]
        pictures = [layout.path / name for name in names]
        return read_pictures(str(path), pictures, options, (str(layout.path), names))

    listing = Listing(
        where=str(path),
        source=f"{'RAF-DB' if layout.kind == 'rafdb' else 'FER+'} {path.resolve().name}",
        class_names=class_names,
        labels=np.array([-1 if label is None else label for label in labels], int),
        splits=np.array(splits, int),
        row_ids=np.arange(len(rows)),
        read=read,
        names=paths,
        files=paths,
        unknown=[name for name, label in by_name.items() if label is None],
        promised=("train", *(["validation"] if SPLITS.index("validation") in splits else [])),
        without_validation="RAF-DB has no validation split" if layout.kind == "rafdb" else "no FER2013Valid folder",
    )
    return to_dataset(listing, validation_fraction=validation_fraction, seed=seed, options=options)


def _rafdb(layout: Layout) -> list[_Row]:
    """Return the rows of `NAME.jpg LABEL` lines, whose images are `NAME_aligned.jpg` or `NAME.jpg` somewhere below."""
    assert layout.file is not None
    rows: list[_Row] = []
    folder = None
    for number, line in enumerate(_text(layout.file).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        split = next((split for split in ("train", "test") if name.startswith(f"{split}_")), None)
        if label not in ("1", "2", "3", "4", "5", "6", "7") or split is None or Path(name).name != name:
            raise InputError(
                f"{layout.file}, line {number}: {shown(line)}, expected train_NAME or test_NAME and a label from 1 to 7"
                ", as in RAF-DB's basic emotions"
            )
        if folder is None:
            folder = _folder_of_images(layout.path, name)
        file = folder / _file_name(folder, name)
        rows.append((file.relative_to(layout.path).as_posix(), split, RAFDB_ORDER[int(label) - 1]))
    return rows


def _folder_of_images(root: Path, name: str) -> Path:
    """Return the folder, up to four levels below `root`, with the first image of the list: aligned faces come first."""
    level = [root]
    for _ in range(5):
        for folder in level:
            if (folder / _file_name(folder, name)).is_file():
                return folder
        # `aligned` comes before `original` by its name.
        level = [Path(entry.path) for folder in level for entry in entries(folder) if entry.is_dir()]
    stem = Path(name).stem
    raise InputError(f"{root}: found no folder with {stem}_aligned.jpg or {name}; unpack RAF-DB's aligned.zip there")


def _file_name(folder: Path, name: str) -> str:
    aligned = f"{Path(name).stem}_aligned{Path(name).suffix}"
    return aligned if (folder / aligned).is_file() else name


def _ferplus(layout: Layout, options: FolderOptions) -> list[_Row]:
    """Return the rows of the `label.csv` in each split's folder that have a label by the majority of the votes."""
    wanted = options.classes == "with_contempt" or options.class_names is not None
    classes = len(EIGHT_EXPRESSIONS)
    rows: list[_Row] = []
    for entry in entries(layout.path):
        split = FERPLUS_SPLITS.get(entry.name.lower())
        file = Path(entry.path, "label.csv")
        if split is None or not file.is_file():
            continue
        names, votes = _votes(file)
        # From FER+'s order to that of the classes.
        order = [_FERPLUS_VOTES.index(name) for name in (*EIGHT_EXPRESSIONS, *_FERPLUS_VOTES[-2:])]
        labels = majority(votes[:, order], classes).tolist() if names else []
        for name, label in zip(names, labels, strict=True):
            if name and label >= 0 and (wanted or EIGHT_EXPRESSIONS[label] != CONTEMPT):
                rows.append((f"{entry.name}/{name}", split, EIGHT_EXPRESSIONS[label]))
    return rows


def _votes(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the names of the images, and their votes int32 [n, 10] in FER+'s order."""
    names, votes = [], []
    reader = csv.reader(_text(file).splitlines())
    try:
        for fields in reader:
            if not fields:
                continue
            counts = fields[2:]
            good = len(counts) == len(_FERPLUS_VOTES) and all(c.strip().isdecimal() and len(c) < 5 for c in counts)
            name = fields[0].strip()
            if not good or Path(name).name != name:
                raise InputError(
                    f"{file}, line {reader.line_num}: {shown(','.join(fields))}, expected the name of a file, its box "
                    f"and {len(_FERPLUS_VOTES)} numbers of votes, as in FER+"
                )
            names.append(name)
            votes.append([int(count) for count in counts])
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: not valid csv: {error}; get the file anew") from error
    return names, np.array(votes, np.int32)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
