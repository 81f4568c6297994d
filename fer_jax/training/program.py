"""The training step of `train.py` for a config and a mesh, built from shapes alone or with arrays to run it on."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from ml_collections import ConfigDict

from fer_jax.data.resident import ResidentSplit
from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES, FerNetSpec
from fer_jax.params.trainable import FreezeTable, resolve
from fer_jax.params.tree import select
from fer_jax.runtime import sharding as meshes
from fer_jax.training.cached_features import check_cached_views
from fer_jax.training.optimizer import learning_rate_schedule, make_table_optimizer
from fer_jax.training.state import TrainState, model_definition
from fer_jax.training.step import TrainMetrics, jit_epoch_step

FER2013_TRAINING_IMAGES = 28709
"""Images of the Training split, which every device holds."""

FER2013_VALIDATION_IMAGES = 3589
"""Images of PublicTest, which is evaluated after each epoch (Goodfellow et al. 2013)."""


@dataclasses.dataclass(frozen=True)
class TrainProgram:
    """A jitted training step, what it was made of, and the shapes of its arguments, placed on `mesh`.

    `graphdef` is that of the whole network in evaluation; `table` says what trains in the step.
    """

    config: ConfigDict
    mesh: jax.sharding.Mesh
    spec: FerNetSpec
    graphdef: nnx.GraphDef
    optimizer: optax.GradientTransformation
    table: FreezeTable
    step: jax.stages.Wrapped
    state: TrainState
    metrics: TrainMetrics
    data: ResidentSplit
    order: jax.ShapeDtypeStruct

    def lower(self) -> jax.stages.Lowered:
        """The step, lowered for the devices of the mesh: nothing is computed, none of them need exist here."""
        return self.step.lower(self.state, self.metrics, self.data, self.order)


def train_program(
    config: ConfigDict,
    mesh: jax.sharding.Mesh,
    *,
    num_images: int = FER2013_TRAINING_IMAGES,
    image_size: int = 48,
) -> TrainProgram:
    """The step that `train.py` compiles for `config` on `mesh`, with `num_images` resident training images.

    It is that of the first epoch, where `config.train.parameters` lets more train later.

    Raises:
      InputError: where the batch cannot be split over the mesh, for a table of what trains that does not fit the
        network, and for cached features where a backbone trains.
    """
    batch_size = config.train.batch_size
    meshes.check_batch_size(batch_size, mesh, "train.batch_size")
    replicated = meshes.replicated(mesh)
    backbones = [BACKBONES[name] for name in config.model.backbones]
    spec = model_spec(config, backbones, NUM_EXPRESSIONS)
    graphdef, params, batch_stats = model_definition(spec, replicated)
    table = resolve(config.train.parameters, config.train.epochs, params)
    check_cached_views(config, table)
    steps = max(1, num_images // batch_size)
    schedule = learning_rate_schedule(config.optimizer, total_steps=steps * config.train.epochs, steps_per_epoch=steps)
    first_epoch = {"epoch": 1, "steps_per_epoch": steps}
    optimizer = make_table_optimizer(config.optimizer, schedule, table, **first_epoch)
    trained = select(params, table.ever_trains)

    def placed(tree):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated), tree)

    def integers(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=replicated)

    pixels = jax.ShapeDtypeStruct((num_images, image_size**2), jnp.uint8, sharding=replicated)
    return TrainProgram(
        config=config,
        mesh=mesh,
        spec=spec,
        graphdef=graphdef,
        optimizer=optimizer,
        table=table,
        step=jit_epoch_step(config, spec, table, schedule, **first_epoch, mesh=mesh),
        state=TrainState(integers(), params, batch_stats, placed(jax.eval_shape(optimizer.init, trained))),
        metrics=placed(jax.eval_shape(TrainMetrics.empty)),
        data=ResidentSplit(pixels, integers(num_images), integers(num_images), (image_size, image_size)),
        order=integers(steps, batch_size),
    )
