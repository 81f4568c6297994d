"""The state of a training run: one pytree of arrays, nothing else."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fer_jax.models.fernet import FerNet, FerNetSpec, freeze_modules
from fer_jax.models.initialisation import NoKeys
from fer_jax.params.tree import Path, leaves_by_path, overlay, select, select_like
from fer_jax.runtime.sharding import place


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """`step` int32 [], the steps taken so far; the others are nested dicts of arrays, all float32.

    `params` and `batch_stats` are the parameters and the running statistics of a `FerNet`. `average` is None, or has
    under the same two names the moving averages of those of them that train in some epoch.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any = None

    def model(self) -> dict:
        """Return `params` and `batch_stats` as they are to be evaluated and used: averaged where there are averages."""
        model = {"params": self.params, "batch_stats": self.batch_stats}
        return model if self.average is None else overlay(model, self.average)

    def progress(self) -> dict:
        """Return the rest that a checkpoint needs to resume from: `step`, `opt_state`, what the averages hide."""
        progress = {"step": self.step, "opt_state": self.opt_state}
        if self.average is not None:
            model = {"params": self.params, "batch_stats": self.batch_stats}
            progress["not_averaged"] = select_like(model, self.average)
        return progress

    @classmethod
    def from_parts(cls, model: dict, progress: dict) -> "TrainState":
        """Return the state of which `model` and `progress` are `model()` and `progress()`."""
        average = None
        if "not_averaged" in progress:
            average = select_like(model, progress["not_averaged"])
            model = overlay(model, progress["not_averaged"])
        return cls(progress["step"], model["params"], model["batch_stats"], progress["opt_state"], average)


def split_model(model: FerNet) -> tuple[nnx.GraphDef, dict, dict]:
    """Return a model as its static definition, its parameters and its running statistics (nested dicts of arrays)."""
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)  # type: ignore[misc]  # a tuple of three
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def model_definition(
    spec: FerNetSpec, sharding: jax.sharding.Sharding, trains: Callable[[Path], bool] = lambda path: True
) -> tuple[nnx.GraphDef, dict, dict]:
    """Do as `split_model` for shapes to be placed by `sharding` instead of arrays, in no memory and no time.

    The definition is that of a model whose parameters train where `trains` says so of their path, in training mode
    (see `freeze_modules`); in evaluation it is the same for all.
    """
    model = FerNet(spec, rngs=NoKeys())  # type: ignore[arg-type]  # all of it that is used
    freeze_modules(model, lambda path: not trains(path))
    graphdef, params, batch_stats = split_model(model)

    def placed(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return graphdef, jax.tree.map(placed, params), jax.tree.map(placed, batch_stats)


def create_model(spec: FerNetSpec, seed: int) -> tuple[dict, dict]:
    """Return freshly initialised parameters and running statistics."""
    return _create(spec, np.uint32(seed))


@functools.partial(jax.jit, static_argnames="spec")
def _create(spec: FerNetSpec, seed: jax.Array) -> tuple[dict, dict]:
    # One program a network, whatever the seed: a process traces it once, and the compile cache serves all seeds.
    return split_model(FerNet(spec, rngs=nnx.Rngs(jax.random.key(seed))))[1:]


def averaged(params: dict, batch_stats: dict, ever_trains: Callable[[Path], bool]) -> dict:
    """Return what has a moving average: the parameters that ever train, and the statistics of their modules."""
    trained = select(params, ever_trains)
    modules = {path[:-1] for path in leaves_by_path(trained)}
    return {"params": trained, "batch_stats": select(batch_stats, lambda path: path[:-1] in modules)}


def create_state(
    params: dict,
    batch_stats: dict,
    optimizer: optax.GradientTransformation,
    sharding: jax.sharding.Sharding,
    *,
    ever_trains: Callable[[Path], bool] = lambda path: True,
    average: bool = False,
) -> TrainState:
    """Return the state before the first step, placed on the devices of `sharding`.

    `optimizer` is one of all parameters, which keeps no state for the frozen ones. With `average` the parameters that
    train in some epoch, by `ever_trains` of their path, and the running statistics of their modules have moving
    averages, which begin at their first values.
    """
    # Buffers of their own: the step gives those of its arguments away.
    averages = jax.tree.map(jnp.copy, averaged(params, batch_stats, ever_trains)) if average else None
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, jax.jit(optimizer.init)(params), averages)
    return place(state, sharding)
