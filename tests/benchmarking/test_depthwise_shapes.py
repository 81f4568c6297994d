"""The depthwise shapes, against those of the network itself."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from fer_jax.benchmarking.depthwise_shapes import DIRECTIONS, DepthwiseShape, depthwise_shapes, direction_seconds
from fer_jax.models.depthwise import DepthwiseConv
from fer_jax.models.efficientnet import EFFICIENTNET_B0
from fer_jax.models.inverted_residual import Backbone, BackboneOptions
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
    shapes = depthwise_shapes(spec, input_size)
    assert shapes == found
    assert sum(shapes.values()) == spec.num_blocks


def test_every_direction_and_lowering_is_timed():
    shape = DepthwiseShape(size=8, channels=4, kernel=3, stride=2, padding="same")
    seconds = direction_seconds(shape, batch_size=2, dtype="float32", rounds=1)
    assert set(seconds) == set(DIRECTIONS)
    assert all(set(found) == {"native", "shift_and_add"} for found in seconds.values())
    assert all(value > 0 for found in seconds.values() for value in found.values())
