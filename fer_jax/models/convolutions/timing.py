"""Time the depthwise convolutions of a config's backbones one by one, in each lowering and direction."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fer_jax.models.convolutions.depthwise import depthwise_conv
from fer_jax.models.convolutions.lowering import LOWERINGS
from fer_jax.models.spec import BackboneSpec


@dataclasses.dataclass(frozen=True)
class DepthwiseShape:
    """A depthwise convolution: height and width of its input, channels, and what a `Stage` says."""

    size: int
    channels: int
    kernel: int
    stride: int
    padding: str

    def __str__(self) -> str:
        return f"{self.size} x {self.size} x {self.channels}, {self.kernel} x {self.kernel} / {self.stride}"


def depthwise_shapes(backbones: Sequence[BackboneSpec], input_size: int) -> dict[DepthwiseShape, int]:
    """Return the distinct depthwise convolutions of the backbones in order, with the number of times each occurs."""
    shapes: dict[DepthwiseShape, int] = {}
    for spec in backbones:
        size, channels = math.ceil(input_size / 2), spec.stem_channels
        for stage in spec.stages:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                shape = DepthwiseShape(size, channels * stage.expansion, stage.kernel, stride, spec.padding)
                shapes[shape] = shapes.get(shape, 0) + 1
                size, channels = math.ceil(size / stride), stage.channels
    return shapes


def lowering_seconds(
    shape: DepthwiseShape, direction: str, batch_size: int, dtype: str, *, rounds: int, calls: int
) -> dict[str, float]:
    """Return the median seconds of one call of `shape` in one of `DIRECTIONS`, by lowering, on the default device.

    The lowerings alternate for `rounds` rounds after one warm-up round. A round is `calls` calls in one program,
    because on a GPU the launch of a program takes longer than many of these convolutions.
    """
    x = jnp.ones((batch_size, shape.size, shape.size, shape.channels), dtype)
    kernel = jnp.ones((shape.kernel, shape.kernel, 1, shape.channels), dtype)
    out = math.ceil(shape.size / shape.stride)
    arguments = x, kernel, jnp.ones((batch_size, out, out, shape.channels), dtype)
    programs = {
        lowering: jax.jit(_repeated(_function(direction, shape, lowering), calls)).lower(*arguments).compile()
        for lowering in LOWERINGS
    }
    times: dict[str, list[float]] = {lowering: [] for lowering in LOWERINGS}
    for round_ in range(rounds + 1):
        for lowering, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            if round_:
                times[lowering].append((time.perf_counter() - start) / calls)
    return {lowering: statistics.median(found) for lowering, found in times.items()}


def _repeated(function: Callable, calls: int) -> Callable:
    """Return a function that calls `function` `calls` times in sequence and returns the last result."""
    if calls == 1:
        return function

    def call(_, carry):
        # Without the barrier, operands that never change would let XLA compute the result once, before the loop.
        arguments = lax.optimization_barrier(carry[:-1])
        return *arguments, function(*arguments)

    def run(*arguments):
        first = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, *arguments))
        return lax.fori_loop(0, calls, call, (*arguments, first))[-1]

    return run


def _function(direction: str, shape: DepthwiseShape, lowering: str) -> Callable:
    def conv(x, kernel):
        return depthwise_conv(x, kernel, stride=shape.stride, padding=shape.padding, lowering=lowering)

    return {
        "forward": lambda x, kernel, gradient: conv(x, kernel),
        "input gradient": lambda x, kernel, gradient: jax.vjp(lambda x: conv(x, kernel), x)[1](gradient)[0],
        "kernel gradient": lambda x, kernel, gradient: jax.vjp(lambda k: conv(x, k), kernel)[1](gradient)[0],
    }[direction]
