"""Mixup (Zhang et al. 2018): convex combinations of pairs of training images and of their targets.

Every example is mixed with the one before it in the batch, the first with the last. A batch is in random order, so the
pairs are random, and only one image moves between neighbouring devices. Each example has its own weight, drawn with its
own key, so the result does not depend on the number of devices.
"""

import jax
import jax.numpy as jnp


def mixing_weights(keys: jax.Array, alpha: float) -> jax.Array:
    """Return the share of each example in its mixture: float32 [n] from 1/2 to 1, for keys [n].

    It is max(w, 1 - w) for a draw w from Beta(alpha, alpha). Since pairs are random, the mixtures have the same
    distribution as with w; but each is mostly its own example, so that the training accuracy is meaningful.
    """
    draws = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
    return jnp.maximum(draws, 1 - draws)


def mix(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Mix `values` [n, ...] by `weights` [n] with the values before them; the last precedes the first."""
    weights = weights.reshape(-1, *(1,) * (values.ndim - 1))
    return weights * values + (1 - weights) * jnp.roll(values, 1, axis=0)
