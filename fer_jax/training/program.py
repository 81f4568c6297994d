"""From a config, the shape of the data and a mesh to the programs of a run: the one place that assembles them.

`train.py`, the benchmark, the compile check and the tests build a `TrainProgram`; each then takes from it what it runs,
lowers or compiles.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from fer_jax.augment import affine
from fer_jax.augment.keys import augmentation_keys
from fer_jax.config.class_weights import class_weights
from fer_jax.data.dataset import Dataset
from fer_jax.data.fer2013 import IMAGE_SIZE, PUBLISHED_COUNTS
from fer_jax.data.resident import Batch, ResidentSplit, fetch_batch, steps_per_epoch
from fer_jax.expressions import EXPRESSIONS, NUM_EXPRESSIONS
from fer_jax.models.backbone import BackboneSpec
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES, FerNet, FerNetSpec
from fer_jax.params.trainable import TrainableTable, resolve
from fer_jax.runtime.sharding import check_batch_size, place, replicated, split_batch
from fer_jax.training.cached_features import check_cached_views, classify_features, features_as_they_are
from fer_jax.training.optimizer import learning_rate_schedule, make_optimizer
from fer_jax.training.state import TrainState, averaged, create_model, create_state, model_definition
from fer_jax.training.step import StepDefinition, TrainMetrics, train_step


@dataclasses.dataclass(frozen=True)
class DataShape:
    """What the programs of a run depend on in its data.

    Attributes:
      num_train: images of the training split.
      image_shape: (size, size) of gray images, (size, size, 3) of RGB, in pixels.
      num_classes: outputs of the network.
      class_names: of these outputs, for class weights by name.
      class_counts: training images of each class, or the sums of their probabilities, for the scale of class weights;
        () for equally many.
    """

    num_train: int
    image_shape: tuple[int, ...]
    num_classes: int
    class_names: tuple[str, ...] = EXPRESSIONS
    class_counts: tuple[float, ...] = ()

    @classmethod
    def of(cls, data: Dataset) -> "DataShape":
        """Return the shape of `data`."""
        classes, train = len(data.class_names), data.train
        if train.targets is None:
            counts = np.bincount(train.labels, minlength=classes)
        else:
            counts = train.targets.sum(axis=0, dtype=np.float64)
        return cls(len(train), data.image_shape, classes, tuple(data.class_names), tuple(counts.tolist()))


FER2013_SHAPE = DataShape(
    sum(PUBLISHED_COUNTS["train"]),
    (IMAGE_SIZE, IMAGE_SIZE),
    NUM_EXPRESSIONS,
    class_counts=tuple(PUBLISHED_COUNTS["train"]),
)
"""Of the published FER2013."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainProgram:
    """All that a config determines about the training of a run.

    Attributes:
      config: of the run.
      data_shape: of its data.
      mesh: the devices that train.
      spec: the network.
      graphdef: the network in evaluation.
      params: the shapes and placement of the parameters, nested dicts of `jax.ShapeDtypeStruct`.
      batch_stats: those of the running statistics.
      table: what trains, when and how fast.
      schedule: the learning rate by step.
      class_weights: of the training loss, one for each class, or None.
    """

    config: ConfigDict
    data_shape: DataShape
    mesh: jax.sharding.Mesh
    spec: FerNetSpec
    graphdef: nnx.GraphDef
    params: dict
    batch_stats: dict
    table: TrainableTable
    schedule: optax.Schedule
    class_weights: tuple[float, ...] | None

    @classmethod
    def build(
        cls,
        config: ConfigDict,
        data_shape: DataShape,
        mesh: jax.sharding.Mesh,
        backbones: Sequence[BackboneSpec] | None = None,
    ) -> "TrainProgram":
        """Assemble the programs of a run: nothing is computed or compiled yet.

        Args:
          config: a checked config.
          data_shape: of the data to train on.
          mesh: the devices, which need not exist on this machine.
          backbones: as their initial weights want them; by default those that `config.model.backbones` names.

        Raises:
          InputError: for a batch that cannot be split over the mesh or is larger than the training split, a table of
            what trains that does not fit the network, class weights that do not fit the classes, and cached features
            where a backbone trains.
        """
        check_batch_size(config.train.batch_size, mesh, "train.batch_size")
        weights = class_weights(config.train.class_weights, data_shape.class_names, data_shape.class_counts)
        steps = steps_per_epoch(data_shape.num_train, config.train.batch_size)
        if backbones is None:
            backbones = [BACKBONES[name] for name in config.model.backbones]
        spec = model_spec(config, backbones, data_shape.num_classes)
        graphdef, params, batch_stats = model_definition(spec, replicated(mesh))
        table = resolve(config.train.parameters, config.train.epochs, params)
        check_cached_views(config, table)
        total = steps * config.train.epochs
        schedule = learning_rate_schedule(config.optimizer, total_steps=total, steps_per_epoch=steps)
        return cls(config, data_shape, mesh, spec, graphdef, params, batch_stats, table, schedule, weights)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return steps_per_epoch(self.data_shape.num_train, self.config.train.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.config.train.epochs

    def optimizer(self, epoch: int = 1) -> optax.GradientTransformation:
        """Return the optimizer of `epoch` (from 1), over all parameters."""
        return make_optimizer(
            self.config.optimizer, self.schedule, self.table, epoch=epoch, steps_per_epoch=self.steps_per_epoch
        )

    def initial_state(
        self, backbones: Mapping[str, tuple[dict, dict]] | None = None, classifier: dict | None = None
    ) -> TrainState:
        """Return the state before the first step, on the devices of the mesh.

        `backbones` gives parameters and running statistics by the name of a backbone, `classifier` the parameters of
        the classifier; the rest of the network is initialised from the seed of the config.
        """
        params, batch_stats = create_model(self.spec, self.config.seed)
        for name, (backbone_params, backbone_stats) in (backbones or {}).items():
            params["backbones"][name] = backbone_params
            batch_stats["backbones"][name] = backbone_stats
        if classifier is not None:
            params["classifier"] = classifier
        return self.state_of(params, batch_stats)

    def state_of(self, params: dict, batch_stats: dict) -> TrainState:
        """Return the state before the first step that begins with these parameters and running statistics."""
        return create_state(
            params,
            batch_stats,
            self.optimizer(),
            replicated(self.mesh),
            ever_trains=self.table.ever_trains,
            average=self.config.train.ema_decay > 0,
        )

    def state_shapes(self) -> TrainState:
        """Return the shapes and placement of the state."""
        opt_state = jax.eval_shape(self.optimizer().init, self.params)
        average = None
        if self.config.train.ema_decay > 0:
            average = averaged(self.params, self.batch_stats, self.table.ever_trains)
        opt_state = self._placed(opt_state)
        # Shapes stand for arrays.
        return TrainState(self._integers(), self.params, self.batch_stats, opt_state, average)  # type: ignore[arg-type]

    def no_metrics(self) -> TrainMetrics:
        """Return metrics that have seen no step, on the devices of the mesh."""
        return place(TrainMetrics.empty(), replicated(self.mesh))

    @functools.cached_property
    def merge_metrics(self) -> Callable[[TrainMetrics, TrainMetrics], TrainMetrics]:
        """The jitted merge of metrics of earlier steps with those of later ones."""
        return jax.jit(lambda earlier, later: earlier.merge(later), out_shardings=replicated(self.mesh))

    def resident_shapes(self) -> tuple[ResidentSplit, jax.ShapeDtypeStruct]:
        """Return the shapes of what a step takes from data on the devices: the training split and an epoch's order."""
        n, shape = self.data_shape.num_train, self.data_shape.image_shape
        pixels = jax.ShapeDtypeStruct((n, math.prod(shape)), jnp.uint8, sharding=replicated(self.mesh))
        # Shapes stand for arrays.
        data = ResidentSplit(pixels, self._integers(n), self._integers(n), shape)  # type: ignore[arg-type]
        return data, self._integers(self.steps_per_epoch, self.config.train.batch_size)

    def definition(self, epoch: int = 1) -> StepDefinition:
        """Return what is fixed in the steps of `epoch` (from 1): the same until the next of `table.phase_starts`."""
        config = self.config
        trains = functools.partial(self.table.trains, epoch=epoch)
        graphdef, *_ = model_definition(self.spec, replicated(self.mesh), trains)
        on_features = config.train.cached_views > 0
        return StepDefinition(
            graphdef=graphdef,
            trains=trains,
            optimizer=self.optimizer(epoch),
            prepare=features_as_they_are if on_features else augmented_images(config),
            forward=classify_features if on_features else FerNet.__call__,
            label_smoothing=config.train.label_smoothing,
            class_weights=self.class_weights,
            mixup_alpha=config.train.mixup_alpha,
            ema_decay=config.train.ema_decay,
            seed=config.seed,
        )

    def step(self, epoch: int = 1, fetch: Callable[..., Batch] | None = None) -> jax.stages.Wrapped:
        """Return the jitted step of `epoch` (from 1): (state, metrics, *arguments) -> (state, metrics).

        `fetch(step, *arguments)` gives the batch of a step, by default from data on the devices
        (`fer_jax.data.resident.fetch_batch`). The step consumes the state and the metrics.
        """
        fetch = fetch or functools.partial(fetch_batch, sharding=split_batch(self.mesh))
        return jit_step(self.definition(epoch), fetch, self.mesh)

    def lower(self) -> jax.stages.Lowered:
        """Return the first epoch's step on resident data, lowered: none of the devices of the mesh need exist here."""
        metrics = self._placed(jax.eval_shape(TrainMetrics.empty))
        return self.step().lower(self.state_shapes(), metrics, *self.resident_shapes())

    def _placed(self, tree):
        sharding = replicated(self.mesh)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    def _integers(self, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=replicated(self.mesh))


def augmented_images(config: ConfigDict) -> Callable[[Batch, jax.Array | int, jax.Array], jax.Array]:
    """Return the function from a batch, the seed of a run and a step to its augmented images.

    float32 [n, input_size, input_size], or [n, input_size, input_size, 3] of RGB images, in 0..255.
    """
    augmentation = affine.Augmentation(**config.augment)

    def prepare(batch: Batch, seed: jax.Array | int, step: jax.Array) -> jax.Array:
        keys = augmentation_keys(seed, step, batch.row_ids)
        return affine.augment(batch.images, keys, augmentation, config.model.input_size)

    return prepare


def jit_step(definition: StepDefinition, fetch: Callable[..., Batch], mesh: jax.sharding.Mesh) -> jax.stages.Wrapped:
    """Return `train_step` of `definition` on the batches of `fetch(step, *arguments)`, jitted for a mesh."""

    def step(state, metrics, *arguments):
        return train_step(state, metrics, fetch(state.step, *arguments), definition)

    return jax.jit(step, donate_argnums=(0, 1), out_shardings=replicated(mesh))
