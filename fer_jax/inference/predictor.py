"""The forward pass over a whole split: exact for every image, whatever the batch size and the number of devices."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fer_jax.augment import affine
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import padded_batches
from fer_jax.data.streaming import in_order
from fer_jax.runtime import processes
from fer_jax.runtime import sharding as meshes


class Predictor:
    """The compiled forward pass of one network on one mesh.

    `batch_size` is the most images of a batch, rounded up to a multiple of the number of devices, see
    `even_batch_size`; the last batch is filled up, and what the filling gives is dropped. `flip` and `cached` are those
    of `predict_batch`.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        input_size: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        *,
        flip: bool = False,
        cached: bool = False,
    ):
        self._mesh = mesh
        self._batch_size = _round_up(batch_size, mesh.size)
        fixed = {"graphdef": graphdef, "input_size": input_size, "flip": flip, "cached": cached}
        self._split_batch = meshes.split_batch(mesh)
        self._step = jax.jit(
            functools.partial(predict_step, **fixed, batch_sharding=self._split_batch),
            out_shardings=meshes.replicated(mesh),
        )
        self._batch_step = jax.jit(functools.partial(predict_batch, **fixed), out_shardings=meshes.replicated(mesh))
        self._compiled = False

    def __call__(
        self,
        params: dict,
        batch_stats: dict,
        images: jax.Array | np.ndarray | ImageFiles,
        stop: Callable[[], bool] = lambda: False,
    ) -> np.ndarray | None:
        """Logits float32 [n, classes] of `images`, uint8 [n, size, size] or [n, size, size, 3].

        Images on the devices of the mesh are taken from there; an array on the host or files are streamed to them.
        `stop` is asked after each batch; None if it says so before the last one.
        """
        batch_size = even_batch_size(len(images), self._batch_size, self._mesh.size)
        if isinstance(images, jax.Array):
            step = self._step
            batches = ((images, ids) for ids in padded_batches(len(images), batch_size))
        else:
            step = self._batch_step
            batches = ((batch,) for batch in in_order(images, batch_size, self._split_batch))
        first = next(batches)
        if not self._compiled:
            # The call below takes it from JAX's cache. Processes compile at different speeds.
            step.lower(params, batch_stats, *first).compile()
            processes.wait_for_all("has compiled the evaluation")
            self._compiled = True
        steps = (step(params, batch_stats, *batch) for batch in itertools.chain([first], batches))
        logits = []
        upcoming = next(steps)
        for following in steps:
            # One batch ahead of the one that is waited for, so that the devices never wait.
            current, upcoming = upcoming, following
            logits.append(np.asarray(current))
            if stop():
                return None
        logits.append(np.asarray(upcoming))
        return np.concatenate(logits)[: len(images)]

    def each(
        self,
        params: dict,
        batch_stats: dict,
        splits: Mapping[str, jax.Array | np.ndarray | ImageFiles],
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, np.ndarray] | None:
        """The logits of each of `splits`, by name; None if `stop` says so before the last batch of any of them."""
        logits = {}
        for name, images in splits.items():
            found = self(params, batch_stats, images, stop)
            if found is None:
                return None
            logits[name] = found
        return logits


def even_batch_size(num_images: int, most: int, multiple: int) -> int:
    """The smallest multiple of `multiple` for which `num_images` still fit into as few batches as of `most` images.

    So little of the last batch is filling: FER2013's 3,589 images at 256 a batch take 15 batches, of 240.
    """
    batches = max(1, -(-num_images // most))
    return _round_up(-(-num_images // batches), multiple)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def predict_batch(
    params: dict,
    batch_stats: dict,
    images: jax.Array,
    *,
    graphdef: nnx.GraphDef,
    input_size: int,
    flip: bool = False,
    cached: bool = False,
) -> jax.Array:
    """Logits float32 [batch, classes] of `images`, uint8 [batch, size, size] or [batch, size, size, 3].

    With `cached` they are features [batch, num_features] instead (`cached_features`). With `flip` the logits are
    logarithms of probabilities, the mean of those of each image and of its mirror image.
    """
    model = nnx.merge(graphdef, params, batch_stats)
    if cached:
        return model.classifier(images)
    inputs = affine.resize(images, input_size)
    logits = model(inputs, train=False)
    if not flip:
        return logits
    mirrored = model(inputs[:, :, ::-1], train=False)
    return jnp.logaddexp(jax.nn.log_softmax(logits), jax.nn.log_softmax(mirrored)) - math.log(2)


def predict_step(
    params: dict,
    batch_stats: dict,
    images: jax.Array,
    ids: jax.Array,
    *,
    batch_sharding: jax.sharding.Sharding,
    **fixed,
) -> jax.Array:
    """`predict_batch` of `images[ids]`, where `images` live on the devices; rows with id -1 are filling."""
    ids = jax.lax.with_sharding_constraint(ids, batch_sharding)
    return predict_batch(params, batch_stats, images[jnp.maximum(ids, 0)], **fixed)
