"""The network that judges the faces: a trained model through JAX, or an exported file."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from fer_jax.runtime.user_path import input_path
from fer_jax.storage.bucket import is_bucket


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


@runtime_checkable
class Explains(Protocol):
    """A classifier that can also tell where it looks."""

    def explain(self, image: np.ndarray, class_name: str) -> np.ndarray:
        """Return the Grad-CAM of a class in `image`, uint8 `image_shape`: float32 [size, size] from 0 to 1.

        Raises `InputError` for an unknown class.
        """


class JaxClassifier:
    """A run, a checkpoint, a model's file or `zoo:NAME`, compiled once: every batch is padded to `batch_size`."""

    def __init__(self, path: str, batch_size: int):
        # Here and not above, so that an exported file needs no JAX.
        from fer_jax.inference.model import TrainedModel
        from fer_jax.inference.temperature import tempered
        from fer_jax.runtime.compile_cache import enable_compile_cache
        from fer_jax.runtime.jax_environment import prepare_jax

        prepare_jax()
        enable_compile_cache()
        self._model = TrainedModel(path)
        stored = self._model.stored_temperature()
        self._temper = (lambda found: tempered(found, stored.temperature)) if stored else lambda found: found
        self._batch_size = batch_size
        self.class_names = self._model.class_names
        self.image_shape = self._model.image_shape

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32 [n, classes] of at most `batch_size` images (see `Classifier`)."""
        return self._temper(self._model.probabilities(_padded(images, self._batch_size))[: len(images)])

    def explain(self, image: np.ndarray, class_name: str) -> np.ndarray:
        """Return the Grad-CAM of a class (see `Explains`)."""
        return self._model.explain(image, class_name)


class StablehloClassifier:
    """A StableHLO file of `fer-jax export`, through JAX alone; compiled once, as `JaxClassifier` is."""

    def __init__(self, path: str, batch_size: int):
        from fer_jax.deployment.stablehlo import StablehloModel
        from fer_jax.runtime.compile_cache import enable_compile_cache
        from fer_jax.runtime.jax_environment import prepare_jax

        prepare_jax()
        enable_compile_cache()
        self._model = StablehloModel(path)
        self._batch_size = batch_size
        self.class_names = self._model.class_names
        self.image_shape = self._model.image_shape

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32 [n, classes] of at most `batch_size` images (see `Classifier`)."""
        return self._model.predict(_padded(images, self._batch_size), self._batch_size)[: len(images)]


def _padded(images: np.ndarray, number: int) -> np.ndarray:
    return np.pad(images, [(0, number - len(images))] + [(0, 0)] * (images.ndim - 1))


def load_classifier(name: str, batch_size: int) -> Classifier:
    """Return the classifier that `name` stands for.

    It is a run's folder, `zoo:NAME`, a model's file (.safetensors), or an exported file (.onnx or .stablehlo), of which
    an .onnx file needs onnxruntime and no JAX.

    Raises `InputError` for what is none of these.
    """
    suffix = Path(name).suffix
    if is_bucket(name) and suffix in (".stablehlo", ".onnx"):
        name = str(input_path(name, f"{name}:"))
    if suffix == ".stablehlo":
        return StablehloClassifier(name, batch_size)
    if suffix == ".onnx":
        from fer_jax.deployment.onnx_model import OnnxModel

        return OnnxModel(name)
    return JaxClassifier(name, batch_size)
