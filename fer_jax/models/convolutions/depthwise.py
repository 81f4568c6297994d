"""Depthwise convolution, with the lowering that is fastest on each platform and in each direction.

XLA's CPU backend has no fast grouped convolution: with it, most of a training step of these networks is spent here,
so on CPU the convolution is written as a sum of shifted images. On TPU the native one moves far fewer bytes. On a GPU
the native one is the default, although it is slow for some shapes, in the gradients most of all
(https://github.com/jax-ml/jax/issues/13800 and 23713): `scripts/benchmark.py --what=depthwise` measures which lowering
is faster on a device and prints the config value that sets it. `docs/performance.md` has the numbers.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fer_jax.models.convolutions import shift_and_add
from fer_jax.models.convolutions.lowering import by_direction
from fer_jax.models.initialisation import shaped

AUTO = {"cpu": "shift_and_add", "tpu": "native", "gpu": "native"}
"""What `auto` is on each platform, in all directions and for all shapes."""

PADDINGS = ("same", "symmetric")
"""How a strided convolution pads: `same` as TensorFlow (less before than after), `symmetric` as PyTorch."""


def padding_amounts(padding: str, size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis of `size` pixels.

    The output has ceil(size / stride) pixels for both paddings.
    """
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@functools.partial(jax.jit, static_argnames=("stride", "padding", "lowering"))
def depthwise_conv(x: jax.Array, kernel: jax.Array, *, stride: int, padding: str, lowering: str = "auto") -> jax.Array:
    """Convolve each channel with its own kernel.

    Args:
      x: images, [n, h, w, c].
      kernel: [k, k, 1, c], in the dtype of `x`.
      stride: the same along both axes.
      padding: one of `PADDINGS`.
      lowering: as `by_direction` takes it; or `auto`, which is that of `AUTO` for the platform that the convolution is
        compiled for.

    Returns:
      [n, ceil(h / stride), ceil(w / stride), c] in the dtype of `x`.
    """
    pads = tuple(padding_amounts(padding, size, kernel.shape[0], stride) for size in x.shape[1:3])

    def lowered(names: str):
        return functools.partial(_lowered, by_direction(names), stride, pads)

    if lowering != "auto":
        return lowered(lowering)(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=lowered(AUTO["cpu"]), default=lowered("native"))


def _lowered(lowerings, stride, pads, x, kernel):
    if set(lowerings) == {"native"}:
        # JAX differentiates it, in forward mode too.
        return _native(x, kernel, stride, pads)
    return _by_direction(x, kernel, lowerings, stride, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _by_direction(x, kernel, lowerings, stride, pads):
    function = {"native": _native, "shift_and_add": shift_and_add.forward}[lowerings[0]]
    return function(x, kernel, stride, pads)


def _forward(x, kernel, lowerings, stride, pads):
    return _by_direction(x, kernel, lowerings, stride, pads), (x, kernel)


def _backward(lowerings, stride, pads, residuals, gradient):
    of_input = {"native": _native_input_gradient, "shift_and_add": shift_and_add.input_gradient}[lowerings[1]]
    of_kernel = {"native": _native_kernel_gradient, "shift_and_add": shift_and_add.kernel_gradient}[lowerings[2]]
    x, kernel = residuals
    return of_input(gradient, x, kernel, stride, pads), of_kernel(gradient, x, kernel, stride, pads)


_by_direction.defvjp(_forward, _backward)


def _native(x, kernel, stride, pads):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _native_input_gradient(gradient, x, kernel, stride, pads):
    return jax.linear_transpose(lambda x: _native(x, kernel, stride, pads), x)(gradient)[0]


def _native_kernel_gradient(gradient, x, kernel, stride, pads):
    return jax.linear_transpose(lambda kernel: _native(x, kernel, stride, pads), kernel)(gradient)[0]


class DepthwiseConv(nnx.Module):
    """A depthwise convolution without bias; `kernel` is float32 [k, k, 1, channels].

    Initialised for unit variance gain of 2 over its k * k inputs (He et al. 2015); Keras and torchvision count the
    same fan for a depthwise kernel. `lowering` is that of `depthwise_conv`.
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
        init = shaped(jax.nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"))
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
