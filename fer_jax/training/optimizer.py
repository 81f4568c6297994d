"""The optimizer and its learning rate schedule, from the config and the table of what trains."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from fer_jax.params.trainable import FROZEN, Group, TrainableTable


def learning_rate_schedule(config: ConfigDict, *, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up over `warmup_epochs`, then constant, or a cosine to 0."""
    peak = config.learning_rate
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, total_steps - warmup_steps))
    else:
        after = optax.constant_schedule(peak)
    if not warmup_steps:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), after], [warmup_steps])


def is_decayed(path: tuple, _leaf) -> bool:
    """Return whether weight decay acts on a parameter: on kernels alone, not on biases and normalisation scales."""
    return path[-1] == jax.tree_util.DictKey("kernel")


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule, table: TrainableTable, *, epoch: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Return the optimizer of `epoch` (from 1) over all parameters, by the table of what trains.

    It is `optax.partition` over the labels of the table, after a clipping of the gradient's global norm if
    `config.gradient_clip_norm` asks for one. Each group of the table has an optimizer of its own by `config.name`: Adam
    as in Table 1 of the paper (AdamW on the kernels with `config.weight_decay`), or SGD with Nesterov momentum, at the
    learning rate of the run's step times the factor of the group; frozen parameters have `optax.set_to_zero` and
    therefore no state. A group that begins after `epoch` keeps its state and has updates of zero, so that Adam's bias
    correction begins where the group does.

    The state has the same structure in all epochs. Gradients of parameters that do not train in `epoch` must be zero.
    """

    def shifted(group: Group) -> optax.Schedule:
        start = (group.first_epoch - 1) * steps_per_epoch
        return lambda count: group.rate * schedule(start + count)

    transforms = {FROZEN: optax.set_to_zero()}
    for group in table.groups:
        optimizer = optax.chain(*_OPTIMIZERS[config.name](config), optax.scale_by_learning_rate(shifted(group)))
        transforms[group.label] = optimizer if group.first_epoch <= epoch else _not_begun(optimizer)
    return optax.chain(*_clipping(config), optax.partition(transforms, table.labels()))


def _not_begun(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the state of `transform`, which waits, and updates of zero."""
    return optax.GradientTransformation(
        transform.init, lambda updates, state, params=None: (optax.tree.zeros_like(updates), state)
    )


def _clipping(config: ConfigDict) -> list[optax.GradientTransformation]:
    return [optax.clip_by_global_norm(config.gradient_clip_norm)] if config.gradient_clip_norm else []


def _adam(config: ConfigDict) -> list[optax.GradientTransformation]:
    # Epsilon is the default of Keras, which the paper used.
    return [scale_by_keras_adam(b1=0.9, b2=0.999, eps=1e-7), *_decay(config)]


def _sgd(config: ConfigDict) -> list[optax.GradientTransformation]:
    """As PyTorch's SGD: the decay is part of the gradient, and so of the velocity."""
    velocity = [optax.trace(config.momentum, nesterov=True)] if config.momentum else []
    return [*_decay(config), *velocity]


_OPTIMIZERS = {"adam": _adam, "sgd": _sgd}


def _decay(config: ConfigDict) -> list[optax.GradientTransformation]:
    if not config.weight_decay:
        return []
    return [
        optax.add_decayed_weights(
            config.weight_decay, mask=lambda params: jax.tree_util.tree_map_with_path(is_decayed, params)
        )
    ]


def scale_by_keras_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return Adam as Keras and TensorFlow step, with the state of `optax.scale_by_adam`.

    They add epsilon to the root of the second moment before its bias is corrected ("epsilon hat" in section 2 of Kingma
    and Ba 2015), optax after it, which makes epsilon sqrt(1 - b2^t) times smaller: 32 times in the first step. Where
    gradients are about as large as epsilon, the first steps of optax are that much longer.
    """

    def update(gradients, state, params=None):
        correction = jnp.sqrt(1 - b2 ** optax.safe_increment(state.count))
        return optax.scale_by_adam(b1, b2, eps / correction).update(gradients, state, params)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)
