"""The depthwise shapes, against those of the network itself."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from fer_jax.models.backbone import Backbone, BackboneOptions
from fer_jax.models.convolutions import timing
from fer_jax.models.convolutions.depthwise import DepthwiseConv
from fer_jax.models.convolutions.lowering import DIRECTIONS
from fer_jax.models.convolutions.timing import DepthwiseShape, depthwise_shapes, lowering_seconds
from fer_jax.models.efficientnet import EFFICIENTNET_B0
from fer_jax.models.mobilenet import MOBILENET_V2


@pytest.mark.parametrize(("spec", "input_size"), [(EFFICIENTNET_B0, 75), (MOBILENET_V2, 96)])
def test_shapes_are_those_that_the_network_runs(spec, input_size, monkeypatch):
    found = {}

    def record(self, x):
        kernel = self.kernel.shape[0]
        shape = DepthwiseShape(x.shape[1], x.shape[3], kernel, self.stride, self.padding)
        found[shape] = found.get(shape, 0) + 1
        return x[:, :: self.stride, :: self.stride]

    monkeypatch.setattr(DepthwiseConv, "__call__", record)

    def run():
        return Backbone(spec, BackboneOptions(), rngs=nnx.Rngs(0))(jnp.zeros((1, input_size, input_size, 3)))

    jax.eval_shape(run)
    shapes = depthwise_shapes([spec], input_size)
    assert shapes == found
    assert sum(shapes.values()) == spec.num_blocks


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_and_lowering_is_timed(direction, calls):
    shape = DepthwiseShape(size=8, channels=4, kernel=3, stride=2, padding="same")
    seconds = lowering_seconds(shape, direction, batch_size=2, dtype="float32", rounds=1, calls=calls)
    assert set(seconds) == {"native", "shift_and_add"}
    assert all(value > 0 for value in seconds.values())


def test_repeated_calls_are_all_computed():
    """Else a round would be one call, and the time of a call a fraction of what it is."""
    x = jnp.ones((2, 8, 8, 4))

    def loop_computes(function):
        program = jax.jit(function).lower(x, x).compile().as_text()
        body = re.search(r"body=(%[\w.]+)", program).group(1)
        return "/mul" in program.split(f"\n{body} (")[1].partition("\n}")[0]

    assert loop_computes(timing._repeated(lambda x, y: jnp.sin(x) * y, 5))

    def without_barrier(x, y):
        return jax.lax.fori_loop(0, 5, lambda _, carry: (*carry[:2], jnp.sin(carry[0]) * carry[1]), (x, y, x))[-1]

    assert not loop_computes(without_barrier)
