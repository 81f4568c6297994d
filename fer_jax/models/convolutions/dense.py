"""Dense convolution, written so that XLA's CPU backend runs it fast.

Left to automatic differentiation, the gradient of a pointwise kernel is a matrix product whose operand is transposed in
memory first: at 96 pixels, batch 16, the first expansion of MobileNetV2 takes 11.7 ms for it and 0.8 ms in the form
below. The gradient of the stem's kernel transposes the images to put the batch last; this transposition alone was 6 %
of a training step. The forward convolution of the stem has only three input channels and reaches a tenth of the speed
of a matrix product. In training, the stem and its kernel's gradient are therefore matrix products over patches.
`docs/performance.md` has the measurement of the whole.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from fer_jax.models.convolutions.windows import Pads, taps


@jax.jit
def pointwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the matrix product of `x` [..., inputs] and `kernel` [inputs, outputs], both of one dtype."""
    return _pointwise(x, kernel)


@jax.custom_vjp
def _pointwise(x, kernel):
    return jnp.matmul(x, kernel)


def _pointwise_forward(x, kernel):
    return _pointwise(x, kernel), (x, kernel)


def _pointwise_backward(residuals, gradient):
    x, kernel = residuals
    return jnp.matmul(gradient, kernel.T), _sum_of_outer_products(x, gradient)


_pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def _sum_of_outer_products(x, gradient):
    """Contract all axes but the last, to [inputs, outputs]; this order of operands needs no transposition."""
    rows, gradients = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    return lax.dot_general(rows, gradients, (((0,), (0,)), ((), ())))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Convolve `x` [n, h, w, inputs], padded with zeros, with `kernel` [k, k, inputs, outputs] of the same dtype."""
    return _native(x, kernel, stride, pads)


def _conv_forward(x, kernel, stride, pads):
    # Where the kernel trains, its gradient needs the patches anyway. Elsewhere they would cost more than they gain: XLA
    # would compute the images, including their augmentation, once for each tap.
    y = lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _by_patches(x, kernel, stride, pads),
        default=lambda x, kernel: _native(x, kernel, stride, pads),
    )
    return y, (x, kernel)


def _conv_backward(stride, pads, residuals, gradient):
    x, kernel = residuals
    # Nothing uses the gradient of the stem's input, so XLA removes it.
    (dx,) = jax.vjp(lambda x: _native(x, kernel, stride, pads), x)[1](gradient)
    dkernel = lax.platform_dependent(
        x,
        gradient,
        cpu=lambda x, gradient: _kernel_gradient_by_patches(x, gradient, kernel.shape, stride, pads),
        default=lambda x, gradient: jax.vjp(lambda k: _native(x, k, stride, pads), kernel)[1](gradient)[0],
    )
    return dx, dkernel


conv.defvjp(_conv_forward, _conv_backward)


def _native(x, kernel, stride, pads):
    return lax.conv_general_dilated(
        x, kernel, window_strides=(stride, stride), padding=pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_patches(x, kernel, stride, pads):
    size, inputs, outputs = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    return jnp.matmul(_patches(x, size, stride, pads), kernel.reshape(size * size * inputs, outputs))


def _kernel_gradient_by_patches(x, gradient, kernel_shape, stride, pads):
    return _sum_of_outer_products(_patches(x, kernel_shape[0], stride, pads), gradient).reshape(kernel_shape)


def _patches(x, size, stride, pads):
    """Return the pixels that each tap multiplies, side by side: [n, h', w', size * size * inputs].

    It is meant for few input channels.
    """
    return jnp.concatenate([pixels for _, _, pixels in taps(x, size, stride, pads)], axis=-1)
