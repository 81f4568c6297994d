"""A trained network, rebuilt from its checkpoint alone."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from fer_jax.config.loading import from_json
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import RESIDENT_LIMIT
from fer_jax.inference.predictor import Predictor
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES
from fer_jax.runs.checkpoint import find_model
from fer_jax.runtime import sharding as meshes
from fer_jax.training.state import model_definition


class TrainedModel:
    """A model rebuilt from a checkpoint alone: its weights, and the record of how it came to be.

    Attributes:
      record: what the checkpoint tells of itself (see `fer_jax.runs.folder.describe`).
      config: the config it was trained with.
      class_names: the names of its outputs, in order.
      image_shape: (size, size) if it was trained on gray images, (size, size, 3) if on RGB, in pixels.
    """

    def __init__(self, path: str | Path):
        self._path = path
        saved = find_model(path)
        self.record = saved.record
        self.config: ConfigDict = from_json(self.record["config"])
        self.class_names: tuple[str, ...] = tuple(self.record["class_names"])
        self.image_shape: tuple[int, ...] = tuple(self.record["data"]["image_shape"])
        backbones = [BACKBONES[variant["name"]].with_variant(variant) for variant in self.record["backbones"]]
        self._mesh = meshes.make_mesh()
        spec = model_spec(self.config, backbones, len(self.class_names))
        self._graphdef, *model = model_definition(spec, meshes.replicated(self._mesh))
        self._params, self._batch_stats = saved.restore(*model)

    def provenance(self) -> dict[str, str | int]:
        """Where the model comes from, for a report: data, resolution, weights, seed, and who selected the epoch."""
        record, best = self.record, self.record["best"]
        selected = "none, before the end of the first"
        if best is not None:
            selected = f"epoch {best['epoch']}, by accuracy on {record['split_roles'][record['selected_on']]}"
        return {
            "checkpoint": f"{self._path}, epoch {record['epoch']} of {self.config.train.epochs}, step {record['step']}",
            "epoch selected": selected,
            "networks": " + ".join(backbone["name"] for backbone in record["backbones"]),
            "initial weights": ", ".join(backbone["initial_weights"] for backbone in record["backbones"]),
            "resolution": f"{self.config.model.input_size} x {self.config.model.input_size} pixels",
            "seed": self.config.seed,
            "training data": f"{record['data']['source']}, {record['data']['images']['train']:,} images",
            "training data fingerprint": record["data"]["fingerprint"],
            "fer_jax": record["fer_jax"],
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
        evaluation = self.config.eval
        predictor = Predictor(
            self._graphdef, self.config.model.input_size, evaluation.batch_size, self._mesh, flip=evaluation.flip
        )
        return np.asarray(jax.nn.softmax(predictor(self._params, self._batch_stats, images), axis=-1))


def _gray(images: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of RGB images, uint8 [n, h, w], rounded as Pillow does when a file is read as gray."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
