"""The shared layers against hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from fer_jax.models.batch_norm import BatchNorm
from fer_jax.models.convolutions.dense import conv
from fer_jax.models.convolutions.depthwise import padding_amounts
from fer_jax.models.layers import Conv, SqueezeExcite, drop_path


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_batch_norm_in_training_uses_and_keeps_batch_statistics():
    x = 3 * random((4, 5, 6, 2)) + 1
    norm = BatchNorm(2, momentum=0.9, epsilon=1e-3, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.array([2.0, 0.5]), jnp.array([0.0, -1.0])
    y = norm(jnp.array(x), train=True)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(var + 1e-3) * np.array([2.0, 0.5]) + np.array([0.0, -1.0])
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * var, rtol=1e-5)


def test_batch_norm_in_evaluation_uses_running_statistics_and_leaves_them():
    norm = BatchNorm(2, momentum=0.9, epsilon=1e-3, rngs=nnx.Rngs(0))
    norm.mean[...], norm.var[...] = jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0])
    y = norm(jnp.array([[[[3.0, 5.0]]]]), train=False)
    np.testing.assert_allclose(y[0, 0, 0], [2 / np.sqrt(4.001), 3 / np.sqrt(9.001)], rtol=1e-6)
    np.testing.assert_array_equal(norm.mean[...], [1.0, 2.0])


def test_batch_norm_of_bfloat16_is_computed_in_float32():
    # 200 values near 300, where bfloat16 steps by 2: statistics in bfloat16 would be far off.
    x = jnp.array(300 + random((200, 1, 1, 1))).astype(jnp.bfloat16)
    norm = BatchNorm(1, momentum=0.0, epsilon=1e-3, rngs=nnx.Rngs(0))
    y = norm(x, train=True)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x.astype(jnp.float32))
    np.testing.assert_allclose(norm.mean[...], exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], exact.var((0, 1, 2)), rtol=1e-2)


def test_pointwise_convolution_is_a_matrix_product():
    module = Conv(3, 4, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = random((2, 5, 5, 3))
    np.testing.assert_allclose(module(jnp.array(x)), x @ np.asarray(module.kernel[0, 0]), atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_and_its_gradients_are_those_of_xla(stride, size, padding):
    module = Conv(3, 5, 3, stride=stride, padding=padding, dtype=jnp.float32, rngs=nnx.Rngs(0))
    pads = [padding_amounts(padding, size, 3, stride)] * 2
    x, kernel = jnp.array(random((2, size, size, 3))), module.kernel[...]

    def native(x, kernel):
        return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    found, backward = jax.vjp(lambda x, kernel: conv(x, kernel, stride, tuple(pads)), x, kernel)
    expected, native_backward = jax.vjp(native, x, kernel)
    np.testing.assert_allclose(module(x), expected, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    gradient = jnp.array(random(expected.shape))
    for ours, theirs in zip(backward(gradient), native_backward(gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_squeeze_excite_scales_channels_by_a_gate_of_their_means():
    x = random((2, 3, 3, 4))
    module = SqueezeExcite(4, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))
    module.reduce.bias[...] = jnp.array([0.3, -0.2])
    reduced = x.mean((1, 2)) @ np.asarray(module.reduce.kernel[...]) + np.array([0.3, -0.2])
    hidden = reduced / (1 + np.exp(-reduced))
    gate = 1 / (1 + np.exp(-(hidden @ np.asarray(module.expand.kernel[...]))))
    np.testing.assert_allclose(module(jnp.array(x)), x * gate[:, None, None], atol=1e-6)


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 2, 1))
    y = np.asarray(drop_path(x, 0.2, nnx.Rngs(drop_path=jax.random.key(0))))
    first = y[:, :1, :1, :1]
    assert np.all(y == first), "an example is dropped as a whole"
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.8)}
    # The standard error of the share of dropped examples is 0.0063.
    assert abs(np.mean(first == 0) - 0.2) < 0.025
