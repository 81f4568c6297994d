"""Use an exported ONNX file with onnxruntime alone: nothing here imports JAX."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fer_jax.deployment.metadata import ExportMetadata, decode_metadata
from fer_jax.errors import InputError, first_line

_ADVICE = "expected a file written by fer-jax export --format=onnx"


class OnnxModel:
    """A network from an ONNX file of `fer-jax export`, on the CPU.

    Attributes:
      metadata: all that the file says of itself.
      class_names: the names of its outputs, in order.
      image_size: (height, width) of the images that it takes, in pixels.
      image_shape: `image_size`, with a 3 at the end where it takes RGB.

    Raises `InputError` if onnxruntime is not installed, or if the file is missing, damaged, or of another kind or
    version.
    """

    def __init__(self, path: str | Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(f"{path}: needs onnxruntime; pip install 'fer_jax[onnx]'") from error
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; {_ADVICE}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # Errors: what is wrong with a file is said by the exception.
        options.intra_op_num_threads = _usable_cores()
        with _readable(path):
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.metadata: ExportMetadata = decode_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.class_names = self.metadata.class_names
        self.image_size = self.metadata.input_size
        self.image_shape = self.metadata.image_shape
        self._check_interface(path)

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Return class probabilities float32 [n, classes] of `images`, uint8 [n, *image_shape].

        At most `batch_size` images are computed at once, for the sake of memory. Raises `InputError` for an array of
        another shape or dtype.
        """
        images = check_images(images, self.image_shape)
        starts = range(0, max(len(images), 1), batch_size)
        batches = (self._session.run(None, {"images": images[start : start + batch_size]})[0] for start in starts)
        return np.concatenate(list(batches))

    def _check_interface(self, path: str | Path) -> None:
        """Compare the graph's input and output with what its metadata promises."""
        expected = (["images", *self.image_shape], ["probabilities", len(self.class_names)])
        sides = (self._session.get_inputs(), self._session.get_outputs())
        found = tuple([side[0].name, *side[0].shape[1:]] if len(side) == 1 else None for side in sides)
        if found != expected:
            raise InputError(f"{path}: its graph takes and gives {found}, its metadata says {expected}; {_ADVICE}")


def check_images(images: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Return `images` if they are uint8 [n, *image_shape]; raise `InputError` otherwise."""
    if images.dtype != np.uint8 or images.shape[1:] != image_shape:
        expected = ", ".join(map(str, ("n", *image_shape)))
        raise InputError(f"images: found {images.dtype} {list(images.shape)}, expected uint8 [{expected}]")
    return images


def _usable_cores() -> int:
    """Count the cores that this process may use.

    onnxruntime counts those of the machine, and its threads wait by spinning: more threads than cores are slower.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    # What onnxruntime raises for a file that is no ONNX model, is damaged, or needs a newer onnxruntime.
    kinds = (errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument, errors.Fail, errors.NoModel)
    try:
        yield
    except (*kinds, errors.NotImplemented) as error:
        raise InputError(f"{path}: cannot be read as ONNX ({first_line(error)}); {_ADVICE}") from error
