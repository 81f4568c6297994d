"""The file `predictions.csv` of a report: every prediction of one model on one split, written and read back."""

import collections
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_jax.errors import InputError, shown
from fer_jax.evaluation.metrics import Predictions

FILE_NAME = "predictions.csv"

_COLUMNS = ("row_id", "label", "label_name", "predicted", "predicted_name", "correct")
_PROBABILITY = "probability_"
_FILE = "file"


def predictions_csv(predictions: Predictions, class_names: Sequence[str], files: Sequence[str] = ()) -> str:
    """Return one line an example: `row_id,label,label_name,predicted,predicted_name,correct`, then `probability_NAME`s.

    `correct` is 1 or 0. A probability has the fewest digits that give back the same float32. `files` are those of a
    `Split`; where there are any, `file` stands after `row_id`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    row_id, *columns = _COLUMNS
    writer.writerow([row_id, *([_FILE] if files else []), *columns, *(f"{_PROBABILITY}{name}" for name in class_names)])
    rows = zip(
        predictions.row_ids.tolist(),
        predictions.labels.tolist(),
        predictions.predicted.tolist(),
        predictions.probabilities,
        strict=True,
    )
    for i, (row_id, label, predicted, probabilities) in enumerate(rows):
        names = class_names[label], class_names[predicted]
        # What is no text in UTF-8, as names of files may be, is written escaped.
        file = [files[i].encode("utf-8", "backslashreplace").decode()] if files else []
        writer.writerow(
            [row_id, *file, label, names[0], predicted, names[1], int(label == predicted), *map(str, probabilities)]
        )
    return text.getvalue()


def read_predictions(path: Path) -> tuple[Predictions, tuple[str, ...]]:
    """Return the predictions in a file that `predictions_csv` made, and the names of their classes.

    Of each row `row_id`, `label`, `label_name` and the probabilities are read; the rest follows from them.

    Raises `InputError` for a file that cannot be read or is damaged, naming the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid csv ({error}); expected the predictions.csv of a report") from error
    missing = [name for name in _COLUMNS[:3] if name not in header]
    class_names = tuple(name.removeprefix(_PROBABILITY) for name in header if name.startswith(_PROBABILITY))
    if missing or len(class_names) < 2 or len(set(header)) < len(header):
        raise InputError(
            f"{path} (line 1): found the columns {shown(','.join(header))}, expected row_id, label, label_name and "
            "probability_NAME for each class, once each; expected the predictions.csv of a report"
        )
    if not lines:
        raise InputError(f"{path}: has no prediction")
    places = [header.index(name) for name in _COLUMNS[:3]]
    scores = [header.index(f"{_PROBABILITY}{name}") for name in class_names]
    rows = [_row(line, places, scores, class_names, header, f"{path} (line {i})") for i, line in enumerate(lines, 2)]
    row_ids, labels, probabilities = zip(*rows, strict=True)
    twice, times = collections.Counter(row_ids).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{path}: the row_id {twice} stands there {times} times; expected one prediction for each image"
        )
    try:
        return Predictions(
            np.array(row_ids, np.int32), np.array(labels, np.int32), np.array(probabilities, np.float32)
        ), class_names
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}; it is damaged, evaluate the model again") from error


def _row(
    line: Sequence[str],
    places: Sequence[int],
    scores: Sequence[int],
    class_names: Sequence[str],
    header: Sequence[str],
    where: str,
) -> tuple[int, int, list[float]]:
    if len(line) != len(header):
        raise InputError(f"{where}: found {len(line)} fields where the header has {len(header)}; it is damaged")
    row_id, label, label_name = (line[place] for place in places)
    for name, text in (("row_id", row_id), ("label", label)):
        if not (text.isascii() and text.isdigit() and int(text) < 2**31):
            raise InputError(f"{where}: {name} is {shown(text)}, expected a whole number from 0")
    if int(label) >= len(class_names) or class_names[int(label)] != label_name:
        raise InputError(
            f"{where}: label {label} is named {shown(label_name)}, but the columns are {', '.join(class_names)}"
        )
    try:
        return int(row_id), int(label), [float(line[score]) for score in scores]
    except ValueError as error:
        raise InputError(f"{where}: {error}; expected a probability") from error
