"""A trained network, rebuilt from its checkpoint alone."""

import copy
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fer_jax.data.image_files import ImageFiles
from fer_jax.data.input_choice import RESIDENT_LIMIT
from fer_jax.errors import InputError, nearest
from fer_jax.inference.explanation import class_activation
from fer_jax.inference.given_images import given_images
from fer_jax.inference.predictor import Predictor, image_features, predict_images
from fer_jax.inference.temperature import softmax, tempered
from fer_jax.models.build import model_spec
from fer_jax.runs.temperature import StoredTemperature, read_temperature, store_temperature
from fer_jax.runtime import sharding as meshes
from fer_jax.runtime.jax_environment import usual_numerics
from fer_jax.storage.bucket import BucketPath
from fer_jax.training.state import model_definition
from fer_jax.zoo.model_file import ModelFile
from fer_jax.zoo.saved import open_saved

Images = np.ndarray | ImageFiles | Image.Image | str | os.PathLike | Sequence
"""What a model takes, see `fer_jax.inference.given_images`."""


class TrainedModel:
    """A model rebuilt from a checkpoint alone: its weights, and the record of how it came to be.

    `path` is what `open_saved` takes.

    Attributes:
      record: what the checkpoint tells of itself, with the `description` of its run.
      config: the config it was trained with.
      class_names: the names of its outputs, in order.
      image_shape: (size, size) if it was trained on gray images, (size, size, 3) if on RGB, in pixels.
      spec: the shapes and the computation of its network.
    """

    def __init__(self, path: str | Path | BucketPath):
        self._path = path
        self._saved = saved = open_saved(path)
        self.record = saved.record
        description = saved.record.description
        self.config: ConfigDict = description.parsed_config()
        self.class_names = description.class_names
        self.image_shape = description.data.image_shape
        backbones = [backbone.spec for backbone in description.backbones]
        self._mesh = meshes.make_mesh()
        self.spec = model_spec(self.config, backbones, len(self.class_names))
        self._graphdef, *model = model_definition(self.spec, meshes.replicated(self._mesh))
        self._params, self._batch_stats = saved.restore(*model)
        self._predictors: dict[tuple[bool, int], Predictor] = {}

    def run_history(self) -> list[dict]:
        """Return the epochs of the whole run (see `fer_jax.runs.checkpoint.SavedModel.run_history`)."""
        return self._saved.run_history()

    def stored_temperature(self) -> StoredTemperature | None:
        """Return the temperature stored with this model, or None (see `fer_jax.inference.temperature`)."""
        return self._saved.temperature if isinstance(self._saved, ModelFile) else read_temperature(self._saved)

    def store_temperature(self, found: StoredTemperature) -> None:
        """Store `found` with this checkpoint; raise `OSError` where its folder cannot be written.

        A model in one file stays as it is.
        """
        if not isinstance(self._saved, ModelFile):
            store_temperature(self._saved, found)

    def with_weights_of(self, saved: ModelFile) -> "TrainedModel":
        """Return the same network with the weights of `saved`, which is not compiled anew."""
        other = copy.copy(self)
        other._path, other._saved = saved.path, saved
        other.record, other.config = saved.record, saved.record.description.parsed_config()
        other._params, other._batch_stats = saved.restore(self._params, self._batch_stats)
        return other

    def weights(self) -> tuple[dict, dict]:
        """Return the parameters and the running statistics, nested dicts of float32 arrays on the devices."""
        return self._params, self._batch_stats

    def provenance(self) -> dict[str, str | int]:
        """Where the model comes from, for a report: data, resolution, weights, seed, and who selected the epoch."""
        record = self.record
        description, best = record.description, record.best
        selected = "none, before the end of the first"
        if best is not None:
            selected = f"epoch {best.epoch}, by accuracy on {description.split_roles[description.selected_on]}"
        return {
            "checkpoint": f"{self._path}, epoch {record.epoch} of {self.config.train.epochs}, step {record.step}",
            "epoch selected": selected,
            "networks": " + ".join(backbone.name for backbone in description.backbones),
            "initial weights": ", ".join(backbone.initial_weights for backbone in description.backbones),
            "resolution": f"{self.config.model.input_size} x {self.config.model.input_size} pixels",
            "seed": self.config.seed,
            "training data": f"{description.data.source}, {description.data.images['train']:,} images",
            "training data fingerprint": description.data.fingerprint,
            "fer_jax": description.fer_jax,
        }

    @usual_numerics()
    def predict(self, images: Images) -> np.ndarray:
        """Return the probabilities float32 [n, classes] of `images`, in the order of `class_names`.

        They are calibrated where a temperature is stored with the model, and without an image [0, classes]. Few
        numbers of images are compiled for: batches are padded to 1, 4, 16, ... up to `config.eval.batch_size`.

        Args:
          images: uint8 [h, w], [h, w, 1], [h, w, 3], [n, h, w], [n, h, w, 1] or [n, h, w, 3], a PIL image, the path of
            an image file, or a list of single ones (see `fer_jax.inference.given_images`), of any size and colour.

        Raises:
          InputError: for what is none of these, such as floats, or an image that cannot be read.
        """
        found = self._by_batch(self.probabilities, images, len(self.class_names))
        stored = self.stored_temperature()
        return tempered(found, stored.temperature) if stored else found

    @usual_numerics()
    def features(self, images: Images) -> np.ndarray:
        """Return what enters the classifier: the pooled features of all backbones, float32 [n, features].

        Those of a hybrid's backbones follow one another in the alphabetical order of their names, as `nnx.merge` has
        them. `images` as in `predict`; `config.eval.flip` has no part in it.
        """

        def features(batch: np.ndarray) -> np.ndarray:
            found = self._feature_predictor(self._params, self._batch_stats, self._on_devices(batch))
            assert found is not None  # nothing asks it to stop
            return found

        return self._by_batch(features, images, self.spec.num_features)

    @usual_numerics()
    def explain(self, image: Images, class_name: str | None = None) -> np.ndarray:
        """Return where in an image the model sees a class: Grad-CAM, float32 [size, size] from 0 to 1.

        The map lies over the image as the model is given it: the largest centred square, `image_shape[:2]` pixels. A
        hybrid's is the mean of the maps of its backbones (see `fer_jax.inference.explanation`).

        Args:
          image: one image, as in `predict`.
          class_name: the class; by default the one that the model predicts.

        Raises:
          InputError: for other than one image, or an unknown class.
        """
        given = given_images(image, self.image_shape)
        if len(given) != 1:
            raise InputError(f"explain takes one image, found {len(given)}")
        if class_name is not None and class_name not in self.class_names:
            known = f"expected one of {', '.join(self.class_names)}{nearest(class_name, self.class_names)}"
            raise InputError(f"{class_name}: no class of this model, {known}")
        label = -1 if class_name is None else self.class_names.index(class_name)
        (batch,) = given.batches(1)
        return np.asarray(self._class_activation(self._params, self._batch_stats, self._on_devices(batch), label))

    @usual_numerics()
    def probabilities(self, images: Images) -> np.ndarray:
        """Return the probabilities float32 [n, classes] of a split, as an evaluation has them: without a temperature.

        `images` are those of a data set, or what `predict` takes; here each number of images is compiled for. More
        than `RESIDENT_LIMIT` bytes, and `ImageFiles`, are streamed to the devices.
        """
        if not isinstance(images, ImageFiles):
            given = given_images(images, self.image_shape)
            if not len(given):
                return np.empty((0, len(self.class_names)), np.float32)
            (images,) = given.batches(len(given))
        batch: Any = images
        if isinstance(images, np.ndarray) and images.nbytes <= RESIDENT_LIMIT:
            batch = self._on_devices(images)
        logits = self._predictor()(self._params, self._batch_stats, batch)
        assert logits is not None  # nothing asks it to stop
        return softmax(logits)

    def _predictor(self) -> Predictor:
        """The predictor by `config.eval`, which is kept: images of one number are compiled for once."""
        flip, batch_size = self.config.eval.flip, self.config.eval.batch_size
        if (flip, batch_size) not in self._predictors:
            size = self.config.model.input_size
            forward = functools.partial(predict_images, graphdef=self._graphdef, input_size=size, flip=flip)
            self._predictors[flip, batch_size] = Predictor(forward, batch_size, self._mesh)
        return self._predictors[flip, batch_size]

    @functools.cached_property
    def _feature_predictor(self) -> Predictor:
        size = self.config.model.input_size
        forward = functools.partial(image_features, graphdef=self._graphdef, input_size=size)
        return Predictor(forward, self.config.eval.batch_size, self._mesh)

    @functools.cached_property
    def _class_activation(self) -> Callable[..., jax.Array]:
        sizes = {"input_size": self.config.model.input_size, "output_size": self.image_shape[0]}
        return jax.jit(functools.partial(class_activation, graphdef=self._graphdef, **sizes))

    def _on_devices(self, images: np.ndarray) -> jax.Array:
        return jax.device_put(images, meshes.replicated(self._mesh))

    def _by_batch(self, function: Callable[[np.ndarray], np.ndarray], images: Images, width: int) -> np.ndarray:
        """Return `function`, which gives [n, width] of [n, *image_shape], of all `images`, by padded batches."""
        most = self.config.eval.batch_size
        rows = [np.empty((0, width), np.float32)]
        for batch in given_images(images, self.image_shape).batches(most):
            padding = [(0, padded_number(len(batch), most) - len(batch))] + [(0, 0)] * (batch.ndim - 1)
            rows.append(function(np.pad(batch, padding))[: len(batch)])
        return np.concatenate(rows)


def load(path: str | Path) -> TrainedModel:
    """Return a trained model, to predict with.

    Args:
      path: what `open_saved` takes: a run's folder, a checkpoint in it, `zoo:NAME`, or a model's file.

    Raises:
      InputError: there is no such model, or it is damaged.
    """
    return TrainedModel(path)


def padded_number(number: int, most: int) -> int:
    """Return the least power of 4 that is at least `number`, or `most` where that is less."""
    padded = 1
    while padded < number:
        padded *= 4
    return min(padded, most)
