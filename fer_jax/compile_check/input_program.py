"""The making of a batch by itself, which in training is a part of the step: fetch, augment, resize, normalise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fer_jax.data.resident import ResidentSplit
from fer_jax.runtime.sharding import split_batch
from fer_jax.training.program import TrainProgram


def augmented_batch(program: TrainProgram) -> Callable[[ResidentSplit, jax.Array, jax.Array | int], jax.Array]:
    """Return a function (data, ids, step) to the images as the step `step` of `program` shows them to the network.

    `ids` are positions in the training split, int32 [n]. The images are float32 [n, input_size, input_size], or
    [n, input_size, input_size, 3] of RGB images, in 0..255.
    """
    prepare = program.definition().prepare
    return lambda data, ids, step: prepare(data.take(ids), step)


def lower_input(program: TrainProgram) -> jax.stages.Lowered:
    """Lower a program that makes the input of each backbone for one step of `program`, for the devices of its mesh.

    Its results are written to memory, float32 [batch, input_size, input_size, 3] for each backbone; in the step they
    may be computed on the way into the first convolution.
    """
    sharding = split_batch(program.mesh)
    images_of = augmented_batch(program)

    def network_input(data, ids, step):
        images = images_of(data, ids, step)
        return [backbone.preprocessing(images) for backbone in program.spec.backbones]

    data, order = program.resident_shapes()
    ids = jax.ShapeDtypeStruct(order.shape[1:], jnp.int32, sharding=sharding)
    return jax.jit(network_input, out_shardings=sharding).lower(data, ids, program.state_shapes().step)
