"""Class weights, `config.train.class_weights`: how much the loss of an example counts, by its label."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from fer_jax.errors import InputError, nearest

KEY = "config.train.class_weights"
EXPECTED = (
    "None, balanced, a positive number for each class such as (1, 8.5, 1, 1, 1, 1, 1), or numbers by class such as "
    "disgust:8.5,fear:2 (the others: 1)"
)


def parse_class_weights(value: Any) -> str | tuple[float, ...] | dict[str, float] | None:
    """Return None, "balanced", one number a class, or numbers by class name, whatever form `value` has.

    A text is what a command line gives; a config file may hold a tuple or a dict as well. Raises `InputError` for
    anything else, and for weights that are not positive and finite.
    """
    if isinstance(value, ConfigDict):  # as a config keeps a dict
        value = value.to_dict()
    found = _split(value) if isinstance(value, str) else value
    if found is None or found == "balanced":
        return found
    weights: tuple[float, ...] | dict[str, float]
    try:
        if isinstance(found, Mapping):
            weights = {str(name): float(number) for name, number in found.items()}
        else:
            weights = tuple(float(number) for number in found)
    except (TypeError, ValueError, OverflowError):
        weights = ()
    numbers = weights.values() if isinstance(weights, dict) else weights
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise InputError(f"{KEY}={value!r}: expected {EXPECTED}")
    return weights


def _split(text: str) -> str | list[str] | dict[str, str]:
    parts = [part.strip() for part in text.strip("()[]{} ").split(",") if part.strip()]
    named = [part for part in parts if ":" in part or "=" in part]
    if not named:
        return "balanced" if parts == ["balanced"] else parts
    pairs = [part.replace("=", ":").partition(":") for part in parts]
    return {name.strip(" '\""): number for name, _, number in pairs}


def class_weights(
    value: Any, class_names: Sequence[str], class_counts: Sequence[float] = ()
) -> tuple[float, ...] | None:
    """Return the weight of each class, scaled so that its mean over the training images is 1; None for no weights.

    `balanced` lets every class that occurs count as much as any other: its weight is images / (classes * images of the
    class). `class_counts` are the training images of each class, () for equally many.

    Raises `InputError` as `parse_class_weights` does, for another number of weights than there are classes, and for a
    class that the data have not.
    """
    found = parse_class_weights(value)
    if found is None:
        return None
    counts = list(class_counts) or [1.0] * len(class_names)
    if isinstance(found, str):  # "balanced"
        weights = [1 / count if count else 1.0 for count in counts]
    elif isinstance(found, dict):
        for name in found:
            if name not in class_names:
                raise InputError(
                    f"{KEY}: the data have no class {name!r}{nearest(name, class_names)}; they have "
                    f"{', '.join(class_names)}"
                )
        weights = [found.get(name, 1.0) for name in class_names]
    elif len(found) != len(class_names):
        raise InputError(
            f"{KEY}={value!r}: {len(found)} numbers, expected {len(class_names)}, one for each of "
            f"{', '.join(class_names)}"
        )
    else:
        weights = list(found)
    mean = sum(weight * count for weight, count in zip(weights, counts, strict=True)) / sum(counts)
    return tuple(weight / mean for weight in weights)
