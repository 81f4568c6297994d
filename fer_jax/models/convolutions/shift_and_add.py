"""Depthwise convolution as a sum of shifted images, and its derivatives written by hand: the lowering for CPU.

The value is the sum over the k * k taps of the shifted image times one weight per channel, which XLA fuses into one
loop. Left to automatic differentiation, each tap becomes a padded image of its own in the gradient of the input, and
a reduction of its own in that of the kernel. Here the input's gradient is again a sum of shifted images, one for each
phase of the stride, and the kernel's is one reduction with k * k results that reads its operands once.
`docs/performance.md` has the measurement.
"""

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fer_jax.models.convolutions.windows import Pads, pad, taps


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, terms)


def forward(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Convolve each channel of `x` [n, h, w, c] with `kernel` [k, k, 1, c], both axes padded with zeros by `pads`.

    The sums are kept in float32, as the native convolution keeps them; the result has the dtype of `x`.
    """
    shifted = taps(x, kernel.shape[0], stride, pads)
    return _sum(_f32(tap) * _f32(kernel[row, column, 0]) for row, column, tap in shifted).astype(x.dtype)


def input_gradient(gradient: jax.Array, x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Return the gradient of `x` given that of the result; only the shape and dtype of `x` are used.

    Input pixel i = stride * q + phase meets output pixel q + shift through tap t where stride * shift = phase + pad -
    t, so each phase is a sum of shifted gradients of its own, over the taps for which that shift is whole.
    """
    k, size = kernel.shape[0], x.shape[1:3]
    quotients = [-(-extent // stride) for extent in size]
    shifts = [_whole_shifts(k, stride, before) for before, _ in pads]
    # As much padding as the extreme shifts need, to read one window of `quotients` pixels for each.
    margins = []
    for axis in range(2):
        all_shifts = [shift for phase in shifts[axis] for _, shift in phase]
        out = gradient.shape[1 + axis]
        margins.append((max(0, -min(all_shifts)), max(0, max(all_shifts) + quotients[axis] - out)))
    padded = pad(gradient, (margins[0], margins[1]))

    def window(row_shift, column_shift):
        corner = (margins[0][0] + row_shift, margins[1][0] + column_shift)
        return padded[:, corner[0] : corner[0] + quotients[0], corner[1] : corner[1] + quotients[1]]

    phases = [
        [
            _sum(_f32(window(i, j)) * _f32(kernel[row, column, 0]) for row, i in row_taps for column, j in column_taps)
            for column_taps in shifts[1]
        ]
        for row_taps in shifts[0]
    ]
    if stride == 1:
        return phases[0][0].astype(x.dtype)
    # [n, q, phase, q, phase, c] -> [n, stride * q, stride * q, c]
    woven = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    n, channels = gradient.shape[0], gradient.shape[3]
    woven = woven.reshape(n, quotients[0] * stride, quotients[1] * stride, channels)
    return woven[:, : size[0], : size[1]].astype(x.dtype)


def _whole_shifts(k: int, stride: int, before: int) -> list[list[tuple[int, int]]]:
    """Return, for each phase of the stride along one axis, the (tap, shift) pairs of the gradients it sums."""
    return [
        [(tap, (phase + before - tap) // stride) for tap in range(k) if (phase + before - tap) % stride == 0]
        for phase in range(stride)
    ]


def kernel_gradient(gradient: jax.Array, x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Return the gradient of `kernel` given that of the result; only the shape and dtype of `kernel` are used.

    For each tap it is the sum over examples and pixels of shifted input times gradient.
    """
    k = kernel.shape[0]
    products = tuple(_f32(tap) * _f32(gradient) for _, _, tap in taps(x, k, stride, pads))
    zeros = (np.float32(0),) * len(products)
    # Image by image: the reduction walks its operands once a channel, so they have to stay in the cache.
    sums = lax.reduce(products, zeros, lambda a, b: tuple(i + j for i, j in zip(a, b, strict=True)), (1, 2))
    return jnp.stack(sums).sum(axis=1).reshape(k, k, 1, -1).astype(kernel.dtype)


def _f32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)
