"""What a set of predictions is worth: accuracy with its interval, per-class figures, and who is taken for whom."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats
import sklearn.metrics

from fer_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A model's answers on one split, one row an example.

    `row_ids` int32 [n] and `labels` int32 [n] as in `fer_jax.data.fer2013.Split`; `probabilities` float32
    [n, classes], each row summing to 1.

    Raises `ValueError` for other shapes or dtypes, and `InputError` for probabilities that are not finite, which a
    diverged model gives.
    """

    row_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self):
        n = len(self.labels)
        for name, array in (("row_ids", self.row_ids), ("labels", self.labels)):
            if array.shape != (n,) or array.dtype != np.int32:
                raise ValueError(f"{name}: expected int32 [{n}], found {array.dtype} {array.shape}")
        found = self.probabilities
        if found.ndim != 2 or len(found) != n or found.dtype != np.float32:
            raise ValueError(f"probabilities: expected float32 [{n}, classes], found {found.dtype} {found.shape}")
        not_finite = ~np.isfinite(found).all(axis=1)
        if not_finite.any():
            raise InputError(
                f"predictions: the probabilities of {not_finite.sum()} of {n} examples (first: row "
                f"{self.row_ids[not_finite.argmax()]}) are not finite numbers; the model has diverged: evaluate an "
                "earlier checkpoint, or train again with a lower learning rate"
            )
        # The tolerance leaves room for a softmax rounded to bfloat16 and refuses logits.
        if not np.allclose(found.sum(axis=1), 1, atol=1e-2):
            raise ValueError("probabilities: expected rows that sum to 1")

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each example, int64 [n]; the lower index on a tie."""
        return self.probabilities.argmax(axis=1)


@dataclasses.dataclass(frozen=True)
class ClassificationMetrics:
    """The figures of one evaluation. All rates are fractions of 1; arrays are indexed by class.

    `accuracy_interval` is the 95 % Wilson interval. `log_loss` is the mean of -log(probability of the true class) in
    nats. `precision`, `recall`, `f1` float64 [classes] are 0 where they would divide by zero; `support` int64
    [classes] counts the examples of each true class. `macro` and `weighted` are (precision, recall, F1) averaged over
    the classes, plainly and by support. `confusion` int64 [classes, classes] has a row for each true class.
    """

    class_names: tuple[str, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    log_loss: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    macro: tuple[float, float, float]
    weighted: tuple[float, float, float]
    confusion: np.ndarray

    @property
    def macro_f1(self) -> float:
        """The unweighted mean of the classes' F1."""
        return self.macro[2]

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have examples."""
        return float(self.recall[self.support > 0].mean())

    def recall_interval(self, label: int) -> tuple[float, float] | None:
        """The 95 % Wilson interval of the recall of `label`; None where it has no examples."""
        n = int(self.support[label])
        return wilson_interval(int(self.confusion[label, label]), n) if n else None

    def most_confused(self, label: int) -> tuple[int, int] | None:
        """(class, count): what examples of `label` are most often mistaken for; None where none is mistaken."""
        mistakes = self.confusion[label].copy()
        mistakes[label] = 0
        other = int(mistakes.argmax())
        return (other, int(mistakes[other])) if mistakes[other] else None

    def to_json(self) -> dict:
        """Return the same figures as plain JSON values."""
        per_class = {}
        for label, name in enumerate(self.class_names):
            confused = self.most_confused(label)
            interval = self.recall_interval(label)
            per_class[name] = {
                "precision": float(self.precision[label]),
                "recall": float(self.recall[label]),
                "recall_wilson_95": list(interval) if interval else None,
                "f1": float(self.f1[label]),
                "support": int(self.support[label]),
                "most_confused_with": self.class_names[confused[0]] if confused else None,
                "most_confused_count": confused[1] if confused else 0,
            }
        averages = ("precision", "recall", "f1")
        return {
            "examples": int(self.support.sum()),
            "correct": int(self.confusion.trace()),
            "accuracy": self.accuracy,
            "accuracy_wilson_95": list(self.accuracy_interval),
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "macro_average": dict(zip(averages, self.macro, strict=True)),
            "weighted_average": dict(zip(averages, self.weighted, strict=True)),
            "per_class": per_class,
            "class_names": list(self.class_names),
            "confusion_matrix": self.confusion.tolist(),
        }


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval (low, high) of a proportion `correct / n`, without continuity correction.

    Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3. Unlike the normal
    approximation it stays within [0, 1] and keeps its width at 0 and 1. `ValueError` unless 0 <= correct <= n, n > 0.
    """
    if n <= 0:
        raise ValueError(f"a proportion needs at least one example, found {n}")
    interval = scipy.stats.binomtest(int(correct), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def proportion(right: np.ndarray) -> dict:
    """Return how many of `right`, bool [n], are true, as plain JSON values; accuracy and interval of none are None."""
    n, correct = len(right), int(right.sum())
    return {
        "n": n,
        "correct": correct,
        "accuracy": correct / n if n else None,
        "wilson_95": list(wilson_interval(correct, n)) if n else None,
    }


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> ClassificationMetrics:
    """Return the metrics of `probabilities` float32 [n, classes] against `labels` int32 [n].

    Every class that has examples counts in the macro average. Raises `ValueError` when there are no examples,
    when a label is no class, or when the number of class names is not that of the probabilities' columns.
    """
    n, num_classes = probabilities.shape
    if n == 0 or labels.shape != (n,):
        raise ValueError(f"expected as many labels as rows of probabilities, at least 1; found {labels.shape}, {n}")
    if len(class_names) != num_classes:
        raise ValueError(f"expected {num_classes} class names, found {len(class_names)}: {', '.join(class_names)}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels: expected 0 to {num_classes - 1}, found {labels.min()} to {labels.max()}")

    classes = range(num_classes)
    predicted = probabilities.argmax(axis=1)
    confusion = sklearn.metrics.confusion_matrix(labels, predicted, labels=classes)
    scores = {
        average: sklearn.metrics.precision_recall_fscore_support(
            labels, predicted, labels=classes, average=average, zero_division=0
        )
        for average in (None, "weighted")
    }
    # In float64 the clip of log_loss lies at 2e-16; at float32's 1e-7 it would flatter a model that is sure and wrong.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    correct = int(confusion.trace())
    precision, recall, f1, support = scores[None]
    return ClassificationMetrics(
        class_names=tuple(class_names),
        accuracy=correct / n,
        accuracy_interval=wilson_interval(correct, n),
        log_loss=float(sklearn.metrics.log_loss(labels, exact, labels=classes)),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        macro=(float(precision[support > 0].mean()), float(recall[support > 0].mean()), float(f1[support > 0].mean())),
        weighted=(float(scores["weighted"][0]), float(scores["weighted"][1]), float(scores["weighted"][2])),
        confusion=confusion,
    )
