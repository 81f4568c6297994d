"""Weights and images drawn from names and shapes alone, the same wherever NumPy is; and what is kept of activations.

The draw makes an untrained network's output depend on its input, layer for layer: He et al.'s gain over the inputs of
each kernel, gammas in [0.5, 1.5], betas and means of N(0, 0.3).
"""

import zlib

import numpy as np

VALUES_KEPT = 48


def draw_state(shapes):
    """A PyTorch state dict of NumPy arrays for `{name: shape}`."""
    return {name: _draw(name, shape) for name, shape in shapes.items()}


def _draw(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("weight"):
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    return (rng.standard_normal(shape) * 0.3).astype(np.float32)


def draw_images(size, count=2, cells=10):
    """RGB float32 [count, size, size, 3] in 0..255: squares of one colour with some noise."""
    rng = np.random.default_rng(size)
    coarse = rng.uniform(20, 235, (count, cells, cells, 3))
    index = np.arange(size) * cells // size
    noise = rng.uniform(-20, 20, (count, size, size, 3))
    return (coarse[:, index][:, :, index] + noise).astype(np.float32)


def kept_values(activation):
    """`VALUES_KEPT` values of an array [n, h, w, c], spread evenly over it."""
    flat = np.asarray(activation).ravel()
    return flat[np.linspace(0, flat.size - 1, VALUES_KEPT).astype(int)]
