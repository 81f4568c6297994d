"""The making of a batch by itself, which in training is a part of the step: fetch, augment, resize, normalise."""

import jax
import jax.numpy as jnp

from fer_jax.runtime.sharding import split_batch
from fer_jax.training.program import TrainProgram, augmented_images


def lower_input(program: TrainProgram) -> jax.stages.Lowered:
    """Lower a program that makes the input of each backbone for one step of `program`, for the devices of its mesh.

    Its results are written to memory, float32 [batch, input_size, input_size, 3] for each backbone; in the step they
    may be computed on the way into the first convolution.
    """
    sharding = split_batch(program.mesh)
    prepare = augmented_images(program.config)

    def network_input(data, ids, step):
        images = prepare(data.take(ids), program.config.seed, step)
        return [backbone.preprocessing(images) for backbone in program.spec.backbones]

    data, order = program.resident_shapes()
    ids = jax.ShapeDtypeStruct(order.shape[1:], jnp.int32, sharding=sharding)
    return jax.jit(network_input, out_shardings=sharding).lower(data, ids, program.state_shapes().step)
