"""Features of a frozen backbone, computed once: a run that trains the classifier alone then pays for nothing else.

`config.train.cached_views` views of every training image, each augmented in its own way, go through the backbones
before the first step, and the images of the splits that are evaluated go through them once, not augmented. In each
epoch an example shows the next of its views, beginning at one that its row id decides, so that a batch has all of them.

This is not quite the paper's procedure, in which every step augments anew: K views are all that there are.
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from fer_jax.augment import affine
from fer_jax.augment.keys import augmentation_keys
from fer_jax.data.dataset import Dataset, Split
from fer_jax.data.inputs import ResidentInput, evaluated_splits
from fer_jax.data.resident import Batch, padded_batches
from fer_jax.data.streaming import in_order
from fer_jax.errors import InputError
from fer_jax.models.fernet import FerNet
from fer_jax.params.trainable import TrainableTable
from fer_jax.runtime import sharding as meshes
from fer_jax.runtime.sharding import place

_KEY = "config.train.cached_views"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureViews:
    """The features of a training split on the devices, which share the columns out.

    `features` [views, rows, columns]: rows beyond the split and columns beyond `num_features` are padding. `labels`,
    `row_ids` and `targets` as in `Split`, whole on every device.
    """

    features: jax.Array
    labels: jax.Array
    row_ids: jax.Array
    num_features: int = dataclasses.field(metadata={"static": True})
    targets: jax.Array | None = None

    def take(self, ids: jax.Array, epoch: jax.Array, sharding: NamedSharding) -> Batch:
        """Return the examples at the indices `ids`, int32 [m], as of `epoch` (from 0), features in place of images.

        `ids` are whole on every device; the batch is split by `sharding`.
        """
        row_ids = self.row_ids[ids]
        view = (row_ids + epoch) % self.features.shape[0]
        # Each device looks up its columns of the whole batch, and only these travel; without saying so the compiler
        # lets the whole table travel in every step.
        by_columns = NamedSharding(sharding.mesh, PartitionSpec(None, meshes.DATA_AXIS))
        features = jax.lax.with_sharding_constraint(self.features[view, ids], by_columns)
        batch = Batch(features, self.labels[ids], row_ids, None if self.targets is None else self.targets[ids])
        batch = jax.lax.with_sharding_constraint(batch, sharding)
        return dataclasses.replace(batch, images=batch.images[:, : self.num_features])


def fetch_features(step: jax.Array, data: FeatureViews, order: jax.Array, *, sharding: NamedSharding) -> Batch:
    """Return the batch of step `step` with features in place of images; see `fer_jax.data.resident.fetch_batch`."""
    steps = order.shape[0]
    return data.take(order[step % steps], step // steps, sharding)


def features_as_they_are(batch: Batch, seed: jax.Array | int, step: jax.Array) -> jax.Array:
    """Return the features of a batch, which are those of augmented images already."""
    return batch.images


def classify_features(model: FerNet, features: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None):
    """Return the logits of features: what is left of the network where these are cached."""
    return model.classifier(features, train=train, rngs=rngs)


def check_cached_views(config: ConfigDict, table: TrainableTable) -> None:
    """Raise `InputError` if `config` asks for cached features where they would not be those of the network.

    That is, where a backbone trains by `table`, or where images are mixed or mirrored between backbone and classifier.
    """
    views = config.train.cached_views
    if not views:
        return
    trained = next((path for path in table.row_of if path[0] == "backbones" and table.ever_trains(path)), None)
    if trained:
        raise InputError(
            f"{_KEY}={views}: {'/'.join(map(str, trained))} trains ({table.row_of[trained].text!r}), and features can "
            "only be cached where no backbone does; set it to 0, or let config.train.parameters say "
            "'backbones/**: freeze'"
        )
    for key, value, off in (
        ("train.mixup_alpha", config.train.mixup_alpha, 0.0),
        ("eval.flip", config.eval.flip, False),
    ):
        if value:
            raise InputError(
                f"{_KEY}={views} and config.{key}={value}: cached features leave no images for it; set {key} to {off}"
            )


def cached_input(
    config: ConfigDict,
    data: Dataset,
    params: dict,
    batch_stats: dict,
    graphdef: nnx.GraphDef,
    mesh: jax.sharding.Mesh,
    beat: Callable[[], None],
) -> tuple[ResidentInput, str]:
    """Return the input of a run with cached features, computed here, and one line with their number and size.

    Args:
      config: of the run; the views are augmented by `config.augment`, with keys of (seed, view, row id).
      data: the splits, in memory or in files; they are read once for each view, whatever `config.data.input` says.
      params: of the network, on the devices of `mesh`.
      batch_stats: its running statistics.
      graphdef: its definition.
      mesh: whose devices share the work and the features.
      beat: called after each batch, for a watchdog.
    """
    start = time.monotonic()
    replicated = meshes.replicated(mesh)
    extractor = _Extractor(config, params, batch_stats, graphdef, mesh, beat)
    features, num_features = extractor(data.train, views=config.train.cached_views)
    labels, row_ids = (place(array, replicated) for array in (data.train.labels, data.train.row_ids))
    targets = None if data.train.targets is None else place(data.train.targets, replicated)
    train = FeatureViews(features, labels, row_ids, num_features, targets)
    evaluated = {}
    for name in evaluated_splits(config):
        found, _ = extractor(data.split(name), views=0)
        n = len(data.split(name))
        evaluated[name] = jax.jit(lambda x, n=n: x[0, :n, :num_features], out_shardings=replicated)(found)
    text = (
        f"input: {num_features} cached features ({features.dtype}) of {config.train.cached_views} views of each of "
        f"{len(data.train):,} training images, {features.nbytes / 2**20:,.1f} MiB shared by {mesh.size} devices; each "
        f"epoch shows an image's next view; computed in {time.monotonic() - start:.0f} s"
    )
    order_of = {"seed": config.seed, "batch_size": config.train.batch_size}
    fetch = functools.partial(fetch_features, sharding=meshes.split_batch(mesh))
    return ResidentInput(train, evaluated, **order_of, replicated=replicated, fetch=fetch), text


class _Extractor:
    """Backbones that compute features in evaluation mode, in batches of `config.eval.batch_size`."""

    def __init__(self, config, params, batch_stats, graphdef, mesh, beat):
        self._config, self._graphdef, self._mesh, self._beat = config, graphdef, mesh, beat
        self._model = params, batch_stats
        self._by_columns = NamedSharding(mesh, PartitionSpec(None, None, meshes.DATA_AXIS))
        self._fill = jax.jit(
            self._filled, donate_argnums=0, out_shardings=self._by_columns, static_argnames="augmented"
        )

    def __call__(self, split: Split, views: int) -> tuple[jax.Array, int]:
        """Return features [max(views, 1), rows, columns], padded at both ends, and the number of unpadded columns.

        0 views: one, not augmented.
        """
        devices = self._mesh.size
        batch_size = -(-min(self._config.eval.batch_size, len(split)) // devices) * devices
        batches = padded_batches(len(split), batch_size)
        image = jax.ShapeDtypeStruct((1, *split.images.shape[1:]), np.uint8)
        size = self._config.model.input_size
        one = jax.eval_shape(lambda x: self._features(*self._model, affine.resize(x, size)), image)
        num_features = one.shape[1]
        shape = (max(views, 1), batches.size, -(-num_features // devices) * devices)
        dtype = jnp.dtype(self._config.model.dtype)
        buffer = jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=self._by_columns)()
        split_batch = meshes.split_batch(self._mesh)
        for view in range(shape[0]):
            for i, images in enumerate(in_order(split.images, batch_size, split_batch)):
                row_ids = place(split.row_ids[np.maximum(batches[i], 0)], split_batch)
                at = np.array([view, i * batch_size], np.int32)
                buffer = self._fill(buffer, *self._model, images, row_ids, at, augmented=views > 0)
                # Otherwise every batch would wait on the devices at once.
                jax.block_until_ready(buffer)
                self._beat()
        return buffer, num_features

    def _features(self, params, batch_stats, images):
        return nnx.merge(self._graphdef, params, batch_stats).features(images)

    def _filled(self, buffer, params, batch_stats, images, row_ids, at, *, augmented):
        size = self._config.model.input_size
        if augmented:
            # The view stands for the step.
            keys = augmentation_keys(self._config.seed, at[0], row_ids)
            inputs = affine.augment(images, keys, affine.Augmentation(**self._config.augment), size)
        else:
            inputs = affine.resize(images, size)
        features = self._features(params, batch_stats, inputs).astype(buffer.dtype)
        columns = buffer.shape[2] - features.shape[1]
        return jax.lax.dynamic_update_slice(buffer, jnp.pad(features, ((0, 0), (0, columns)))[None], (at[0], at[1], 0))
