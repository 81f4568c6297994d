"""The arrays of a layer in a file, by library, and in the names, axes and type of this project."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from fer_jax.errors import InputError
from fer_jax.pretrained.layers import Layer
from fer_jax.pretrained.source_file import SourceFile

# What each library calls the arrays of a layer, by kind of layer and our name.
_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
_TORCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_CONV, _TORCH_CONV = {"kernel": "kernel"}, {"kernel": "weight"}
_DENSE, _TORCH_DENSE = {"kernel": "kernel", "bias": "bias"}, {"kernel": "weight", "bias": "bias"}
_ARRAYS = {
    "keras": {"conv": _CONV, "depthwise": _CONV, "norm": _NORM, "gate": _DENSE, "dense": _DENSE},
    "torch": {
        "conv": _TORCH_CONV,
        "depthwise": _TORCH_CONV,
        "norm": _TORCH_NORM,
        "gate": _TORCH_DENSE,
        "dense": _TORCH_DENSE,
    },
}
# The axes of a kernel in the file, in our order: [h, w, in, out] for convolutions, of which a depthwise one has
# in = 1, and [in, out] for dense layers.
_AXES = {
    "keras": {"conv": (0, 1, 2, 3), "depthwise": (0, 1, 3, 2), "gate": (0, 1, 2, 3), "dense": (0, 1)},
    "torch": {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 1, 0), "gate": (2, 3, 1, 0), "dense": (1, 0)},
}


def take(file: SourceFile, name: str, given: Mapping[str, np.ndarray], layer: Layer) -> dict[str, np.ndarray]:
    """Return the arrays of one layer, which the file calls `name`, in our names, axes and float32.

    Raises `InputError` for arrays of other names or shapes, of no type of floats, and with numbers that no network has.
    """
    names = _ARRAYS[file.library][layer.kind]
    if given.keys() != set(names.values()):
        raise InputError(
            f"{file.path}: {name} has {', '.join(sorted(given))}, expected {', '.join(sorted(names.values()))}"
        )
    taken = {}
    for ours, theirs in names.items():
        array, expected = given[theirs], file_shape(file.library, layer, ours)
        what = f"{file.path}: {name}, {theirs}:"
        if array.shape != expected:
            raise InputError(f"{what} shape {array.shape}, expected {expected}; is --arch right, and the width 1.0?")
        # Half and bfloat16 are widened; numbers of 8 bits mean nothing without their scale.
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize < 2:
            raise InputError(f"{what} {array.dtype}, expected floats of 16, 32 or 64 bits, not quantised")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all() or (ours == "var" and (array < 0).any()):
            least = " of at least 0" if ours == "var" else ""
            raise InputError(f"{what} {given[theirs].dtype}, expected finite floats{least}; the file is damaged")
        if ours == "kernel":
            array = array.transpose(_AXES[file.library][layer.kind])
        taken[ours] = np.ascontiguousarray(array.reshape(layer.shapes()[ours]), np.float32)
    return taken


def file_shape(library: str, layer: Layer, name: str) -> tuple[int, ...]:
    """Return the shape in the file of an array of `layer`."""
    shape = layer.shapes()[name]
    if name != "kernel":
        return shape
    if layer.kind == "gate":
        shape = (1, 1, *shape)
    axes = _AXES[library][layer.kind]
    return tuple(shape[axes.index(axis)] for axis in range(len(shape)))


def shapes_in_file(library: str, layer: Layer) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of `layer` by the name that `library` gives it."""
    return {_ARRAYS[library][layer.kind][ours]: file_shape(library, layer, ours) for ours in layer.shapes()}
