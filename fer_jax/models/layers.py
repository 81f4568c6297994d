"""The layers that the backbones share: padded convolution, batch normalisation, squeeze-excite, drop path."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fer_jax.models.convolutions.dense import conv, pointwise_conv
from fer_jax.models.convolutions.depthwise import padding_amounts
from fer_jax.models.initialisation import shaped, zeros

# He et al. 2015 over the outputs, truncated: the published initialisation of EfficientNet, and torchvision's of
# MobileNetV2 but for the truncation.
_conv_init = shaped(jax.nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"))


class Conv(nnx.Module):
    """A dense convolution without bias; `kernel` is float32 [k, k, inputs, outputs], the image [n, h, w, inputs]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        padding: str = "same",
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(_conv_init(rngs.params(), (kernel_size, kernel_size, inputs, outputs), jnp.float32))
        self.stride = stride
        self.padding = padding
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        kernel = self.kernel[...].astype(self.dtype)
        if kernel.shape[0] == 1 and self.stride == 1:
            return pointwise_conv(x, kernel[0, 0])
        pads = tuple(padding_amounts(self.padding, size, kernel.shape[0], self.stride) for size in x.shape[1:3])
        return conv(x, kernel, self.stride, pads)


class SqueezeExcite(nnx.Module):
    """Scales each channel by a gate computed from the mean of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int, reduced: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        init: dict[str, Any] = {"kernel_init": _conv_init, "bias_init": zeros, "dtype": dtype, "rngs": rngs}
        self.reduce = nnx.Linear(channels, reduced, **init)
        self.expand = nnx.Linear(reduced, channels, **init)

    def __call__(self, x: jax.Array) -> jax.Array:
        squeezed = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        gate = jax.nn.sigmoid(self.expand(jax.nn.silu(self.reduce(squeezed))))
        return x * gate[:, None, None, :].astype(x.dtype)


def drop_path(x: jax.Array, rate: float, rngs: nnx.Rngs) -> jax.Array:
    """Zero whole examples of `x` [n, ...] with probability `rate` and scale the others by 1 / (1 - rate)."""
    keep = jax.random.bernoulli(rngs.drop_path(), 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)
