"""FER+ (Barsoum et al. 2016): ten people's votes on each image of FER2013, and the labels that they make.

Microsoft's `fer2013new.csv` has no images: its row i is about row i of the official `fer2013.csv`.
"""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import USAGE_OF_SPLIT
from fer_jax.errors import InputError, shown
from fer_jax.expressions import EXPRESSIONS, label_of
from fer_jax.runtime.user_path import input_path

CONTEMPT = "contempt"
"""What FER+ has beyond FER2013's seven classes."""

FERPLUS_CLASSES = (*EXPRESSIONS, CONTEMPT)
"""The eight expressions of FER+, FER2013's first, so that a label means the same with seven and with eight classes."""

VOTE_LABELS = ("distribution", "majority")
"""What training images are labelled with: the shares of the votes, or the class with most of them."""

_NO_EXPRESSION = ("unknown", "nf")
_COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", CONTEMPT, *_NO_EXPRESSION)
_NAME, _USAGE = "image name", "usage"
_SPLIT_OF_USAGE = {usage: name for name, usage in USAGE_OF_SPLIT.items()}
_MOST_VOTES = 1000

_LEAST_KAPPA, _ENOUGH_ROWS = 0.25, 50
"""Cohen's kappa between FER2013's labels and the votes is 0.56 on the real rows, and near 0 on rows in another order.

Fewer rows than `_ENOUGH_ROWS` say nothing of it.
"""


@dataclasses.dataclass(frozen=True)
class Votes:
    """The votes on the images of a data set.

    `counts` has by split int32 [n, 10], in the order of the split: the votes for each of `FERPLUS_CLASSES`, then those
    for "unknown" and for "not a face". Rows that the file gives no image name, which FER+ left out, have none.
    `source` is a short description for reports.
    """

    counts: dict[str, np.ndarray]
    source: str


def read_votes(path: str | Path, data: Dataset) -> Votes:
    """Read Microsoft's `fer2013new.csv`, whose row i is about the image of `data` with row id i.

    The columns `Usage`, `Image name` and the ten of votes are found by name, in any letter case and order.

    Raises:
      InputError: the file cannot be read or is damaged, or it is not about these images: another number of rows, a row
        of another split, or labels that agree with the votes no better than chance.
    """
    path = input_path(str(path), f"{path}:", "; expected the votes of FER+, Microsoft's fer2013new.csv")
    if data.class_names not in (EXPRESSIONS, FERPLUS_CLASSES):
        raise InputError(
            f"{path}: FER+ has votes on the images of FER2013, with the classes {', '.join(EXPRESSIONS)}; "
            f"{data.source} has {', '.join(data.class_names)}"
        )
    usages, counts = _read(path)
    n = sum(len(data.split(name)) for name in SPLITS)
    if len(usages) != n:
        raise InputError(
            f"{path}: votes on {len(usages):,} images, {data.source} has {n:,}; FER+ goes with the whole official "
            "fer2013.csv, row by row"
        )
    for name in SPLITS:
        for row_id in data.split(name).row_ids.tolist():
            found = usages[row_id] if row_id < n else "missing"
            if found != USAGE_OF_SPLIT[name]:
                raise InputError(
                    f"{path}: row {row_id} is {found}, but that image of {data.source} is {USAGE_OF_SPLIT[name]}; the "
                    "votes go with the rows of the official fer2013.csv in their order"
                )
    votes = Votes({name: counts[data.split(name).row_ids] for name in SPLITS}, f"FER+ {path.name}")
    _check_agreement(path, votes, data)
    return votes


def majority(counts: np.ndarray, classes: int = len(FERPLUS_CLASSES)) -> np.ndarray:
    """Return the labels int32 [n] of `counts`, those of `Votes`, by FER+'s official majority rule; -1 for none.

    Single votes count for nothing. An image has a label if one expression has more than half of the votes that are
    left, those for "unknown" and "not a face" included (FERPlus, src/ferplus.py, mode `majority`). With 7 `classes` an
    image of contempt has none.
    """
    counts = _without_single_votes(counts)
    top = counts.argmax(axis=1)
    found = (2 * counts.max(axis=1) > counts.sum(axis=1)) & (top < classes)
    return np.where(found, top, -1).astype(np.int32)


def distribution(counts: np.ndarray, classes: int = len(FERPLUS_CLASSES)) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of the first `classes` expressions in the votes, float32 [n, classes], and which rows have any.

    Single votes count for nothing. An image has a distribution if these expressions have more than half of the votes
    that are left, those for "unknown" and "not a face" included; otherwise its shares are 0.
    """
    counts = _without_single_votes(counts)
    votes = counts[:, :classes]
    found = 2 * votes.sum(axis=1) > counts.sum(axis=1)
    shares = np.where(found[:, None], votes / np.maximum(votes.sum(axis=1, keepdims=True), 1), 0)
    return shares.astype(np.float32), found


def rule(vote_labels: str, classes: int) -> str:
    """Say in words what `labelled` labels with, for a run's record."""
    left = "more than half of the votes left when single ones are dropped"
    by_majority = f"the one of {classes} classes that has {left}"
    if vote_labels == "majority":
        return by_majority
    return f"in training the shares of {classes} classes that together have {left}; else {by_majority}"


