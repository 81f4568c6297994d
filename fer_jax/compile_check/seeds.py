"""The step that several seeds would take together, to count what it costs: nothing trains with it."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fer_jax.runtime.sharding import DATA_AXIS, replicated
from fer_jax.training.program import TrainProgram
from fer_jax.training.state import TrainState
from fer_jax.training.step import StepDefinition, TrainMetrics, train_step

STATE_AXES = TrainState(step=None, params=0, batch_stats=0, opt_state=0, average=0)  # type: ignore[arg-type]
"""Where a state of several seeds has the axis of seeds: first in all arrays, but the step, which they share."""


def jit_seeds_step(definition: StepDefinition, mesh: jax.sharding.Mesh) -> jax.stages.Wrapped:
    """Return the step that several seeds take together, jitted for a mesh.

    (states, metrics, data, orders, seeds) -> (states, metrics), where `data` is the training split that they share,
    `orders`, int32 [seeds, steps_per_epoch, batch], the epoch's order of each, and `seeds`, uint32 [seeds], what each
    draws its random keys from; states by `STATE_AXES`, metrics with the seeds first. Each device has its share of the
    batch of every seed.
    """
    each_batch_split = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))

    def step(states, metrics, data, orders, seeds):
        def of_one(state, metrics, ids, seed):
            return train_step(state, metrics, data.take(ids), dataclasses.replace(definition, seed=seed))

        # Not under vmap, which would gather the rows of the orders instead of slicing them.
        ids = jax.lax.dynamic_index_in_dim(orders, states.step % orders.shape[1], axis=1, keepdims=False)
        ids = jax.lax.with_sharding_constraint(ids, each_batch_split)
        return jax.vmap(of_one, in_axes=(STATE_AXES, 0, 0, 0), out_axes=(STATE_AXES, 0))(states, metrics, ids, seeds)

    return jax.jit(step, donate_argnums=(0, 1), out_shardings=replicated(mesh))


def lower_seeds_step(program: TrainProgram, seeds: int) -> jax.stages.Lowered:
    """Lower the step of `program` for several seeds; none of the devices of the mesh need exist here."""
    data, order = program.resident_shapes()
    of_each = jax.vmap(lambda state: state, in_axes=None, out_axes=STATE_AXES, axis_size=seeds)
    states = jax.eval_shape(of_each, program.state_shapes())
    metrics = jax.eval_shape(jax.vmap(TrainMetrics.empty, axis_size=seeds))
    orders = jax.ShapeDtypeStruct((seeds, *order.shape), order.dtype)
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(program.mesh)),
        (states, metrics, data, orders, jax.ShapeDtypeStruct((seeds,), jnp.uint32)),
    )
    return jit_seeds_step(program.definition(), program.mesh).lower(*arguments)
