"""The lowerings of the depthwise convolution, against XLA's grouped convolution and a plain loop in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.models.convolutions.depthwise import depthwise_conv, padding_amounts
from fer_jax.models.convolutions.lowering import LOWERINGS, by_direction, is_lowering


def loop(x, kernel, stride, padding):
    """The definition, one output pixel at a time."""
    n, height, width, channels = x.shape
    k = kernel.shape[0]
    (top, bottom), (left, right) = (padding_amounts(padding, size, k, stride) for size in (height, width))
    padded = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    out = np.zeros((n, -(-height // stride), -(-width // stride), channels))
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            window = padded[:, row * stride : row * stride + k, column * stride : column * stride + k]
            out[:, row, column] = np.sum(window * kernel[None, :, :, 0], axis=(1, 2))
    return out


def random(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("lowering", ["native", "shift_and_add", "auto"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(("size", "k", "stride"), [((7, 9), 3, 2), ((8, 6), 5, 2), ((5, 5), 5, 1), ((2, 2), 5, 1)])
def test_value_is_the_definition(lowering, padding, size, k, stride):
    x, kernel = random((2, *size, 3), 0), random((k, k, 1, 3), 1)
    conv = jax.jit(functools.partial(depthwise_conv, stride=stride, padding=padding, lowering=lowering))
    found = conv(jnp.array(x), jnp.array(kernel))
    np.testing.assert_allclose(found, loop(x, kernel, stride, padding), atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [(8, 8), (7, 4), (2, 1)])
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_derivatives_are_those_of_the_native_convolution(padding, size, k, stride):
    x, kernel = jnp.array(random((3, *size, 4), 2)), jnp.array(random((k, k, 1, 4), 3))

    found, expected = (value_and_gradients(x, kernel, stride, padding, name) for name in ("shift_and_add", "native"))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-5)


def value_and_gradients(x, kernel, stride, padding, lowering):
    """The result, and the gradients of input and kernel of a weighted sum of it."""

    @jax.jit
    def run(x, kernel):
        conv = functools.partial(depthwise_conv, stride=stride, padding=padding, lowering=lowering)
        y, vjp = jax.vjp(conv, x, kernel)
        return y, *vjp(jnp.array(random(y.shape, 4), y.dtype))

    return run(x, kernel)


@pytest.mark.optimised
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_each_direction_has_its_own_lowering(padding, k, stride):
    """Close to JAX's own derivatives, and to the bit those of the lowering that the direction is given.

    A direction that fell back to the other lowering would round otherwise.
    """
    x, kernel = jnp.array(random((3, 8, 6, 4), 2)), jnp.array(random((k, k, 1, 4), 3))
    pure = {name: value_and_gradients(x, kernel, stride, padding, name) for name in LOWERINGS}
    for names in itertools.product(LOWERINGS, repeat=3):
        found = value_and_gradients(x, kernel, stride, padding, ",".join(names))
        for name, ours, native, given in zip(
            names, found, pure["native"], zip(*pure.values(), strict=True), strict=True
        ):
            np.testing.assert_allclose(ours, native, atol=3e-5)
            np.testing.assert_array_equal(ours, given[LOWERINGS.index(name)])
    assert all(np.any(native != ours) for native, ours in zip(*pure.values(), strict=True))


def test_each_direction_keeps_bfloat16():
    x, kernel = (jnp.array(random(shape, 2)).astype(jnp.bfloat16) for shape in ((2, 6, 6, 4), (3, 3, 1, 4)))
    for names in itertools.product(LOWERINGS, repeat=3):
        found = value_and_gradients(x, kernel, 2, "same", ",".join(names))
        assert {leaf.dtype for leaf in found} == {jnp.dtype("bfloat16")}


def grouped_convolutions(platform, **arguments):
    """How many grouped convolutions the program for `platform` has, of three directions, compiled without one."""

    def run(x, kernel):
        y, vjp = jax.vjp(functools.partial(depthwise_conv, stride=1, padding="same", **arguments), x, kernel)
        return y, *vjp(y)

    program = jax.jit(run).trace(jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 1, 4)))
    return program.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("tpu", 3), ("cuda", 3), ("rocm", 3)])
def test_auto_is_of_the_platform_that_it_is_compiled_for(platform, convolutions):
    assert grouped_convolutions(platform, lowering="auto") == convolutions


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_what_is_asked_for_is_so_on_every_platform(platform):
    assert grouped_convolutions(platform, lowering="native,shift_and_add,native") == 2


@pytest.mark.parametrize("value", ["auto", "fast", "native,native", "native,auto,native", "native, native, native", ""])
def test_what_is_no_lowering_is_refused(value):
    assert not is_lowering(value)
    with pytest.raises(ValueError, match="expected one or three of native, shift_and_add"):
        by_direction(value)


def test_bfloat16_loses_no_more_than_its_rounding():
    x, kernel = random((2, 12, 12, 8), 5), random((5, 5, 1, 8), 6)
    low = [jnp.array(a).astype(jnp.bfloat16) for a in (x, kernel)]
    found = depthwise_conv(*low, stride=1, padding="same", lowering="shift_and_add")
    assert found.dtype == jnp.bfloat16
    exact = loop(*(np.asarray(a.astype(jnp.float32)) for a in low), 1, "same")
    # One rounding of the result, to 8 significant bits: the 25 terms were summed in float32.
    np.testing.assert_allclose(np.asarray(found.astype(jnp.float32)), exact, rtol=2**-8, atol=1e-5)


def test_paddings_differ_where_the_stride_meets_an_even_size():
    assert padding_amounts("same", 200, 3, 2) == (0, 1)
    assert padding_amounts("same", 50, 5, 2) == (1, 2)
    assert padding_amounts("symmetric", 200, 3, 2) == (1, 1)
    assert padding_amounts("same", 25, 3, 2) == padding_amounts("symmetric", 25, 3, 2) == (1, 1)
    x, kernel = jnp.array(random((1, 8, 8, 2), 7)), jnp.array(random((3, 3, 1, 2), 8))
    same, symmetric = (depthwise_conv(x, kernel, stride=2, padding=p) for p in ("same", "symmetric"))
    assert np.abs(same - symmetric).max() > 0.1
