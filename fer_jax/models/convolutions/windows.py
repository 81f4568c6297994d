"""The pixels of a padded image that each tap of a convolution's kernel multiplies."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after each of the two axes of an image."""


def pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Return `x` [n, h, w, c] with zeros around both axes."""
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def taps(x: jax.Array, k: int, stride: int, pads: Pads) -> Iterator[tuple[int, int, jax.Array]]:
    """Yield each tap (row, column) of k * k with the pixels of the padded `x` [n, h, w, c] that it multiplies.

    The pixels are [n, h', w', c], with the height and width of the convolution's output.
    """
    padded = pad(x, pads)
    n, *extents, channels = padded.shape
    height, width = ((extent - k) // stride + 1 for extent in extents)
    for row in range(k):
        for column in range(k):
            end = (n, row + (height - 1) * stride + 1, column + (width - 1) * stride + 1, channels)
            yield row, column, lax.slice(padded, (0, row, column, 0), end, (1, stride, stride, 1))
