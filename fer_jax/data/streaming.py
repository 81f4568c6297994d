"""Batches read from the host while the devices work: for data too large to live there.

What is in which batch is a pure function of the seed and the step (`resident.epoch_order`), so both inputs give the
same batches, and a run goes on exactly from its step alone. Each process reads only the rows of a batch that lie on
its own devices. Grain reads ahead, in threads or in worker processes.
"""

import dataclasses
import functools
import os
import signal
from collections.abc import Callable, Iterator

import grain
import jax
import numpy as np
from absl import flags

from fer_jax.data.dataset import Split
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import Batch, epoch_order, padded_batches, steps_per_epoch
from fer_jax.errors import InputError

# Batches read ahead by each process that reads: enough to bridge a slow file, few enough for the memory.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class TrainingOrder:
    """Step (from 0) to the places of its batch, int32 [batch_size]: row `step` of all epochs' orders in a row."""

    seed: int
    num_examples: int
    batch_size: int

    def __call__(self, step: int) -> np.ndarray:
        epoch, row = divmod(step, steps_per_epoch(self.num_examples, self.batch_size))
        # Epochs count from 1.
        return _epoch_order(self.seed, epoch + 1, self.num_examples, self.batch_size)[row]


# Threads and workers at the end of an epoch read from two of them.
_epoch_order = functools.lru_cache(maxsize=2)(epoch_order)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BatchSource:
    """A random-access data source of Grain: element `step` is this process's rows of that step's batch.

    Attributes:
      split: where the examples come from.
      order: step to the batch's places in the split, int32 [batch]; -1 is filling, an image of zeros.
      steps: how many batches there are.
      rows: int [local], the rows of a batch that this process reads, ascending.
    """

    split: Split
    order: Callable[[int], np.ndarray]
    steps: int
    rows: np.ndarray

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`images`, `labels` and `row_ids` of a `Batch`, as arrays of this process; raises what `decode` raises."""
        places = self.order(step)[self.rows]
        images = np.zeros((len(places), *self.split.images.shape[1:]), np.uint8)
        for image, place in zip(images, places, strict=True):
            if place >= 0:
                image[...] = self.split.images[place]
        filling = places < 0
        labels, row_ids = (np.where(filling, -1, column[places]) for column in (self.split.labels, self.split.row_ids))
        return images, labels.astype(np.int32), row_ids.astype(np.int32)


def training_source(split: Split, *, seed: int, batch_size: int, steps: int, rows: np.ndarray) -> BatchSource:
    """The batches of the first `steps` steps of training."""
    return BatchSource(split, TrainingOrder(seed, len(split), batch_size), steps, rows)


def dataset(source: BatchSource, *, first_step: int, workers: int) -> grain.IterDataset:
    """The elements of `source` from `first_step` on, read ahead by threads or by `workers` processes."""
    # Threads decode side by side, since Pillow lets go of the interpreter's lock; each makes a whole batch. A worker
    # process has one, besides the one that hands over the batches.
    threads = 1 if workers else max(1, min(8, os.cpu_count() or 1))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + _AHEAD)
    batches = grain.MapDataset.source(source)[first_step:].to_iter_dataset(options)
    if not workers:
        return batches
    if not flags.FLAGS.is_parsed():
        # Grain asks for absl flags of its own, which nobody parses in a program without absl's `app.run`.
        flags.FLAGS.mark_as_parsed()
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
    return batches.mp_prefetch(processes, worker_init_fn=_start_worker)


def _start_worker(worker: int, workers: int) -> None:
    # An interrupt from the keyboard goes to all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def local_rows(sharding: jax.sharding.Sharding, batch_size: int) -> np.ndarray:
    """The rows of a batch, int [local], ascending, that lie on devices of this process."""
    indices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in indices]))


def to_devices(local: np.ndarray, rows: np.ndarray, sharding: jax.sharding.Sharding, batch_size: int) -> jax.Array:
    """The global array [batch_size, ...] on the devices of all processes, of which `local` are the rows `rows`."""

    def part(index: tuple[slice, ...]) -> np.ndarray:
        first, last, _ = index[0].indices(batch_size)
        return local[np.searchsorted(rows, first) : np.searchsorted(rows, last)]

    return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, part)


def in_order(images: np.ndarray | ImageFiles, batch_size: int, sharding: jax.sharding.Sharding) -> Iterator[jax.Array]:
    """All images in their order, uint8 [batch_size, ...] on the devices; the last batch is filled up with zeros.

    `InputError` names a file that cannot be read.
    """
    ids = padded_batches(len(images), batch_size)
    nothing = np.zeros(len(images), np.int32)
    rows = local_rows(sharding, batch_size)
    source = BatchSource(Split(images, nothing, nothing), ids.__getitem__, len(ids), rows)
    # In threads: worker processes would be started anew for each pass over a split.
    for local, _, _ in dataset(source, first_step=0, workers=0):
        yield to_devices(local, rows, sharding, batch_size)


class BatchStream:
    """The batches of training, from a step on, on the devices of a mesh; close it to end its workers."""

    def __init__(self, source: BatchSource, *, first_step: int, workers: int, sharding: jax.sharding.Sharding):
        self._iterator = iter(dataset(source, first_step=first_step, workers=workers))
        self._rows = source.rows
        self._sharding = sharding
        self._batch_size = len(source.order(first_step))

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> Batch:
        """The next step's batch; `InputError` names a file that cannot be read, `StopIteration` after the last step."""
        try:
            arrays = next(self._iterator)
        except InputError as error:
            # From a worker the error comes with that process's traceback.
            raise InputError(str(error)) from None
        return Batch(*(to_devices(array, self._rows, self._sharding, self._batch_size) for array in arrays))

    def close(self) -> None:
        """Ends the worker processes."""
        self._iterator.close()
