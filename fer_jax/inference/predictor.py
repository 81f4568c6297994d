"""The forward pass over a whole split: exact for every image, whatever the batch size and the number of devices."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fer_jax.augment import affine
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import padded_batches
from fer_jax.runtime import processes
from fer_jax.runtime import sharding as meshes

if TYPE_CHECKING:
    from fer_jax.training.program import TrainProgram

Forward = Callable[[dict, dict, jax.Array], jax.Array]
"""Logits float32 [batch, classes] from parameters, running statistics and a batch of images or features."""


class Predictor:
    """The compiled forward pass of one network on one mesh.

    `batch_size` is the most images of a batch, rounded up to a multiple of the number of devices, see
    `even_batch_size`; the last batch is padded, and the logits of the padding are dropped. `before_compile` is called
    before each compilation: for a watchdog.
    """

    def __init__(
        self,
        forward: Forward,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        *,
        before_compile: Callable[[], None] = lambda: None,
    ):
        self._mesh = mesh
        self._batch_size = _round_up(batch_size, mesh.size)
        self._before_compile = before_compile
        self._split_batch = meshes.split_batch(mesh)
        rows = functools.partial(predict_rows, forward, sharding=self._split_batch)
        self._row_step = jax.jit(rows, out_shardings=meshes.replicated(mesh))
        self._batch_step = jax.jit(forward, out_shardings=meshes.replicated(mesh))
        self._compiled: dict[tuple, jax.stages.Compiled] = {}

    @classmethod
    def of_program(cls, program: "TrainProgram", before_compile: Callable[[], None] = lambda: None) -> "Predictor":
        """Return the predictor of a run: of its network, or of its classifier where its features are cached."""
        config = program.config
        if config.train.cached_views:
            forward = functools.partial(predict_features, graphdef=program.graphdef)
        else:
            size, flip = config.model.input_size, config.eval.flip
            forward = functools.partial(predict_images, graphdef=program.graphdef, input_size=size, flip=flip)
        return cls(forward, config.eval.batch_size, program.mesh, before_compile=before_compile)

    def __call__(
        self,
        params: dict,
        batch_stats: dict,
        images: jax.Array | np.ndarray | ImageFiles,
        stop: Callable[[], bool] = lambda: False,
    ) -> np.ndarray | None:
        """Return the logits, float32 [n, classes], of `images`, uint8 [n, size, size] or [n, size, size, 3].

        Images on the devices of the mesh are taken from there; an array on the host or files are streamed to them.
        `stop` is asked after each batch; None if it says so before the last one.
        """
        batch_size = even_batch_size(len(images), self._batch_size, self._mesh.size)
        if isinstance(images, jax.Array):
            step = self._row_step
            indices = padded_batches(len(images), batch_size)
            batches: Iterator[tuple[jax.Array, ...]] = ((images, ids) for ids in indices)
        else:
            # Grain, which streams, takes a second to import: a prediction of few images does without.
            from fer_jax.data.streaming import in_order

            step = self._batch_step
            batches = ((batch,) for batch in in_order(images, batch_size, self._split_batch))
        first = next(batches)
        compiled = self._compile(step, params, batch_stats, first)
        steps = (compiled(params, batch_stats, *batch) for batch in itertools.chain([first], batches))
        logits: list[np.ndarray] = []
        upcoming = next(steps)
        for following in steps:
            # One batch ahead of the one that is waited for, so that the devices never wait.
            current, upcoming = upcoming, following
            logits.append(np.asarray(current))
            if stop():
                return None
        logits.append(np.asarray(upcoming))
        return np.concatenate(logits)[: len(images)]

    def _compile(self, step: jax.stages.Wrapped, params: dict, batch_stats: dict, batch: tuple) -> jax.stages.Compiled:
        """Return `step`, compiled for batches like `batch`, once for each shape."""
        shape = tuple((array.shape, array.dtype) for array in batch)
        if shape not in self._compiled:
            self._before_compile()
            self._compiled[shape] = step.lower(params, batch_stats, *batch).compile()
            # Processes compile at different speeds.
            processes.wait_for_all(f"has compiled the evaluation {len(self._compiled)}")
        return self._compiled[shape]

    def each(
        self,
        params: dict,
        batch_stats: dict,
        splits: Mapping[str, jax.Array | np.ndarray | ImageFiles],
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, np.ndarray] | None:
        """Return the logits of `splits` by name; None if `stop` says so before the last batch of any of them."""
        logits = {}
        for name, images in splits.items():
            found = self(params, batch_stats, images, stop)
            if found is None:
                return None
            logits[name] = found
        return logits


def even_batch_size(num_images: int, most: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that needs no more batches for `num_images` than `most` images each.

    So little of the last batch is padding: FER2013's 3,589 images at 256 a batch take 15 batches, of 240.
    """
    batches = max(1, -(-num_images // most))
    return _round_up(-(-num_images // batches), multiple)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def predict_images(
    params: dict,
    batch_stats: dict,
    images: jax.Array,
    *,
    graphdef: nnx.GraphDef,
    input_size: int,
    flip: bool = False,
) -> jax.Array:
    """Return the logits, float32 [batch, classes], of `images`, uint8 [batch, size, size] or [batch, size, size, 3].

    With `flip` the logits are logarithms of probabilities, the mean of those of each image and of its mirror image.
    """
    model = nnx.merge(graphdef, params, batch_stats)
    inputs = affine.resize(images, input_size)
    # Compiled as one, the two calls are traced once.
    forward = jax.jit(lambda inputs: model(inputs, train=False))
    logits = forward(inputs)
    if not flip:
        return logits
    mirrored = forward(inputs[:, :, ::-1])
    return jnp.logaddexp(jax.nn.log_softmax(logits), jax.nn.log_softmax(mirrored)) - math.log(2)


def image_features(
    params: dict, batch_stats: dict, images: jax.Array, *, graphdef: nnx.GraphDef, input_size: int
) -> jax.Array:
    """Return the features that enter the classifier, float32 [batch, num_features], of `images` (`predict_images`)."""
    model = nnx.merge(graphdef, params, batch_stats)
    return model.features(affine.resize(images, input_size)).astype(jnp.float32)


def predict_features(params: dict, batch_stats: dict, features: jax.Array, *, graphdef: nnx.GraphDef) -> jax.Array:
    """Return the logits, float32 [batch, classes], of cached features, [batch, num_features]."""
    return nnx.merge(graphdef, params, batch_stats).classifier(features)


def predict_rows(
    forward: Forward,
    params: dict,
    batch_stats: dict,
    images: jax.Array,
    ids: jax.Array,
    *,
    sharding: jax.sharding.Sharding,
) -> jax.Array:
    """Return `forward` of `images[ids]`, where `images` live on the devices; an id of -1 is padding."""
    ids = jax.lax.with_sharding_constraint(ids, sharding)
    return forward(params, batch_stats, images[jnp.maximum(ids, 0)])
