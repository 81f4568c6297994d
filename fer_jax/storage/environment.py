"""Settings of the storage that the environment gives."""

import os
from collections.abc import Callable

from fer_jax.errors import InputError


def number_from_environment(variable: str, default: float, accepts: Callable[[float], bool], expected: str) -> float:
    """Return the number that the environment variable `variable` gives, or `default` where it is empty or not set.

    Raises `InputError`, which says what was `expected`, for what is no number or not one that `accepts` takes.
    """
    text = os.environ.get(variable, "")
    try:
        number = float(text or default)
    except ValueError:
        number = float("nan")  # which no bound accepts
    if not accepts(number):
        raise InputError(f"{variable}={text}: expected {expected}")
    return number
