"""Depthwise convolution, lowered as each platform runs it best.

XLA's CPU backend has no fast grouped convolution: with it, most of a training step of these networks is spent here,
so on CPU the convolution is written as a sum of shifted images. On TPU and GPU the native one moves far fewer bytes.
`docs/performance.md` has the measurement.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fer_jax.models.shift_and_add import shift_and_add

LOWERINGS = ("auto", "native", "shift_and_add")
"""`auto` is shift_and_add on CPU and native elsewhere."""

PADDINGS = ("same", "symmetric")
"""How a strided convolution pads: `same` as TensorFlow (less before than after), `symmetric` as PyTorch."""


def padding_amounts(padding: str, size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size` pixels; the output has ceil(size / stride) pixels for both paddings."""
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def depthwise_conv(x: jax.Array, kernel: jax.Array, *, stride: int, padding: str, lowering: str = "auto") -> jax.Array:
    """Convolves each channel with its own kernel.

    Args:
      x: images, [n, h, w, c].
      kernel: [k, k, 1, c], in the dtype of `x`.
      stride: the same along both axes.
      padding: one of `PADDINGS`.
      lowering: one of `LOWERINGS`.

    Returns:
      [n, ceil(h / stride), ceil(w / stride), c] in the dtype of `x`.
    """
    pads = tuple(padding_amounts(padding, size, kernel.shape[0], stride) for size in x.shape[1:3])
    if lowering == "native":
        return _native(x, kernel, stride, pads)
    if lowering == "shift_and_add":
        return shift_and_add(x, kernel, stride, pads)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: shift_and_add(x, kernel, stride, pads),
        default=lambda x, kernel: _native(x, kernel, stride, pads),
    )


def _native(x, kernel, stride, pads):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


class DepthwiseConv(nnx.Module):
    """A depthwise convolution without bias; `kernel` is float32 [k, k, 1, channels].

    Initialised for unit variance gain of 2 over its k * k inputs (He et al. 2015); Keras and torchvision count the
    same fan for a depthwise kernel.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        stride: int,
        padding: str,
        dtype: jnp.dtype,
        lowering: str,
        rngs: nnx.Rngs,
    ):
        init = jax.nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
        self.kernel = nnx.Param(init(rngs.params(), (kernel_size, kernel_size, 1, channels), jnp.float32))
        self.stride = stride
        self.padding = padding
        self.dtype = dtype
        self.lowering = lowering

    def __call__(self, x: jax.Array) -> jax.Array:
        return depthwise_conv(
            x.astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
            lowering=self.lowering,
        )
