"""The state of a training run: one pytree of arrays, nothing else."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from fer_jax.models.fernet import FerNet, FerNetSpec
from fer_jax.training import mesh as meshes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """`step` int32 [], the steps taken so far; the others are nested dicts of arrays, all float32.

    `params` and `batch_stats` are the parameters and the running statistics of a `FerNet`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState


def split_model(model: FerNet) -> tuple[nnx.GraphDef, dict, dict]:
    """A model as its static definition, its parameters and its running statistics (nested dicts of arrays)."""
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def model_definition(spec: FerNetSpec, sharding: jax.sharding.Sharding) -> tuple[nnx.GraphDef, dict, dict]:
    """Like `split_model`, of shapes to be placed by `sharding` instead of arrays: takes no memory and no time."""
    graphdef, params, batch_stats = split_model(nnx.eval_shape(lambda: FerNet(spec, rngs=nnx.Rngs(0))))

    def placed(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return graphdef, jax.tree.map(placed, params), jax.tree.map(placed, batch_stats)


def create_model(spec: FerNetSpec, seed: int) -> tuple[dict, dict]:
    """Freshly initialised parameters and running statistics."""

    @jax.jit
    def create():
        return split_model(FerNet(spec, rngs=nnx.Rngs(seed)))[1:]

    return create()


def create_state(
    params: dict, batch_stats: dict, optimizer: optax.GradientTransformation, sharding: jax.sharding.Sharding
) -> TrainState:
    """The state before the first step, placed on the devices of `sharding`."""
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, jax.jit(optimizer.init)(params))
    return meshes.place(state, sharding)
