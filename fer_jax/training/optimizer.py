"""The optimizer and its learning rate schedule, from the config and the table of what trains."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from fer_jax.params.trainable import FreezeTable, Group
from fer_jax.params.tree import overlay, select


def learning_rate_schedule(config: ConfigDict, *, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up over `warmup_epochs`, then constant, or cosine down to 0 at the end."""
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
    """Weight decay acts on kernels alone, not on biases and normalisation scales."""
    return path[-1] == jax.tree_util.DictKey("kernel")


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam as in Table 1 of the paper; with `weight_decay` AdamW on the kernels, with `gradient_clip_norm` clipped.

    Adam's constants are the defaults of Keras, which the paper used (epsilon 1e-7).
    """
    return optax.chain(*_clipping(config), *_adam(config, schedule))


def make_table_optimizer(
    config: ConfigDict, schedule: optax.Schedule, table: FreezeTable, *, epoch: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """`make_optimizer` for what trains by `table`, with the updates of `epoch` (from 1).

    Its `init` takes the parameters that train in any epoch, its `update` those that train in `epoch` and their
    gradients, of which the clipping takes the norm. Its state has the same structure in all epochs. Each group of the
    table has moments and a step count of its own, which stand still until its first epoch: so Adam's correction for
    the start of its averages begins where the group does. The learning rate is the schedule's at the step of the run,
    times the factor of the group.
    """
    if table.groups == (Group(rate=1.0, first_epoch=1),):
        return make_optimizer(config, schedule)

    def shifted(group: Group) -> optax.Schedule:
        start = (group.first_epoch - 1) * steps_per_epoch
        return lambda count: group.rate * schedule(start + count)

    transforms = {group: optax.chain(*_adam(config, shifted(group))) for group in table.groups}
    return optax.chain(*_clipping(config), _by_group(transforms, table, epoch))


def _by_group(
    transforms: Mapping[Group, optax.GradientTransformation], table: FreezeTable, epoch: int
) -> optax.GradientTransformation:
    """Each group by its own transformation, as in `optax.partition`, but those that begin after `epoch` left alone."""

    def label(group: Group) -> str:
        return f"rate {group.rate:g} from epoch {group.first_epoch}"

    def members(tree: Any, group: Group) -> Any:
        return select(tree, lambda path: table.group(path) == group)

    def init(params):
        return {label(group): transform.init(members(params, group)) for group, transform in transforms.items()}

    def update(gradients, state, params=None):
        updates, state = {}, dict(state)
        for group, transform in transforms.items():
            if group.first_epoch <= epoch:
                parts = members(gradients, group), state[label(group)], members(params, group)
                part, state[label(group)] = transform.update(*parts)
                updates = overlay(updates, part)
        return updates, state

    return optax.GradientTransformation(init, update)


def _clipping(config: ConfigDict) -> list[optax.GradientTransformation]:
    return [optax.clip_by_global_norm(config.gradient_clip_norm)] if config.gradient_clip_norm else []


def _adam(config: ConfigDict, schedule: optax.Schedule) -> list[optax.GradientTransformation]:
    transforms = [optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-7)]
    if config.weight_decay:
        transforms.append(
            optax.add_decayed_weights(
                config.weight_decay, mask=lambda params: jax.tree_util.tree_map_with_path(is_decayed, params)
            )
        )
    return [*transforms, optax.scale_by_learning_rate(schedule)]
