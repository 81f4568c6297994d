"""The depthwise convolutions of a config's backbones, each by itself, in each lowering and each direction."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from fer_jax.models.depthwise import LOWERINGS, depthwise_conv
from fer_jax.models.inverted_residual import BackboneSpec

DIRECTIONS = ("forward", "input gradient", "kernel gradient")


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


def depthwise_shapes(spec: BackboneSpec, input_size: int) -> dict[DepthwiseShape, int]:
    """The distinct depthwise convolutions of a backbone, from the first on, with how often each occurs."""
    shapes = {}
    size, channels = math.ceil(input_size / 2), spec.stem_channels
    for stage in spec.stages:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            shape = DepthwiseShape(size, channels * stage.expansion, stage.kernel, stride, spec.padding)
            shapes[shape] = shapes.get(shape, 0) + 1
            size, channels = math.ceil(size / stride), stage.channels
    return shapes


def direction_seconds(
    shape: DepthwiseShape, batch_size: int, dtype: str, *, rounds: int, lowerings: Sequence[str] = LOWERINGS[1:]
) -> dict[str, dict[str, float]]:
    """Median seconds of `shape` by direction and lowering, the lowerings in turn for `rounds` rounds."""
    x = jnp.ones((batch_size, shape.size, shape.size, shape.channels), dtype)
    kernel = jnp.ones((shape.kernel, shape.kernel, 1, shape.channels), dtype)
    out = math.ceil(shape.size / shape.stride)
    gradient = jnp.ones((batch_size, out, out, shape.channels), dtype)
    seconds = {}
    for direction in DIRECTIONS:
        functions = {
            lowering: jax.jit(_function(direction, shape, lowering)).lower(x, kernel, gradient).compile()
            for lowering in lowerings
        }
        times = {lowering: [] for lowering in lowerings}
        for round_ in range(rounds + 1):
            for lowering, function in functions.items():
                start = time.perf_counter()
                jax.block_until_ready(function(x, kernel, gradient))
                if round_:
                    times[lowering].append(time.perf_counter() - start)
        seconds[direction] = {lowering: statistics.median(found) for lowering, found in times.items()}
    return seconds


def _function(direction: str, shape: DepthwiseShape, lowering: str) -> Callable:
    def conv(x, kernel):
        return depthwise_conv(x, kernel, stride=shape.stride, padding=shape.padding, lowering=lowering)

    if direction == "forward":
        return lambda x, kernel, gradient: conv(x, kernel)
    if direction == "input gradient":
        return lambda x, kernel, gradient: jax.vjp(lambda x: conv(x, kernel), x)[1](gradient)
    return lambda x, kernel, gradient: jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](gradient)
