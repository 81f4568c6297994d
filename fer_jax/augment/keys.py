"""The random keys of training: the only place that splits the seed of a run.

Every key is a function of the seed, the step and, where examples draw by themselves, the example's row id. So a draw
depends neither on the position in the batch, nor on the number of devices, nor on where a run was interrupted.
"""

import jax


def augmentation_keys(seed: jax.Array | int, step: jax.Array | int, row_ids: jax.Array) -> jax.Array:
    """Return the keys [n] by which step `step` augments the images with `row_ids`, int32 [n]."""
    return _example_keys(_streams(seed)[0], step, row_ids)


def mixup_keys(seed: jax.Array | int, step: jax.Array | int, row_ids: jax.Array) -> jax.Array:
    """Return the keys [n] by which step `step` draws the mixing weights of the examples with `row_ids`, int32 [n]."""
    return _example_keys(_streams(seed)[2], step, row_ids)


def model_keys(seed: jax.Array | int, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Return the keys of the dropout and of the drop path of step `step`."""
    dropout, drop_path = jax.random.split(jax.random.fold_in(_streams(seed)[1], step))
    return dropout, drop_path


def _streams(seed: jax.Array | int) -> jax.Array:
    """Return the keys of augmentation, model and mixup, which nothing else uses."""
    return jax.random.split(jax.random.key(seed), 3)


def _example_keys(stream: jax.Array, step: jax.Array | int, row_ids: jax.Array) -> jax.Array:
    step_key = jax.random.fold_in(stream, step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, row_ids)