def labelled(data: Dataset, votes: Votes, vote_labels: str, classes: int) -> Dataset:
    """Return the images of `data` that have a label by `votes`, with that label.

    `vote_labels` is one of `VOTE_LABELS`. Validation and test are always labelled by `majority`. A training image has
    the distribution as its targets where that is asked for, and the class with the largest share (the first of equals)
    as its label.

    Raises `InputError` if no image of a split that has any keeps a label.
    """
    parts = {}
    for name in SPLITS:
        split, counts = data.split(name), votes.counts[name]
        if name == "train" and vote_labels == "distribution":
            targets, found = distribution(counts, classes)
            labels = targets.argmax(axis=1).astype(np.int32)
        else:
            labels, targets = majority(counts, classes), None
            found = labels >= 0
        if len(split) and not found.any():
            raise InputError(f"{votes.source}: no image of {data.describe_split(name)} has a label by the votes")
        relabelled = dataclasses.replace(split, labels=labels, targets=targets)
        parts[name] = relabelled.subset(np.flatnonzero(found))
    how = f"{data.source}, labels of {votes.source}: {rule(vote_labels, classes)}"
    return Dataset(**parts, source=how, class_names=FERPLUS_CLASSES[:classes])


def _without_single_votes(counts: np.ndarray) -> np.ndarray:
    return np.where(counts == 1, 0, counts)


def _check_agreement(path: Path, votes: Votes, data: Dataset) -> None:
    """Raise `InputError` for rows that are in another order within their split, as in an image folder."""
    # Imported here, because the import takes a second and only votes need it.
    from sklearn.metrics import cohen_kappa_score

    for name in SPLITS:
        counts, labels = votes.counts[name][:, : len(EXPRESSIONS)], data.split(name).labels
        voted = counts.any(axis=1)
        if voted.sum() < _ENOUGH_ROWS:
            continue
        plurality = counts[voted].argmax(axis=1)
        if cohen_kappa_score(plurality, labels[voted]) < _LEAST_KAPPA:
            raise InputError(
                f"{path}: the votes agree with {100 * np.mean(plurality == labels[voted]):.0f} % of the {name} labels "
                f"of {data.source}, hardly better than chance: its images are not in the order of the official "
                "fer2013.csv, which the votes follow; use that file"
            )


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the usage of each row, and its votes int32 [n, 10] in the order of `Votes.counts`."""
    usages: list[str] = []
    counts: list[list[int]] = []
    try:
        # Bytes that are not UTF-8 become characters that no field may hold, so the check of the row reports them.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            for column in (_USAGE, _NAME, *_COLUMNS):
                if header.count(column) != 1:
                    raise InputError(
                        f"{path} (line 1): {header.count(column)} columns named {column!r} in the header "
                        f"{shown(','.join(header))}, expected {_USAGE}, {_NAME}, {', '.join(_COLUMNS)} once each"
                    )
            ordered = sorted(_COLUMNS[: len(FERPLUS_CLASSES)], key=_label) + list(_NO_EXPRESSION)
            columns = [header.index(column) for column in ordered]
            for fields in reader:
                if not fields:
                    continue
                where = f"{path}, row {len(usages)} (line {reader.line_num})"
                if len(fields) != len(header):
                    raise InputError(
                        f"{where}: found {len(fields)} fields where the header has {len(header)}; the row is truncated "
                        "or damaged, get the file anew"
                    )
                usage = fields[header.index(_USAGE)].strip()
                if usage not in _SPLIT_OF_USAGE:
                    raise InputError(f"{where}: Usage {shown(usage)}, expected one of {', '.join(_SPLIT_OF_USAGE)}")
                row = [_number(fields[column].strip(), where, header[column]) for column in columns]
                usages.append(usage)
                counts.append(row if fields[header.index(_NAME)].strip() else [0] * len(row))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"{path}, row {len(usages)}: not valid csv: {error}; get the file anew") from error
    if not usages:
        raise InputError(f"{path}: a header without rows, expected the votes on each image")
    return usages, np.array(counts, np.int32)


def _label(column: str) -> int:
    return len(EXPRESSIONS) if column == CONTEMPT else label_of(column)


def _number(text: str, where: str, column: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= _MOST_VOTES):
        raise InputError(f"{where}: {shown(text)} votes for {column}, expected a whole number from 0 to {_MOST_VOTES}")
    return int(text)
