"""Mixup (Zhang et al. 2018): convex combinations of pairs of training images and of their targets.

Every example is mixed with the one before it in the batch, the first with the last: a batch is in random order, and
over several devices no more than one image moves between neighbours. Each example has a weight of its own, drawn by
its own key, so that the result does not depend on the number of devices.
"""

import jax
import jax.numpy as jnp


def mixing_weights(keys: jax.Array, alpha: float) -> jax.Array:
    """The share of each example in its mixture: float32 [n] from 1/2 to 1, for keys [n].

    A draw w from Beta(alpha, alpha), or 1 - w where that is more. As pairs are random, the mixtures have the same
    distribution; but each belongs foremost to its own example, so that the accuracy in training means something.
    """
    draws = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
    return jnp.maximum(draws, 1 - draws)


def mix(values: jax.Array, weights: jax.Array) -> jax.Array:
    """`weights` [n] of `values` [n, ...], and the rest of the values before them, the first after the last."""
    weights = weights.reshape(-1, *(1,) * (values.ndim - 1))
    return weights * values + (1 - weights) * jnp.roll(values, 1, axis=0)
