"""Data that stays on the devices, and the order in which training visits it.

FER2013 is 83 MB as uint8: every device holds all of it, and a batch is a row of ids. Nothing is read from the host
between steps, and the ids depend only on the seed and the step. `streaming` is for data sets that are too large for it.
"""

import dataclasses

import jax
import numpy as np

from fer_jax.data.dataset import Split
from fer_jax.errors import InputError
from fer_jax.runtime.sharding import place


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples on the devices.

    `images` are uint8 [n, size, size] or, in colour, [n, size, size, 3]; `labels` and `row_ids` are int32 [n];
    `targets` float32 [n, classes] as in `Split`, or None.
    """

    images: jax.Array
    labels: jax.Array
    row_ids: jax.Array
    targets: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResidentSplit:
    """A split on the devices: `pixels` uint8 [n, bytes of an image], the rest as in `Split`.

    An image is one row, because a TPU lays out the last two axes in tiles. With images as planes it would copy all of
    them at every step, from tiles that waste no memory into tiles from which it can fetch single images (5 to 7 % of a
    step).
    """

    pixels: jax.Array
    labels: jax.Array
    row_ids: jax.Array
    image_shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    targets: jax.Array | None = None

    def take(self, ids: jax.Array) -> Batch:
        """Return the examples at the indices `ids`, int32 [m]."""
        images = self.pixels[ids].reshape(*ids.shape, *self.image_shape)
        return Batch(images, self.labels[ids], self.row_ids[ids], None if self.targets is None else self.targets[ids])


def to_device(split: Split, sharding: jax.sharding.Sharding) -> ResidentSplit:
    """Put a whole split on the devices of `sharding` (the replicated one of the mesh)."""
    flat = np.asarray(split.images).reshape(len(split), -1)
    pixels, labels, row_ids = (place(array, sharding) for array in (flat, split.labels, split.row_ids))
    targets = None if split.targets is None else place(split.targets, sharding)
    return ResidentSplit(pixels, labels, row_ids, split.images.shape[1:], targets)


def fetch_batch(step: jax.Array, data: ResidentSplit, order: jax.Array, *, sharding: jax.sharding.Sharding) -> Batch:
    """Return the batch of step `step`, int32 [], from a training split on the devices.

    `order` is the order of the step's epoch, int32 [steps_per_epoch, batch]; the batch is split by `sharding`.
    """
    return data.take(jax.lax.with_sharding_constraint(order[step % order.shape[0]], sharding))


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Return the number of whole batches in an epoch; raise `InputError` if there is not even one.

    The examples that are left over at the end of an epoch's order differ from epoch to epoch.
    """
    if num_examples < batch_size:
        raise InputError(
            f"config.train.batch_size={batch_size} is larger than the training split of {num_examples} images"
        )
    return num_examples // batch_size


def epoch_order(seed: int, epoch: int, num_examples: int, batch_size: int) -> np.ndarray:
    """Return the batches of one epoch: int32 [steps, batch_size], indices into the split, each at most once.

    The order is a pure function of the arguments (a Philox generator keyed by seed and epoch), so it is the same on
    every host.
    """
    steps = steps_per_epoch(num_examples, batch_size)
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def padded_batches(num_examples: int, batch_size: int) -> np.ndarray:
    """Return the indices of all examples in order, int32 [batches, batch_size]; -1 pads the last batch."""
    batches = -(-num_examples // batch_size)
    ids = np.full(batches * batch_size, -1, np.int32)
    ids[:num_examples] = np.arange(num_examples)
    return ids.reshape(batches, batch_size)
