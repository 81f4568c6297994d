"""Temperature scaling: one number that makes the confidence of a model's answers honest, and changes no answer.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: the logits are divided by a temperature that
is fitted on data the model was not trained on. Above 1 it takes confidence away, below 1 it adds some.
"""

import math

import numpy as np

TEMPERATURES = (0.2, 10.0)
"""The bounds of a fitted temperature: a split that a model gets all right would ask for 0."""

# Logarithms of float32 probabilities that are 0.
_SMALLEST = float(np.finfo(np.float32).tiny)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities float32 [n, classes] of logits [n, classes], computed in their precision."""
    # By NumPy: JAX would first compile it for each number of images.
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(probabilities) / temperature) as float32 [n, classes], each row summing to 1.

    `probabilities` are float [n, classes], as a softmax gives them: their logarithms are the logits but for a constant
    in each row. `ValueError` for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a positive number, found {temperature}")
    return softmax(np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature within `TEMPERATURES` that makes the log loss of `tempered` against `labels` smallest.

    `probabilities` float [n, classes], `labels` integers [n]. The log loss is convex in 1 / temperature, so that there
    is one minimum. `ValueError` without examples.
    """
    # Here, because a prediction, which does not fit, need not wait for its import.
    import scipy.optimize

    if not len(labels):
        raise ValueError("a temperature needs at least one example")
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    logits -= logits.max(axis=1, keepdims=True)
    true = logits[np.arange(len(labels)), labels]

    def log_loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(scale * logits).sum(axis=1)) - scale * true))

    bounds = tuple(math.log(bound) for bound in TEMPERATURES)
    found = scipy.optimize.minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)
