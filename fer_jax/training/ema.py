"""The exponential moving average of the model that training ends with (Polyak averaging)."""

import jax
import jax.numpy as jnp

from fer_jax.params.tree import select_like


def average_decay(decay: float, step: jax.Array | int) -> jax.Array:
    """Return the decay at a step, `min(decay, (1 + step) / (10 + step))`, float32 []; `step` counts those taken before.

    The average starts at the first parameters, and this rising decay of TensorFlow's `ExponentialMovingAverage`
    forgets them within tens of steps, where a constant 0.999 would need thousands; so no later correction is needed.
    """
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def moved_average(average: dict, model: dict, decay: float, step: jax.Array | int) -> dict:
    """Return `average` moved towards those leaves of `model` that it has, by `1 - average_decay(decay, step)`.

    Of leaves that stand still the average stands still too, bit for bit.
    """
    share = 1.0 - average_decay(decay, step)
    return jax.tree.map(lambda old, new: old + share * (new - old), average, select_like(model, average))
