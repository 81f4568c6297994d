"""A trained network, rebuilt from its checkpoint alone."""

import copy
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from ml_collections import ConfigDict

from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import RESIDENT_LIMIT
from fer_jax.inference.predictor import Predictor, predict_images
from fer_jax.models.build import model_spec
from fer_jax.runs.temperature import StoredTemperature, read_temperature, store_temperature
from fer_jax.runtime import sharding as meshes
from fer_jax.training.state import model_definition
from fer_jax.zoo import shipped
from fer_jax.zoo.model_file import ModelFile, read_model_file

if TYPE_CHECKING:
    from fer_jax.runs.checkpoint import SavedModel


class TrainedModel:
    """A model rebuilt from a checkpoint alone: its weights, and the record of how it came to be.

    `path` is what `open_saved` takes.

    Attributes:
      record: what the checkpoint tells of itself, with the `description` of its run.
      config: the config it was trained with.
      class_names: the names of its outputs, in order.
      image_shape: (size, size) if it was trained on gray images, (size, size, 3) if on RGB, in pixels.
    """

    def __init__(self, path: str | Path):
        self._path = path
        self._saved = saved = open_saved(path)
        self.record = saved.record
        description = saved.record.description
        self.config: ConfigDict = description.parsed_config()
        self.class_names = description.class_names
        self.image_shape = description.data.image_shape
        backbones = [backbone.spec for backbone in description.backbones]
        self._mesh = meshes.make_mesh()
        spec = model_spec(self.config, backbones, len(self.class_names))
        self._graphdef, *model = model_definition(spec, meshes.replicated(self._mesh))
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

    def probabilities(self, images: np.ndarray | ImageFiles) -> np.ndarray:
        """Class probabilities float32 [n, classes] of images uint8 [n, size, size] or [n, size, size, 3].

        Images of any size are resized to the model's input as in training, by bilinear interpolation without a
        filter: bring much larger ones to `image_shape` before (`fer_jax.data.image_files.decode`). RGB images become
        gray for a model that was trained on gray ones; gray ones are seen as RGB with three equal channels. More than
        `RESIDENT_LIMIT` bytes, and files, are streamed to the devices.
        """
        if isinstance(images, np.ndarray) and images.ndim > len(self.image_shape) + 1:
            images = _gray(images)
        if isinstance(images, np.ndarray) and images.nbytes <= RESIDENT_LIMIT:
            images = jax.device_put(images, meshes.replicated(self._mesh))
        return np.asarray(jax.nn.softmax(self._predictor()(self._params, self._batch_stats, images), axis=-1))

    def _predictor(self) -> Predictor:
        """The predictor by `config.eval`, which is kept: images of one number are compiled for once."""
        flip, batch_size = self.config.eval.flip, self.config.eval.batch_size
        if (flip, batch_size) not in self._predictors:
            size = self.config.model.input_size
            forward = functools.partial(predict_images, graphdef=self._graphdef, input_size=size, flip=flip)
            self._predictors[flip, batch_size] = Predictor(forward, batch_size, self._mesh)
        return self._predictors[flip, batch_size]


def open_saved(path: str | Path) -> "SavedModel | ModelFile":
    """Open what `path` names: a run's folder or a checkpoint in it, a shipped model as `zoo:NAME`, or a model's file.

    Raises `InputError` if there is no such model, or if it is damaged.
    """
    if str(path).startswith(shipped.PREFIX):
        return read_model_file(shipped.shipped_file(str(path)))
    if Path(path).suffix == ".safetensors":
        return read_model_file(Path(path))
    # Orbax takes a second to import: a model in one file does without.
    from fer_jax.runs.checkpoint import find_model

    return find_model(path)


def _gray(images: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of RGB images, uint8 [n, h, w], rounded as Pillow does when a file is read as gray."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
