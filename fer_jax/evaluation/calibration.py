"""Whether a model knows how sure it may be: calibration, and accuracy where it may leave out what it is unsure of."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import sklearn.metrics

from fer_jax.evaluation.metrics import wilson_interval

BINS = 15
"""Bins of equal width of the expected calibration error, as in Guo et al. 2017."""

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""The shares of the examples that `coverage_table` answers."""

_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy agree; the confidence of an answer is the largest probability of its row.

    `ece` is the expected calibration error: the mean over the examples of |accuracy - mean confidence| of their bin.
    Noise in the bins makes it too large, the more the fewer examples; `ece_interval` is the 95 % interval of the
    percentiles of 1,000 bootstrap resamples (always the same ones). `brier` is the multi-class Brier score, the mean
    of the summed squared differences to the true class (0 to 2); `log_loss` is in nats. `bin_examples` int64 [BINS],
    `bin_confidence` and `bin_accuracy` float64 [BINS] (NaN where a bin is empty) are the reliability diagram.
    """

    ece: float
    ece_interval: tuple[float, float]
    brier: float
    log_loss: float
    mean_confidence: float
    bin_examples: np.ndarray
    bin_confidence: np.ndarray
    bin_accuracy: np.ndarray

    def to_json(self) -> dict:
        """Return the same figures as plain JSON values; an empty bin has None."""
        edges = np.linspace(0, 1, BINS + 1)
        return {
            "ece": self.ece,
            "ece_bootstrap_95": list(self.ece_interval),
            "brier": self.brier,
            "log_loss": self.log_loss,
            "mean_confidence": self.mean_confidence,
            "bins": [
                {
                    "from": round(float(edges[i]), 6),
                    "to": round(float(edges[i + 1]), 6),
                    "examples": int(self.bin_examples[i]),
                    "confidence": float(self.bin_confidence[i]) if self.bin_examples[i] else None,
                    "accuracy": float(self.bin_accuracy[i]) if self.bin_examples[i] else None,
                }
                for i in range(BINS)
            ],
        }


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Return the calibration of `probabilities` float [n, classes] against `labels` int [n], n at least 1.

    A confidence on the edge of two bins counts in the lower one.
    """
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    confidence = exact.max(axis=1)
    right = exact.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)

    def per_bin(rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.bincount(bins[rows], minlength=BINS),
            np.bincount(bins[rows], weights=confidence[rows], minlength=BINS),
            np.bincount(bins[rows], weights=right[rows], minlength=BINS),
        )

    examples, confidences, rights = per_bin(slice(None))
    n = len(labels)
    generator = np.random.default_rng(0)
    resampled = [_ece(*per_bin(generator.integers(0, n, n))) for _ in range(_RESAMPLES)]
    true = np.eye(exact.shape[1])[labels]
    with np.errstate(invalid="ignore"):
        bin_confidence, bin_accuracy = confidences / examples, rights / examples
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist()
    return Calibration(
        ece=_ece(examples, confidences, rights),
        ece_interval=(low, high),
        brier=float(((exact - true) ** 2).sum(axis=1).mean()),
        log_loss=float(sklearn.metrics.log_loss(labels, exact, labels=range(exact.shape[1]))),
        mean_confidence=float(confidence.mean()),
        bin_examples=examples,
        bin_confidence=bin_confidence,
        bin_accuracy=bin_accuracy,
    )


def _ece(examples: np.ndarray, confidences: np.ndarray, rights: np.ndarray) -> float:
    return float(np.abs(confidences - rights).sum() / examples.sum())


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What a model that answers only from a confidence of `threshold` on answers, and how often it is right then.

    It answers `answered` examples, of which `correct` are right; `interval` is Wilson's at 95 %.
    """

    threshold: float
    answered: int
    correct: int
    total: int

    @property
    def coverage(self) -> float:
        """The share of the examples that are answered."""
        return self.answered / self.total

    @property
    def accuracy(self) -> float:
        """The share of the answers that are right."""
        return self.correct / self.answered

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson_interval(self.correct, self.answered)

    def to_json(self) -> dict:
        """Return the figures as plain JSON values."""
        return {
            "threshold": self.threshold,
            "coverage": self.coverage,
            "answered": self.answered,
            "accuracy": self.accuracy,
            "accuracy_wilson_95": list(self.interval),
        }


def coverage_table(
    probabilities: np.ndarray, labels: np.ndarray, coverages: Sequence[float] = COVERAGES
) -> list[Coverage]:
    """Return, for each of `coverages`, the highest threshold on the confidence that answers at least that share.

    `probabilities` float [n, classes], `labels` int [n], n at least 1. Examples of one confidence are answered
    together, so that more than the share may be.
    """
    confidence, right = _by_confidence(probabilities, labels)
    n = len(labels)
    table = []
    for share in coverages:
        # Without the rounding 0.7 * 10 would ask for an eighth example.
        threshold = confidence[max(1, int(np.ceil(round(share * n, 6)))) - 1]
        answered = int(np.searchsorted(-confidence, -threshold, side="right"))
        table.append(Coverage(float(threshold), answered, int(right[:answered].sum()), n))
    return table


def coverage_curve(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (coverage, accuracy), float64 [n] each, of answering only the k most confident examples, k = 1 to n."""
    _, right = _by_confidence(probabilities, labels)
    answered = np.arange(1, len(labels) + 1)
    return answered / len(labels), np.cumsum(right) / answered


def _by_confidence(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, highest first, and whether each answer is right."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    return confidence[order], (probabilities.argmax(axis=1) == labels)[order]
