"""Two models on the same images: whether one is better than chance allows, and where they differ.

(`fer_jax.evaluation.comparison` sets runs side by side, epoch by epoch.)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats

from fer_jax.errors import InputError, shown
from fer_jax.evaluation.metrics import Predictions, wilson_interval
from fer_jax.evaluation.section import Table, percent

_RESAMPLES = 10_000
_MOST_CHANGES = 10


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test, from the examples that exactly one of two models gets right.

    Under the null hypothesis each of them is as likely the one's as the other's: a two-sided binomial test (McNemar
    1947, in its exact form). 1 where there are none.
    """
    discordant = only_first + only_second
    return float(scipy.stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


@dataclasses.dataclass(frozen=True)
class ClassChange:
    """The images of one true class: how many each model gets right, and how many one alone.

    `p_value` is that of `exact_mcnemar`, `p_holm` the same corrected for the number of classes (Holm 1979).
    """

    name: str
    images: int
    first: int
    second: int
    only_first: int
    only_second: int
    p_value: float
    p_holm: float


@dataclasses.dataclass(frozen=True)
class ModelComparison:
    """Two models on the same images; fractions of 1, and `difference` is that of the second less the first.

    `difference_interval` is the 95 % interval by percentiles of 10,000 bootstrap resamples of the images (always the
    same ones). `changes` int64 [classes, classes] counts the images that the first model calls by the row and the
    second by the column.
    """

    images: int
    first: int
    second: int
    only_first: int
    only_second: int
    difference_interval: tuple[float, float]
    p_value: float
    classes: tuple[ClassChange, ...]
    changes: np.ndarray

    @property
    def difference(self) -> float:
        """Accuracy of the second model less that of the first."""
        return (self.second - self.first) / self.images

    def to_json(self) -> dict:
        """Return the figures as plain JSON values."""
        return {
            "images": self.images,
            "accuracy": [self.first / self.images, self.second / self.images],
            "accuracy_wilson_95": [list(wilson_interval(right, self.images)) for right in (self.first, self.second)],
            "difference": self.difference,
            "difference_bootstrap_95": list(self.difference_interval),
            "only_first_right": self.only_first,
            "only_second_right": self.only_second,
            "mcnemar_p": self.p_value,
            "same_answer": int(self.changes.trace()),
            "per_class": {row.name: {k: v for k, v in vars(row).items() if k != "name"} for row in self.classes},
            "answers_first_by_second": self.changes.tolist(),
        }


def compare(first: Predictions, second: Predictions, class_names: Sequence[str]) -> ModelComparison:
    """Return the comparison of two models' predictions, which are in the same order (see `aligned`)."""
    if not (np.array_equal(first.row_ids, second.row_ids) and np.array_equal(first.labels, second.labels)):
        raise ValueError("expected predictions of the same examples in the same order")
    labels, n = first.labels, len(first.labels)
    right = first.predicted == labels, second.predicted == labels
    only = right[0] & ~right[1], right[1] & ~right[0]
    counts = [(int(only[0][of].sum()), int(only[1][of].sum())) for of in (labels == i for i in range(len(class_names)))]
    p_values = [exact_mcnemar(*pair) for pair in counts]
    classes = [
        ClassChange(
            name,
            int((labels == i).sum()),
            int(right[0][labels == i].sum()),
            int(right[1][labels == i].sum()),
            *counts[i],
            p_values[i],
            corrected,
        )
        for i, (name, corrected) in enumerate(zip(class_names, _holm(p_values), strict=True))
    ]
    only_first, only_second = int(only[0].sum()), int(only[1].sum())
    # Resampling images is drawing how many are right for one alone, for the other alone, and alike.
    shares = np.array([only_first, only_second, n - only_first - only_second]) / n
    drawn = np.random.default_rng(0).multinomial(n, shares, size=_RESAMPLES)
    low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / n, [2.5, 97.5])
    changes = np.zeros((len(class_names),) * 2, np.int64)
    np.add.at(changes, (first.predicted, second.predicted), 1)
    return ModelComparison(
        images=n,
        first=int(right[0].sum()),
        second=int(right[1].sum()),
        only_first=only_first,
        only_second=only_second,
        difference_interval=(float(low), float(high)),
        p_value=exact_mcnemar(only_first, only_second),
        classes=tuple(classes),
        changes=changes,
    )


def _holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in their order."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(1, np.maximum.accumulate(np.array(p_values)[order] * factors))
    return corrected[np.argsort(order)].tolist()


