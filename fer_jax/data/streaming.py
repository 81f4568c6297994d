"""Batches read by the host while the devices work, for data too large to stay on the devices.

The examples of a batch are a pure function of the seed and the step (`resident.epoch_order`), so both inputs give the
same batches, and the step alone is enough to resume a run exactly. Each process reads only the rows of a batch that lie
on its own devices. Grain reads ahead, in threads or in worker processes.
"""

import dataclasses
import functools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from fer_jax.data.dataset import Split
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import Batch, epoch_order, padded_batches, steps_per_epoch
from fer_jax.errors import InputError

# Batches that each reading process reads ahead: enough to bridge a slow file, few enough for the memory.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class TrainingOrder:
    """The function from a step (from 0) to the indices of its batch, int32 [batch_size], through all epochs."""

    seed: int
    num_examples: int
    batch_size: int

    def __call__(self, step: int) -> np.ndarray:
        epoch, row = divmod(step, steps_per_epoch(self.num_examples, self.batch_size))
        # Epochs count from 1.
        return _epoch_order(self.seed, epoch + 1, self.num_examples, self.batch_size)[row]


# At the end of an epoch, threads and workers read from two orders.
_epoch_order = functools.lru_cache(maxsize=2)(epoch_order)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BatchSource:
    """A random-access data source of Grain: element `step` is this process's rows of that step's batch.

    Attributes:
      split: where the examples come from.
      order: the function from a step to the batch's indices into the split, int32 [batch]; -1 is padding, an image of
        zeros.
      steps: how many batches there are.
      rows: int [local], the rows of a batch that this process reads, ascending.
    """

    split: Split
    order: Callable[[int], np.ndarray]
    steps: int
    rows: np.ndarray

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """Return what a `Batch` has, on the host: images, labels, row ids and any targets; raise what `decode` raises.

        The targets of padding are those of any image.
        """
        indices = self.order(step)[self.rows]
        images = np.zeros((len(indices), *self.split.images.shape[1:]), np.uint8)
        for image, index in zip(images, indices, strict=True):
            if index >= 0:
                image[...] = self.split.images[index]
        padding = indices < 0
        labels, row_ids = (np.where(padding, -1, column[indices]) for column in (self.split.labels, self.split.row_ids))
        targets = () if self.split.targets is None else (self.split.targets[indices],)
        return images, labels.astype(np.int32), row_ids.astype(np.int32), *targets


def training_source(split: Split, *, seed: int, batch_size: int, steps: int, rows: np.ndarray) -> BatchSource:
    """Return the batches of the first `steps` steps of training."""
    return BatchSource(split, TrainingOrder(seed, len(split), batch_size), steps, rows)


def dataset(source: BatchSource, *, first_step: int, workers: int) -> grain.IterDataset:
    """Return the elements of `source` from `first_step`, read ahead by threads or by `workers` processes."""
    # Threads decode in parallel, since Pillow releases the interpreter's lock; each makes a whole batch. A worker
    # process has one reading thread, besides the one that hands over the batches.
    threads = 1 if workers else max(1, min(8, os.cpu_count() or 1))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + _AHEAD)
    batches = grain.MapDataset.source(source)[first_step:].to_iter_dataset(options)
    if not workers:
        return batches
    if not flags.FLAGS.is_parsed():
        # Grain reads absl flags, which nothing has parsed in a program without absl's `app.run`.
        flags.FLAGS.mark_as_parsed()
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
    return batches.mp_prefetch(processes, worker_init_fn=_start_worker)


def _start_worker(worker: int, workers: int) -> None:
    # An interrupt from the keyboard goes to all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def local_rows(sharding: jax.sharding.Sharding, batch_size: int) -> np.ndarray:
    """Return the rows of a batch that lie on devices of this process, int [local], ascending."""
    indices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in indices]))


def to_devices(local: np.ndarray, rows: np.ndarray, sharding: jax.sharding.Sharding, batch_size: int) -> jax.Array:
    """Return the global array [batch_size, ...] on the devices of all processes; `local` holds its rows `rows`."""

    def part(index: Any) -> Any:  # a tuple of slices: a part of the rows, as an array of the host
        first, last, _ = index[0].indices(batch_size)
        return local[np.searchsorted(rows, first) : np.searchsorted(rows, last)]

    return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, part)


def in_order(images: np.ndarray | ImageFiles, batch_size: int, sharding: jax.sharding.Sharding) -> Iterator[jax.Array]:
    """Yield all images in order, uint8 [batch_size, ...] on the devices, the last batch padded with zeros.

    Raises `InputError` naming a file that cannot be read.
    """
    ids = padded_batches(len(images), batch_size)
    nothing = np.zeros(len(images), np.int32)
    rows = local_rows(sharding, batch_size)
    source = BatchSource(Split(images, nothing, nothing), ids.__getitem__, len(ids), rows)
    # In threads, because worker processes would be started again for each pass over a split.
    for local, *_ in dataset(source, first_step=0, workers=0):
        yield to_devices(local, rows, sharding, batch_size)


class BatchStream:
    """The batches of training from a given step, on the devices of a mesh; closing it ends its workers."""

    def __init__(self, source: BatchSource, *, first_step: int, workers: int, sharding: jax.sharding.Sharding):
        self._iterator = iter(dataset(source, first_step=first_step, workers=workers))
        self._rows = source.rows
        self._sharding = sharding
        self._batch_size = len(source.order(first_step))

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> Batch:
        """Return the next step's batch; raise `InputError` naming a file that cannot be read."""
        try:
            arrays = next(self._iterator)
        except InputError as error:
            # An error from a worker carries that process's traceback, which is not for the user.
            raise InputError(str(error)) from None
        return Batch(*(to_devices(array, self._rows, self._sharding, self._batch_size) for array in arrays))

    def close(self) -> None:
        """End the worker processes."""
        self._iterator.close()
