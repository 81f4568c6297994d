"""The training step and the evaluation step: pure functions of arrays, jitted once by `train.py`.

Every random draw of a step comes from keys folded out of (seed, step) and, for the augmentation, the example, so a
step computes the same whenever and wherever it runs.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import nnx, struct
from ml_collections import ConfigDict

from fer_jax.augment import affine
from fer_jax.augment.mixup import mix, mixing_weights
from fer_jax.data.resident import Batch, ResidentSplit
from fer_jax.models.fernet import FerNetSpec
from fer_jax.params.trainable import FreezeTable
from fer_jax.params.tree import Path, overlay, select
from fer_jax.runtime import sharding as meshes
from fer_jax.training.cached_features import FeatureViews
from fer_jax.training.ema import moved_average
from fer_jax.training.nan_guard import FirstNotFinite, all_finite
from fer_jax.training.optimizer import make_table_optimizer
from fer_jax.training.state import TrainState, model_definition


@struct.dataclass
class TrainMetrics(clu_metrics.Collection):
    """Means over the examples seen since the metrics were last empty, in training mode (dropout, augmentation).

    And the first step among them that was not finite.
    """

    loss: clu_metrics.Average.from_output("loss")
    accuracy: clu_metrics.Accuracy
    first_not_finite: FirstNotFinite


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy in nats by example: logits [n, c], labels int [n] -> [n]."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def train_step(
    state: TrainState,
    metrics: TrainMetrics,
    batch: Batch,
    *,
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    augmentation: affine.Augmentation,
    input_size: int,
    label_smoothing: float,
    mixup_alpha: float,
    ema_decay: float,
    seed: int,
    trains: Callable[[Path], bool],
    cached: bool,
) -> tuple[TrainState, TrainMetrics]:
    """One step of training on one batch: the state after it, and `metrics` (those of earlier steps) with it added.

    Only parameters are differentiated of whose path `trains` says so; `graphdef` and `optimizer` are those for them.
    With `cached` the images of the batch are features (`cached_features`), which only the classifier sees.
    """
    augment_key, model_key, mixup_key = jax.random.split(jax.random.key(seed), 3)
    dropout_key, drop_path_key = jax.random.split(jax.random.fold_in(model_key, state.step))
    if cached:
        images = batch.images
    else:
        keys = affine.example_keys(augment_key, state.step, batch.row_ids)
        images = affine.augment(batch.images, keys, augmentation, input_size)
    if mixup_alpha:
        weights = mixing_weights(affine.example_keys(mixup_key, state.step, batch.row_ids), mixup_alpha)
        images = mix(images, weights)

    def loss_fn(trainable):
        model = nnx.merge(graphdef, overlay(state.params, trainable), state.batch_stats)
        forward = model.classifier if cached else model
        logits = forward(images, train=True, rngs=nnx.Rngs(dropout=dropout_key, drop_path=drop_path_key))
        loss = cross_entropy(logits, batch.labels, label_smoothing)
        if mixup_alpha:
            # Cross-entropy is linear in the targets: that of mixed targets is the mixture of both.
            loss = weights * loss + (1 - weights) * cross_entropy(logits, jnp.roll(batch.labels, 1), label_smoothing)
        return loss.mean(), (loss, logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

    trainable = select(state.params, trains)
    gradients, (loss, logits, batch_stats) = jax.grad(loss_fn, has_aux=True)(trainable)
    updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
    params = overlay(state.params, optax.apply_updates(trainable, updates))
    average = None
    if ema_decay:
        model = {"params": params, "batch_stats": batch_stats}
        average = moved_average(state.average, model, ema_decay, state.step)
    batch_metrics = TrainMetrics.single_from_model_output(
        loss=loss, logits=logits, labels=batch.labels, step=state.step + 1, finite=all_finite((loss, gradients))
    )
    return TrainState(state.step + 1, params, batch_stats, opt_state, average), metrics.merge(batch_metrics)


def resident_train_step(
    state: TrainState,
    metrics: TrainMetrics,
    data: ResidentSplit | FeatureViews,
    order: jax.Array,
    *,
    batch_sharding: jax.sharding.Sharding,
    cached: bool,
    **fixed,
) -> tuple[TrainState, TrainMetrics]:
    """`train_step` on a batch of a training split that lives on the devices, or with `cached`, of its features.

    `order` is the epoch's batches, int32 [steps_per_epoch, batch]; the step's place in the epoch picks the row.
    """
    ids = order[state.step % order.shape[0]]
    if cached:
        batch = data.take(ids, state.step // order.shape[0], batch_sharding)
    else:
        batch = data.take(jax.lax.with_sharding_constraint(ids, batch_sharding))
    return train_step(state, metrics, batch, cached=cached, **fixed)


def jit_train_step(
    config: ConfigDict,
    *,
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    trains: Callable[[Path], bool] = lambda path: True,
    resident: bool = True,
) -> jax.stages.Wrapped:
    """`resident_train_step`, or `train_step` for a streamed input, with what a config fixes, jitted for a mesh.

    It consumes the state and the metrics.
    """
    from_where = {"batch_sharding": meshes.split_batch(mesh)} if resident else {}
    step = functools.partial(
        resident_train_step if resident else train_step,
        graphdef=graphdef,
        optimizer=optimizer,
        augmentation=affine.Augmentation(**config.augment),
        input_size=config.model.input_size,
        label_smoothing=config.train.label_smoothing,
        mixup_alpha=config.train.mixup_alpha,
        ema_decay=config.train.ema_decay,
        seed=config.seed,
        trains=trains,
        cached=config.train.cached_views > 0,
        **from_where,
    )
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=meshes.replicated(mesh))


def jit_epoch_step(
    config: ConfigDict,
    spec: FerNetSpec,
    table: FreezeTable,
    schedule: optax.Schedule,
    *,
    epoch: int,
    steps_per_epoch: int,
    mesh: jax.sharding.Mesh,
    resident: bool = True,
) -> jax.stages.Wrapped:
    """`jit_train_step` with what trains in `epoch` by `table`: good until the next of `table.phase_starts`."""
    trains = functools.partial(table.trains, epoch=epoch)
    graphdef, *_ = model_definition(spec, meshes.replicated(mesh), trains)
    optimizer = make_table_optimizer(config.optimizer, schedule, table, epoch=epoch, steps_per_epoch=steps_per_epoch)
    return jit_train_step(config, graphdef=graphdef, optimizer=optimizer, mesh=mesh, trains=trains, resident=resident)
