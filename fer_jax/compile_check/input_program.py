"""The making of a batch by itself, which in training is a part of the step: fetch, augment, resize, normalise."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fer_jax.augment import affine
from fer_jax.data.resident import ResidentSplit
from fer_jax.runtime import sharding as meshes
from fer_jax.training.program import TrainProgram


def augmented_batch(data: ResidentSplit, ids: jax.Array, step: jax.Array | int, config: ConfigDict) -> jax.Array:
    """The images at the places `ids`, int32 [n], as the step with the number `step` shows them to the network.

    float32 [n, input_size, input_size], or [n, input_size, input_size, 3] of RGB images, in 0..255.
    """
    batch = data.take(ids)
    keys = affine.example_keys(jax.random.key(config.seed), step, batch.row_ids)
    return affine.augment(batch.images, keys, affine.Augmentation(**config.augment), config.model.input_size)


def lower_input(program: TrainProgram) -> jax.stages.Lowered:
    """A program that makes the input of each backbone for one step of `program`, lowered for the devices of its mesh.

    Its results are written to memory, float32 [batch, input_size, input_size, 3] for each backbone; in the step they
    may be computed on the way into the first convolution.
    """
    split_batch = meshes.split_batch(program.mesh)

    def network_input(data, ids, step):
        images = augmented_batch(data, ids, step, program.config)
        return [backbone.preprocessing(images) for backbone in program.spec.backbones]

    ids = jax.ShapeDtypeStruct((program.config.train.batch_size,), jnp.int32, sharding=split_batch)
    return jax.jit(network_input, out_shardings=split_batch).lower(program.data, ids, program.state.step)
