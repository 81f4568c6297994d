"""The network that judges the faces: a trained model through JAX, or an exported file through onnxruntime alone."""

from pathlib import Path
from typing import Protocol

import numpy as np

from fer_jax.errors import InputError


class Classifier(Protocol):
    """What judges faces.

    Attributes:
      class_names: the names of the classes, in order.
      image_shape: of one image, (size, size) for gray or (size, size, 3) for RGB, in pixels.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32 [n, classes] of `images`, uint8 [n, *image_shape]."""


class JaxClassifier:
    """A run, a checkpoint, a model's file or `zoo:NAME`, compiled once: every batch is padded to `batch_size`."""

    def __init__(self, path: str, batch_size: int):
        # Here and not above, so that an exported file needs no JAX.
        from fer_jax.inference.model import TrainedModel
        from fer_jax.inference.temperature import tempered
        from fer_jax.runtime.compile_cache import enable_compile_cache

        enable_compile_cache()
        self._model = TrainedModel(path)
        stored = self._model.stored_temperature()
        self._temper = (lambda found: tempered(found, stored.temperature)) if stored else lambda found: found
        self._batch_size = batch_size
        self.class_names = self._model.class_names
        self.image_shape = self._model.image_shape

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32 [n, classes] of at most `batch_size` images (see `Classifier`)."""
        n = len(images)
        padding = [(0, self._batch_size - n)] + [(0, 0)] * (images.ndim - 1)
        return self._temper(self._model.probabilities(np.pad(images, padding))[:n])


def load_classifier(name: str, batch_size: int) -> Classifier:
    """Return the classifier that `name` stands for: a run's folder, `zoo:NAME`, a .safetensors or an .onnx file.

    Raises `InputError` for what is none of these.
    """
    if Path(name).suffix == ".onnx":
        try:
            from fer_jax.deployment.onnx_model import OnnxModel
        except ModuleNotFoundError as error:
            raise InputError(f"{name}: this version of fer_jax reads no ONNX files; give a run's folder") from error

        return OnnxModel(name)
    return JaxClassifier(name, batch_size)
