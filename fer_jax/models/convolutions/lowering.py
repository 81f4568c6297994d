"""The names of the lowerings of the depthwise convolution, as a config has them. Nothing here imports JAX."""

LOWERINGS = ("native", "shift_and_add")
"""XLA's grouped convolution, and the sum of shifted images of `fer_jax.models.convolutions.shift_and_add`."""

DIRECTIONS = ("forward", "input gradient", "kernel gradient")
"""The computations that can each have their own lowering; a config names the three lowerings in this order."""

LOWERING_FORMS = (
    f"auto, {', '.join(LOWERINGS)}, or three of the latter two joined by commas, for {', '.join(DIRECTIONS[:2])} and "
    f"{DIRECTIONS[2]}"
)
"""The values of `config.model.depthwise_lowering`, in words; see `depthwise_conv`."""


def by_direction(lowering: str) -> tuple[str, str, str]:
    """Return the lowering of each of `DIRECTIONS`, given one name for all of them or three names joined by commas.

    Raises `ValueError` for anything else, including `auto`.
    """
    names = tuple(lowering.split(","))
    names = 3 * names if len(names) == 1 else names
    if len(names) != 3 or not set(names) <= set(LOWERINGS):
        raise ValueError(f"{lowering!r} is no lowering; expected one or three of {', '.join(LOWERINGS)}")
    return names


def is_lowering(value: object) -> bool:
    """Return whether `by_direction` accepts `value`."""
    try:
        return isinstance(value, str) and bool(by_direction(value))
    except ValueError:
        return False
