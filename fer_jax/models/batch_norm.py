"""Batch normalisation and the activation after it as one function, with a derivative written by hand.

Left to automatic differentiation, the forward pass keeps the centred input, the normalised one and the operands of the
activation's derivative, and the backward pass reads them all. Here the forward pass keeps only the input; the backward
pass recomputes the rest in two passes over the input and the gradient. `docs/performance.md` has the measurement.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from fer_jax.models.initialisation import ones, zeros

ACTIVATIONS: dict[str | None, Callable[[jax.Array], jax.Array]] = {
    None: lambda x: x,
    "relu6": jax.nn.relu6,
    "swish": jax.nn.silu,
}

_AXES = (0, 1, 2)


@functools.partial(jax.jit, static_argnums=(5, 6))
def norm_by_statistics(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: str | None,
) -> jax.Array:
    """Normalise `x` [n, h, w, c] by statistics of its channels, in float32, and apply an activation, in its dtype."""
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = _affine(x.astype(_precise(x.dtype)), mean, inverse, scale, bias)
    return ACTIVATIONS[activation](y).astype(x.dtype)


@functools.partial(jax.jit, static_argnums=(3, 4))
def norm_by_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, activation: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise `x` [n, h, w, c] by the statistics of its batch, in float32, and apply an activation.

    Returns:
      The result in the dtype of `x`, and the mean and the (biased) variance of each channel, float32 [c]. No gradient
      flows through the statistics.
    """
    return _norm_by_batch(x, scale, bias, epsilon, activation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _norm_by_batch(x, scale, bias, epsilon, activation):
    outputs, _ = _forward(x, scale, bias, epsilon, activation)
    return outputs


def _forward(x, scale, bias, epsilon, activation):
    x32 = x.astype(_precise(x.dtype))
    mean = jnp.mean(x32, _AXES)
    # Both moments in one pass over x.
    variance = jnp.maximum(jnp.mean(jnp.square(x32), _AXES) - jnp.square(mean), 0.0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = ACTIVATIONS[activation](_affine(x32, mean, inverse, scale, bias)).astype(x.dtype)
    return (y, mean, variance), (x, mean, inverse, scale, bias)


def _backward(epsilon, activation, residuals, cotangents):
    x, mean, inverse, scale, bias = residuals
    x32 = x.astype(_precise(x.dtype))
    gradient = cotangents[0].astype(x32.dtype)
    if activation is not None:
        _, derivative = jax.vjp(ACTIVATIONS[activation], _affine(x32, mean, inverse, scale, bias))
        (gradient,) = derivative(gradient)
    normalised = (x32 - mean) * inverse
    dbias, dscale = (_sum_of_channels(a) for a in (gradient, gradient * normalised))
    count = x.size // x.shape[-1]
    dx = (scale * inverse) * (gradient - (dbias + normalised * dscale) / count)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_norm_by_batch.defvjp(_forward, _backward)


def _sum_of_channels(x):
    """Sum `x` [n, h, w, c] to [c].

    On CPU it is a product with ones: as plain sums they took a sixth of a training step.
    """
    return jax.lax.platform_dependent(
        x,
        cpu=lambda x: jnp.ones(x.size // x.shape[-1], x.dtype) @ x.reshape(-1, x.shape[-1]),
        default=lambda x: jnp.sum(x, _AXES),
    )


def _precise(dtype: jnp.dtype) -> jnp.dtype:
    """Return float32, or `dtype` itself if it is more precise: the tests compare networks in float64."""
    return jnp.promote_types(dtype, jnp.float32)


def _affine(x32, mean, inverse, scale, bias):
    return (x32 - mean) * (inverse * scale) + bias


class BatchNorm(nnx.Module):
    """Batch normalisation over (batch, height, width), computed in float32 whatever the dtype of its input.

    Under a mesh the batch is the global one. `momentum` is the decay of the running statistics, as in Keras. A `frozen`
    module acts in training mode as in evaluation: it normalises by the running statistics and does not update them.
    """

    frozen = False

    def __init__(self, channels: int, *, momentum: float, epsilon: float, rngs: nnx.Rngs):
        shape = (channels,)
        # A key for each, as `nnx.BatchNorm` takes them: they decide the keys of the layers after it.
        self.scale = nnx.Param(ones(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(zeros(key := rngs.params(), shape, jnp.float32))
        self.mean = nnx.BatchStat(zeros(key, shape, jnp.float32))
        self.var = nnx.BatchStat(ones(key, shape, jnp.float32))
        self.momentum = momentum
        self.epsilon = epsilon

    def __call__(self, x: jax.Array, activation: str | None = None, *, train: bool) -> jax.Array:
        """Normalise `x` [n, h, w, c] and apply one of `ACTIVATIONS`; the result has the dtype of `x`."""
        scale, bias = self.scale[...], self.bias[...]
        if train and not self.frozen:
            y, mean, variance = norm_by_batch(x, scale, bias, self.epsilon, activation)
            for running, batch in ((self.mean, mean), (self.var, variance)):
                running[...] = self.momentum * running[...] + (1 - self.momentum) * batch
            return y
        return norm_by_statistics(x, self.mean[...], self.var[...], scale, bias, self.epsilon, activation)
