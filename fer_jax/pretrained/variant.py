"""Read and check the conventions of a backbone's weights as a file records them."""

import numbers
from typing import TypeGuard

from fer_jax.errors import InputError, shown
from fer_jax.models.backbones import BACKBONES
from fer_jax.models.spec import BackboneSpec

_PADDINGS = ("same", "symmetric")


def read_variant(variant: object, where: str) -> BackboneSpec:
    """Return the backbone that `variant`, the JSON of `BackboneSpec.variant`, describes; other keys are ignored.

    Raises `InputError`, which begins with `where`, for an unknown backbone and for numbers that no network can use.
    """
    if not isinstance(variant, dict):
        raise InputError(f"{where}: {shown(variant)}, expected the description of a backbone")
    name = variant.get("name")
    if not isinstance(name, str) or name not in BACKBONES:
        raise InputError(
            f"{where}: the backbone {shown(name)}, expected one of {', '.join(BACKBONES)}; "
            "a newer version of this project may know it"
        )
    padding, epsilon = variant.get("padding"), variant.get("batch_norm_epsilon")
    if padding not in _PADDINGS:
        raise InputError(f"{where}: padding {shown(padding)}, expected {' or '.join(_PADDINGS)}; the file is damaged")
    if not (_is_number(epsilon) and 0 < epsilon < 1):
        raise InputError(
            f"{where}: batch_norm_epsilon {shown(epsilon)}, expected a number above 0 and below 1; the file is damaged"
        )
    preprocessing = variant.get("preprocessing")
    if not (
        isinstance(preprocessing, dict)
        and preprocessing.keys() == {"mean", "std"}
        and all(isinstance(values, list) and len(values) == 3 for values in preprocessing.values())
        and all(_is_number(value) for values in preprocessing.values() for value in values)
        and all(value > 0 for value in preprocessing["std"])
    ):
        raise InputError(
            f"{where}: preprocessing {shown(preprocessing)}, expected three finite numbers of mean and three of std, "
            "these above 0; the file is damaged"
        )
    return BACKBONES[name].with_variant(variant)


def _is_number(value: object) -> TypeGuard[float]:
    # The bound keeps float32 from overflowing, and out what is not finite.
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # Python compares its own whole numbers of any size, of which `Real` does not tell.
    return real and abs(value) < 1e30  # type: ignore[arg-type, operator]
