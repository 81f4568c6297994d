"""The optimizer and its learning rate schedule, from the config."""

import jax
import optax
from ml_collections import ConfigDict


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
    transforms = []
    if config.gradient_clip_norm:
        transforms.append(optax.clip_by_global_norm(config.gradient_clip_norm))
    transforms.append(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-7))
    if config.weight_decay:
        transforms.append(
            optax.add_decayed_weights(
                config.weight_decay, mask=lambda params: jax.tree_util.tree_map_with_path(is_decayed, params)
            )
        )
    transforms.append(optax.scale_by_learning_rate(schedule))
    return optax.chain(*transforms)
