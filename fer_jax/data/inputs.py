"""The input of training: batches from data on the devices, or streamed to them, behind one interface."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fer_jax.data import resident
from fer_jax.data.dataset import Dataset, Split
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.input_choice import choose_input
from fer_jax.data.resident import Batch
from fer_jax.data.streaming import BatchStream, local_rows, training_source
from fer_jax.runtime.sharding import place


class ResidentInput:
    """All of `train` on the devices; a step takes its batch from there.

    `train` is a `resident.ResidentSplit`, or what else `fetch` takes batches from and has `labels`.

    Attributes:
      fetch: `fetch(step, *arguments)`, the batch of a step, where `arguments` is what `steps` yields for it.
      evaluated: by name, the images of the splits that are evaluated after each epoch, uint8 [n, ...].
    """

    def __init__(
        self,
        train: Any,
        evaluated: dict[str, jax.Array],
        *,
        seed: int,
        batch_size: int,
        replicated: jax.sharding.Sharding,
        fetch: Callable[..., Batch],
    ):
        self.fetch = fetch
        self._order_of = (seed, len(train.labels), batch_size)
        self._sharding = replicated
        self._train = train
        self.evaluated = evaluated

    def step_arguments(self) -> tuple:
        """Return the shapes and placement of what `steps` yields, to compile the step for."""
        return self._train, self._order(1)

    @contextlib.contextmanager
    def steps(self, first_step: int) -> Iterator[Iterator[tuple[Any, jax.Array]]]:
        """Yield an iterator over the steps from `first_step` (from 0): the training split and the epoch's batches."""
        yield self._steps(first_step)

    def _steps(self, first_step: int) -> Iterator[tuple[Any, jax.Array]]:
        _, num_examples, batch_size = self._order_of
        epochs, row = divmod(first_step, resident.steps_per_epoch(num_examples, batch_size))
        for epoch in itertools.count(epochs + 1):
            order = self._order(epoch)
            yield from itertools.repeat((self._train, order), len(order) - row)
            row = 0

    def _order(self, epoch: int) -> jax.Array:
        seed, num_examples, batch_size = self._order_of
        return place(resident.epoch_order(seed, epoch, num_examples, batch_size), self._sharding)


class StreamingInput:
    """Images read while training proceeds (`streaming`); a step is given its batch.

    Attributes:
      fetch: as in `ResidentInput`.
      evaluated: by name, the images of the splits that are evaluated after each epoch, on the host or in their files.
    """

    def __init__(
        self,
        train: Split,
        evaluated: dict[str, np.ndarray | ImageFiles],
        *,
        seed: int,
        batch_size: int,
        total_steps: int,
        workers: int,
        batch_sharding: jax.sharding.Sharding,
    ):
        rows = local_rows(batch_sharding, batch_size)
        self._source = training_source(train, seed=seed, batch_size=batch_size, steps=total_steps, rows=rows)
        self._workers = workers
        self._sharding = batch_sharding
        self._batch_size = batch_size
        self.evaluated = evaluated

    @staticmethod
    def fetch(step: jax.Array, batch: Batch) -> Batch:
        """Return `batch`, which is that of `step`."""
        return batch

    def step_arguments(self) -> tuple:
        """Return the shapes and placement of what `steps` yields, to compile the step for."""

        def shape(dtype, *rest: int) -> Any:  # a shape stands for an array
            return jax.ShapeDtypeStruct((self._batch_size, *rest), dtype, sharding=self._sharding)

        images = shape(np.uint8, *self._source.split.images.shape[1:])
        shares = self._source.split.targets
        targets = None if shares is None else shape(np.float32, shares.shape[1])
        return (Batch(images, shape(np.int32), shape(np.int32), targets),)

    @contextlib.contextmanager
    def steps(self, first_step: int) -> Iterator[Iterator[tuple[Batch]]]:
        """Yield an iterator over the batches from `first_step` (from 0); leaving the context ends the workers."""
        if first_step >= len(self._source):
            yield iter(())
            return
        stream = BatchStream(self._source, first_step=first_step, workers=self._workers, sharding=self._sharding)
        with contextlib.closing(stream):
            yield ((batch,) for batch in stream)


def evaluated_splits(config: ConfigDict) -> tuple[str, ...]:
    """Return the splits evaluated after each epoch: `validation`, and `test` if the config asks for it."""
    return ("validation", "test") if config.eval.test_each_epoch else ("validation",)


def make_input(
    config: ConfigDict,
    data: Dataset,
    *,
    total_steps: int,
    replicated: jax.sharding.Sharding,
    batch_sharding: jax.sharding.Sharding,
) -> tuple[ResidentInput | StreamingInput, str]:
    """Return the input that `config.data.input` asks for, and one line that names it and the reason.

    Its `evaluated` has the images of `evaluated_splits(config)`. `replicated` puts an array on every device,
    `batch_sharding` splits its first axis over them.
    """
    kind, reason = choose_input(config.data.input, data.nbytes)
    common = {"seed": config.seed, "batch_size": config.train.batch_size}
    if kind == "resident":
        where, data = "on the devices", data.in_memory()
        evaluated = {name: place(data.split(name).images, replicated) for name in evaluated_splits(config)}
        train = resident.to_device(data.train, replicated)
        fetch = functools.partial(resident.fetch_batch, sharding=batch_sharding)
        chosen: ResidentInput | StreamingInput
        chosen = ResidentInput(train, evaluated, **common, replicated=replicated, fetch=fetch)
    else:
        readers = f"{config.data.workers} worker processes" if config.data.workers else "threads"
        where = f"read by {readers} during training"
        chosen = StreamingInput(
            data.train,
            {name: data.split(name).images for name in evaluated_splits(config)},
            **common,
            total_steps=total_steps,
            workers=config.data.workers,
            batch_sharding=batch_sharding,
        )
    size = " x ".join(map(str, data.image_shape[:2])) + (" RGB" if len(data.image_shape) == 3 else " gray")
    return chosen, f"input: {kind} ({reason}); images of {size} pixels, {where}"
