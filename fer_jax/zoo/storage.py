"""How the arrays of a model are kept in a file: kernels in half precision or in bytes, all else as it is.

The network computes in float32 whatever the storage. Only kernels are made smaller: they are nearly all of a model's
bytes, and the statistics and factors of normalisations span too many powers of ten (those of published MobileNetV2
weights are 0 to 70) to be worth the risk.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fer_jax.params.tree import Path

_SCALE = "_scale"
"""What follows the name of a kernel in bytes: float32 [outputs], the factor of each output."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """The type of the kernels of the backbones and of those of the classifier: `float32`, `float16` or `int8`.

    `int8` is symmetric with one scale for each output, and for the classifier alone: in the early layers of a real
    network it costs points of accuracy.
    """

    backbones: str
    classifier: str

    def __str__(self) -> str:
        if self.backbones == self.classifier:
            return f"{self.backbones} kernels"
        return f"{self.backbones} kernels, {self.classifier} in the classifier"


STORAGES = (
    Storage("float16", "int8"),
    Storage("float16", "float16"),
    Storage("float32", "int8"),
    Storage("float32", "float32"),
)
"""The storages that a model may have, smallest first."""


def encode(leaves: Mapping[Path, np.ndarray], storage: Storage) -> dict[str, np.ndarray]:
    """Return the tensors of a file, by path with slashes, from the float32 arrays of a model.

    A kernel that float16 cannot hold stays float32.
    """
    tensors = {}
    for path, array in leaves.items():
        key = "/".join(map(str, path))
        kind = storage.classifier if "classifier" in path else storage.backbones
        if path[-1] != "kernel" or kind == "float32":
            tensors[key] = np.asarray(array, np.float32)
        elif kind == "int8":
            tensors[key], tensors[key + _SCALE] = _to_bytes(array)
        else:
            fits = np.abs(array).max(initial=0) <= np.finfo(np.float16).max
            tensors[key] = np.asarray(array, np.float16 if fits else np.float32)
    return tensors


def decode(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return float32 arrays by path with slashes: the inverse of `encode`, but for rounding.

    Raises:
      ValueError: bytes without their scales, scales of another shape, or a type that `encode` does not write.
    """
    arrays = {}
    for key, tensor in tensors.items():
        if key.endswith("kernel" + _SCALE):
            continue
        if tensor.dtype == np.int8:
            scale = tensors.get(key + _SCALE)
            if scale is None or scale.dtype != np.float32 or scale.shape != tensor.shape[-1:]:
                raise ValueError(f"{key} is in bytes and has no scale for each of its {tensor.shape[-1:]} outputs")
            tensor = tensor * scale
        elif tensor.dtype not in (np.float16, np.float32):
            raise ValueError(f"{key} is {tensor.dtype}, expected float32, float16 or int8")
        arrays[key] = tensor.astype(np.float32)
    return arrays


def _to_bytes(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 of the shape of `kernel` and float32 [outputs], whose product is the kernel, rounded."""
    scale = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.round(kernel / scale).astype(np.int8), scale
