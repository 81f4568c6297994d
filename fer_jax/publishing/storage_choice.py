"""Choose the smallest storage of a model that changes what it is worth by at most 0.1 point."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from fer_jax.data.dataset import Split
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.inference.temperature import fit_temperature
from fer_jax.runs.temperature import StoredTemperature
from fer_jax.zoo.model_file import read_model_file, write_model_file
from fer_jax.zoo.storage import STORAGES, Storage

MOST = 0.001
"""Of accuracy, as a fraction, that a storage may change in either direction."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A model in a storage, judged on the validation split beside the same model in float32.

    `changed` counts the images whose most probable class differs, `largest` is the largest difference of any
    probability; `accuracy` is a fraction, `num_bytes` the size of the file.
    """

    storage: Storage
    num_bytes: int
    accuracy: float
    changed: int
    largest: float


def write_smallest(
    model: TrainedModel, path: Path, validation: Split, *, fitted_on: str, provenance: dict
) -> list[Trial]:
    """Write `model` to `path` in the smallest of `STORAGES` that serves; return the trials, the last one chosen.

    The storage is chosen and the temperature fitted on `validation`; `fitted_on` names that split.
    """
    if not len(validation):
        raise InputError("the data have no validation split; the storage and the temperature are chosen by it")
    whole = model.probabilities(validation.images)
    accuracy = _accuracy(whole, validation.labels)
    trials = []
    for storage in STORAGES:
        write: dict[str, Any] = {"record": model.record, "storage": storage, "provenance": provenance}
        params, batch_stats = model.weights()
        write_model_file(path, params, batch_stats, temperature=None, **write)
        found = model.with_weights_of(read_model_file(path)).probabilities(validation.images)
        trial = Trial(
            storage,
            path.stat().st_size,
            _accuracy(found, validation.labels),
            int((found.argmax(axis=1) != whole.argmax(axis=1)).sum()),
            float(np.abs(found - whole).max()),
        )
        trials.append(trial)
        if abs(trial.accuracy - accuracy) <= MOST:
            break
    temperature = StoredTemperature(
        temperature=fit_temperature(found, validation.labels), fitted_on=fitted_on, images=len(validation)
    )
    write_model_file(path, params, batch_stats, temperature=temperature, **write)
    return trials


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())
