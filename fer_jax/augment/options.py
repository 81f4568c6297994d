"""What a config says of the augmentation. Nothing here imports JAX."""

import dataclasses
import numbers

from fer_jax.errors import InputError


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_FRACTION = (
    "a fraction of the image size, at least 0 and below 1",
    lambda value: _is_number(value) and 0 <= value < 1,
)

RANGES = {
    "horizontal_flip": ("True or False", lambda value: isinstance(value, bool)),
    # Beyond 45 degrees an output column crosses the source rows at too flat an angle for the first pass.
    "rotation_range": ("degrees from 0 to 45", lambda value: _is_number(value) and 0 <= value <= 45),
    "width_shift_range": _FRACTION,
    "height_shift_range": _FRACTION,
    "zoom_range": ("a number of at least 0 and below 1", lambda value: _is_number(value) and 0 <= value < 1),
    "fill_mode": ("'nearest', the only mode", lambda value: value == "nearest"),
    "random_erasing": ("a probability from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
}
"""What each field of `Augmentation` may hold: in words, and the test of it."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of the random map, in the terms of Keras' `ImageDataGenerator`; every draw is uniform.

    `horizontal_flip`: mirror an image with probability 1/2. `rotation_range`: degrees to either side, 0 to 45.
    `width_shift_range`, `height_shift_range`: fractions of the image size to either side, along columns and rows.
    `zoom_range`: each axis is scaled by its own factor from 1 - zoom_range to 1 + zoom_range.
    `fill_mode`: the values beyond the border; only `nearest`, the closest pixel of the border, is supported.
    `random_erasing`: the probability that a rectangle of the image is erased (`random_erasing.py`); not in Keras.

    Raises `InputError` naming the key under `config.augment` for a value outside its range.
    """

    horizontal_flip: bool = True
    rotation_range: float = 10.0
    width_shift_range: float = 0.1
    height_shift_range: float = 0.1
    zoom_range: float = 0.1
    fill_mode: str = "nearest"
    random_erasing: float = 0.0

    def __post_init__(self):
        for key, (expected, holds) in RANGES.items():
            found = getattr(self, key)
            if not holds(found):
                raise InputError(
                    f"config.augment.{key}: found {found!r}, expected {expected}; set it in the config file"
                )
