"""A network as a StableHLO program, exported by JAX for CPU, CUDA and TPU at once, and its use.

The file is a zip archive, not compressed, with two members: the program with its weights, as `jax.export` serialises
it, and the metadata as JSON. So the class names cannot be lost on the way, a file cut short is recognised, and reading
it without this package takes three lines (`docs/export.md`).
"""

import json
import zipfile
from pathlib import Path

import jax
import numpy as np
from jax import export

from fer_jax.deployment.metadata import ExportMetadata, decode_metadata
from fer_jax.deployment.network import ExportNetwork
from fer_jax.deployment.onnx_model import check_images
from fer_jax.errors import InputError, first_line

PROGRAM, METADATA = "program.jax_export", "metadata.json"
"""The members of the archive."""

PLATFORMS = ("cpu", "cuda", "tpu")

_ADVICE = "expected a file written by fer-jax export --format=stablehlo"


def write_stablehlo(path: Path, network: ExportNetwork, metadata: ExportMetadata) -> None:
    """Write `network` as a program from uint8 [n, *image_shape] to class probabilities float32 [n, classes]."""
    (n,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((n, *network.image_shape), np.uint8)
    program = export.export(jax.jit(network.probabilities), platforms=PLATFORMS)(images)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(PROGRAM, bytes(program.serialize()))
        archive.writestr(METADATA, json.dumps(metadata.encode(), indent=2))


class StablehloModel:
    """A network from a StableHLO file of `fer-jax export`, on JAX's default device; used as an `OnnxModel` is.

    Raises `InputError` if the file is missing, damaged, or of another kind or version.
    """

    def __init__(self, path: str | Path):
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; {_ADVICE}")
        try:
            with zipfile.ZipFile(path) as archive:
                described, program = json.loads(archive.read(METADATA)), bytearray(archive.read(PROGRAM))
        # A file that is no archive or is damaged; an archive of something else; a member that is no JSON.
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read as a StableHLO export ({first_line(error)}); {_ADVICE}"
            ) from error
        self.metadata: ExportMetadata = decode_metadata(described, str(path))
        self.class_names = self.metadata.class_names
        self.image_size = self.metadata.input_size
        self.image_shape = self.metadata.image_shape
        try:
            self._call = jax.jit(export.deserialize(program).call)
        except ValueError as error:  # of a JAX too old or too new for the program
            raise InputError(
                f"{path}: this JAX ({jax.__version__}) cannot run its program ({first_line(error)}); "
                "export the model again"
            ) from error

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Return class probabilities float32 [n, classes] of `images`, uint8 [n, *image_shape].

        Each size of batch is compiled once, so the last batch is padded to `batch_size`, or to a power of two if there
        is no other. Raises `InputError` for an array of another shape or dtype.
        """
        images = check_images(images, self.image_shape)
        if len(images) < batch_size:
            batch_size = min(batch_size, 1 << max(len(images) - 1, 0).bit_length())
        padded = np.pad(images, [(0, -len(images) % batch_size)] + [(0, 0)] * (images.ndim - 1))
        batches = [self._call(batch) for batch in padded.reshape(-1, batch_size, *self.image_shape)]
        return np.concatenate([np.empty((0, len(self.class_names)), np.float32), *batches])[: len(images)]
