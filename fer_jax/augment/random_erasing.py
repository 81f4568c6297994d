"""Random erasing (Zhong et al. 2020): a rectangle becomes noise, so that the network relies on no single part.

The rectangle is found by comparing pixel indices with its borders: one fused pass over the image, without gathers.
"""

import jax
import jax.numpy as jnp

AREA = (0.02, 0.4)
"""Smallest and largest share of the image that is erased (Zhong et al. 2020, section 5.2)."""

LEAST_ASPECT = 0.3
"""Smallest ratio of the rectangle's sides, in either direction (same section)."""


def random_rectangles(keys: jax.Array, size: int) -> jax.Array:
    """Draw rectangles in images of `size` x `size` pixels: int32 [n, 4] of top, left, height, width, for keys [n].

    The area is uniform, and so is the logarithm of the ratio of height to width: tall and wide are equally likely. The
    paper draws again if a rectangle does not fit; here the ratio is drawn from those that fit.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys)
    area = AREA[0] + (AREA[1] - AREA[0]) * draws[:, 0]
    # Sides sqrt(area * ratio) and sqrt(area / ratio) are at most 1 for ratios from area to 1 / area.
    longest = -jnp.log(jnp.maximum(LEAST_ASPECT, area))
    ratio = jnp.exp(longest * (2 * draws[:, 1] - 1))
    sides = jnp.stack([jnp.sqrt(area * ratio), jnp.sqrt(area / ratio)], axis=-1)
    sides = jnp.clip(jnp.round(size * sides), 1, size).astype(jnp.int32)
    # A float32 draw just below 1 may round up to the whole of its range.
    corners = jnp.minimum((draws[:, 2:] * (size - sides + 1)).astype(jnp.int32), size - sides)
    return jnp.concatenate([corners, sides], axis=-1)


def erase(images: jax.Array, keys: jax.Array, probability: float) -> jax.Array:
    """Erase a random rectangle of each image with `probability`.

    What is erased becomes uniform noise in 0..255, a value of its own for each pixel (what the paper found best). It is
    the same in all channels: a key erases a gray image and the same image in colour alike, and the noise is gray.

    Args:
      images: float32 [n, size, size] or [n, size, size, 3], in 0..255.
      keys: keys [n].
      probability: of an image being erased in part, 0 to 1.

    Returns:
      float32, of the shape of `images`.
    """
    size = images.shape[1]
    rectangle_keys, noise_keys, chance_keys = (jax.vmap(jax.random.split, (0, None))(keys, 3)[:, i] for i in range(3))
    top, left, height, width = (x[:, None, None] for x in random_rectangles(rectangle_keys, size).T)
    rows, columns = jnp.arange(size)[:, None], jnp.arange(size)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(chance_keys)
    noise = jax.vmap(lambda key: jax.random.uniform(key, (size, size), maxval=255.0))(noise_keys)
    channels = (1,) * (images.ndim - 3)
    erased = (inside & chosen[:, None, None]).reshape(*inside.shape, *channels)
    return jnp.where(erased, noise.reshape(*noise.shape, *channels), images)
