"""The temperature that a report uses: the one stored with the checkpoint, or one fitted on the validation split."""

from collections.abc import Callable

import numpy as np

from fer_jax.data.dataset import Dataset
from fer_jax.inference.model import TrainedModel
from fer_jax.inference.temperature import fit_temperature
from fer_jax.runs.temperature import StoredTemperature


def temperature_for(
    model: TrainedModel,
    data: Dataset,
    validation: np.ndarray | None = None,
    message: Callable[[str], None] = print,
) -> StoredTemperature | None:
    """Return the temperature of `model`; None if none is stored and `data` has no validation split.

    `validation` are the model's probabilities on `data.validation` where they are known: float32 [n, classes]; the
    temperature is fitted on them anew. Otherwise a stored one serves, and only without it that split is predicted.
    A temperature fitted on the data that the model was trained with is stored with its checkpoint; on other data it
    serves this report alone. `message` takes a line about what happens.
    """
    stored = model.stored_temperature()
    if not len(data.validation) or (stored is not None and validation is None):
        return stored
    if validation is None:
        message(f"fitting the temperature on {len(data.validation):,} images of the validation split")
        validation = model.probabilities(data.validation.images)
    found = StoredTemperature(
        temperature=fit_temperature(validation, data.validation.labels),
        fitted_on=f"{data.describe_split('validation')} of {data.source}",
        images=len(data.validation),
    )
    if data.fingerprint() == model.record.description.data.fingerprint:
        try:
            model.store_temperature(found)
        except OSError as error:
            message(f"the temperature is not stored: {error.filename} cannot be written ({error.strerror})")
    return found
