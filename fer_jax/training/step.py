"""The training step: a pure function of arrays and of one static object that says what the step does.

Every random draw of a step comes from keys that are functions of the seed, the step and, for the augmentation, the
example (`fer_jax.augment.keys`), so a step computes the same whenever and wherever it runs.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics
from flax import nnx, struct

from fer_jax.augment.keys import mixup_keys, model_keys
from fer_jax.augment.mixup import mix, mixing_weights
from fer_jax.data.resident import Batch
from fer_jax.params.tree import Path, overlay, select
from fer_jax.training.ema import moved_average
from fer_jax.training.nan_guard import FirstNotFinite, all_finite
from fer_jax.training.state import TrainState


@struct.dataclass
class Latest(clu_metrics.Metric):
    """A scalar of the latest step: float32 [], 0 before the first."""

    value: jax.Array

    @classmethod
    def empty(cls) -> "Latest":
        return cls(jnp.float32(0))

    @classmethod
    def from_model_output(cls, value: jax.Array, **_) -> "Latest":
        """Hold `value`, float32 []."""
        return cls(value)

    def merge(self, other: "Latest") -> "Latest":
        return other

    def compute(self) -> jax.Array:
        return self.value


@struct.dataclass
class TrainMetrics(clu_metrics.Collection):
    """What training mode (dropout, augmentation) made of the steps since the metrics were last empty.

    Means over their examples; the first step among them that was not finite; and, of the latest step, the global L2
    norms over the parameters that train: of the gradient before it is clipped, of the update, and of the parameters
    that it gave.
    """

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Accuracy
    first_not_finite: FirstNotFinite
    gradient_norm: Latest.from_output("gradient_norm")  # type: ignore[valid-type]
    update_norm: Latest.from_output("update_norm")  # type: ignore[valid-type]
    parameter_norm: Latest.from_output("parameter_norm")  # type: ignore[valid-type]


@dataclasses.dataclass(frozen=True, eq=False)
class StepDefinition:
    """What is fixed in a training step: everything but the state and the batch.

    Attributes:
      graphdef: the network, with its frozen modules in evaluation mode.
      trains: whether the parameter at a path is differentiated.
      optimizer: the updates of all parameters; those of parameters that do not train are zero.
      prepare: from a batch, the seed and the step to what `forward` takes: augmented images, or features as they are.
      forward: from a `FerNet` and what `prepare` gives to logits; takes `train` and `rngs` like `FerNet`.
      label_smoothing: see `cross_entropy`.
      class_weights: see `cross_entropy`; None for no weights.
      mixup_alpha: of `fer_jax.augment.mixup`; 0 for none.
      ema_decay: of the moving average of the model; 0 for none.
      seed: of the run; uint32 [], traced, in a step of several seeds.
    """

    graphdef: nnx.GraphDef
    trains: Callable[[Path], bool]
    optimizer: optax.GradientTransformation
    prepare: Callable[[Batch, jax.Array | int, jax.Array], jax.Array]
    forward: Callable[..., jax.Array]
    label_smoothing: float
    class_weights: tuple[float, ...] | None
    mixup_alpha: float
    ema_decay: float
    seed: jax.Array | int


def cross_entropy(
    logits: jax.Array | np.ndarray,
    targets: jax.Array | np.ndarray,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> jax.Array:
    """Return the softmax cross-entropy in nats by example, [n], of logits [n, c].

    `targets` are labels, int [n], or the probabilities of the classes, float [n, c]. With `class_weights`, [c], an
    example counts by that of its label (their mean under probabilities), however the label is smoothed.
    """
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1])
    loss = optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))
    return loss if class_weights is None else loss * (targets @ jnp.array(class_weights, targets.dtype))


def train_step(
    state: TrainState, metrics: TrainMetrics, batch: Batch, definition: StepDefinition
) -> tuple[TrainState, TrainMetrics]:
    """Take one step of training on one batch.

    Returns the state after it, and `metrics` (those of earlier steps) with those of this step added.
    """
    dropout_key, drop_path_key = model_keys(definition.seed, state.step)
    inputs = definition.prepare(batch, definition.seed, state.step)
    weights = None
    if definition.mixup_alpha:
        keys = mixup_keys(definition.seed, state.step, batch.row_ids)
        weights = mixing_weights(keys, definition.mixup_alpha)
        inputs = mix(inputs, weights)
    targets = batch.labels if batch.targets is None else batch.targets

    label_loss = functools.partial(
        cross_entropy, label_smoothing=definition.label_smoothing, class_weights=definition.class_weights
    )

    def loss_fn(trainable):
        model = nnx.merge(definition.graphdef, overlay(state.params, trainable), state.batch_stats)
        rngs = nnx.Rngs(dropout=dropout_key, drop_path=drop_path_key)
        logits = definition.forward(model, inputs, train=True, rngs=rngs)
        loss = label_loss(logits, targets)
        if weights is not None:
            # Cross-entropy is linear in the targets: that of mixed targets is the mixture of both. Each part counts by
            # the class weight of its own label.
            loss = weights * loss + (1 - weights) * label_loss(logits, jnp.roll(targets, 1, axis=0))
        return loss.mean(), (loss, logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

    trainable = select(state.params, definition.trains)
    gradients, (loss, logits, batch_stats) = jax.grad(loss_fn, has_aux=True)(trainable)
    # Parameters that do not train have gradients and updates of zero, which the compiler removes again.
    all_gradients = overlay(jax.tree.map(jnp.zeros_like, state.params), gradients)
    all_updates, opt_state = definition.optimizer.update(all_gradients, state.opt_state, state.params)
    updates = select(all_updates, definition.trains)
    trained = optax.apply_updates(trainable, updates)
    params = overlay(state.params, trained)
    average = None
    if definition.ema_decay:
        model = {"params": params, "batch_stats": batch_stats}
        average = moved_average(state.average, model, definition.ema_decay, state.step)
    batch_metrics = TrainMetrics.single_from_model_output(
        loss=loss,
        logits=logits,
        labels=batch.labels,
        step=state.step + 1,
        finite=all_finite((loss, gradients)),
        gradient_norm=optax.global_norm(gradients),
        update_norm=optax.global_norm(updates),
        parameter_norm=optax.global_norm(trained),
    )
    return TrainState(state.step + 1, params, batch_stats, opt_state, average), metrics.merge(batch_metrics)