def aligned(
    first: Predictions,
    first_names: Sequence[str],
    second: Predictions,
    second_names: Sequence[str],
    names: tuple[str, str],
) -> tuple[Predictions, Predictions]:
    """Return both predictions in the first one's order of images and of classes.

    `names` say in messages which is which. Raises `InputError` unless both are of the same classes, the same rows, and
    the same label in each.
    """
    a, b = names
    if sorted(first_names) != sorted(second_names):
        raise InputError(
            f"{a} has the classes {', '.join(first_names)}; {b} has {', '.join(second_names)}; only models of the same "
            "classes can be compared"
        )
    missing = np.setxor1d(first.row_ids, second.row_ids)
    if len(missing):
        row = int(missing[0])
        there, not_there = (a, b) if row in first.row_ids else (b, a)
        raise InputError(
            f"{a} and {b} are not of the same images: {len(missing):,} rows stand in one alone, the first, row {row}, "
            f"in {there} and not in {not_there}; evaluate both models on the same split of the same data"
        )
    order = np.argsort(second.row_ids)[np.searchsorted(np.sort(second.row_ids), first.row_ids)]
    # Of each class of the first its place in the second.
    columns = np.array([list(second_names).index(name) for name in first_names])
    labels = np.argsort(columns)[second.labels[order]].astype(np.int32)
    other = Predictions(second.row_ids[order], labels, second.probabilities[order][:, columns])
    differs = np.flatnonzero(labels != first.labels)
    if len(differs):
        i = differs[0]
        raise InputError(
            f"{a} and {b} have different labels in {len(differs):,} rows, the first, row {first.row_ids[i]}, "
            f"{shown(first_names[first.labels[i]])} and {shown(first_names[labels[i]])}: they are not of the same data"
        )
    return first, other


def comparison_markdown(found: ModelComparison, names: tuple[str, str], about: Sequence[str] = ()) -> str:
    """Return the comparison as a page of Markdown; `about` are lines that say what was compared."""
    low, high = found.difference_interval
    verdict = "chance explains the difference"
    if found.p_value < 0.05:
        verdict = f"the {'second' if found.difference > 0 else 'first'} is better than chance explains"
    rows = []
    for name, right in zip(names, (found.first, found.second), strict=True):
        bounds = " to ".join(map(percent, wilson_interval(right, found.images)))
        rows.append([name, f"{right:,}", percent(right / found.images), bounds])
    lines = [
        "# Two models on the same images",
        "",
        *(f"- {line}" for line in about),
        "",
        *Table(["Model", f"Right of {found.images:,}", "Accuracy %", "95 % interval"], rows).markdown(),
        "",
        f"**Second less first: {100 * found.difference:+.2f} points (95 % bootstrap interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}).** The first alone is right in {found.only_first:,} images, the second alone in "
        f"{found.only_second:,}: McNemar's exact test gives p = {found.p_value:.2g}, {verdict}. Both give the same "
        f"answer to {found.changes.trace():,}.",
        "",
        "## Which classes changed",
        "",
        "Recall, McNemar's exact test within the class, and the same corrected for the number of classes.",
        "",
        *_classes_table(found.classes).markdown(),
        "",
    ]
    changes = _changes_table(found)
    if changes.rows:
        lines += ["## The most frequent changes of the answer", "", *changes.markdown(), ""]
    return "\n".join(lines)


def _classes_table(classes: Sequence[ClassChange]) -> Table:
    rows = []
    for row in classes:
        shares = ["–"] * 3
        if row.images:
            first, second = row.first / row.images, row.second / row.images
            shares = [percent(first), percent(second), f"{100 * (second - first):+.2f}"]
        alone = [str(row.only_first), str(row.only_second)]
        rows.append([row.name, f"{row.images:,}", *shares, *alone, f"{row.p_value:.2g}", f"{row.p_holm:.2g}"])
    return Table(["Class", "Images", "First %", "Second %", "Points", "First alone", "Second alone", "p", "Holm"], rows)


def _changes_table(found: ModelComparison) -> Table:
    changes, names = found.changes.copy(), [row.name for row in found.classes]
    np.fill_diagonal(changes, 0)
    order = np.argsort(-changes, axis=None, kind="stable")[:_MOST_CHANGES]
    cells = [np.unravel_index(i, changes.shape) for i in order]
    rows = [[names[i], names[j], f"{changes[i, j]:,}"] for i, j in cells if changes[i, j]]
    return Table(["First says", "Second says", "Images"], rows)
