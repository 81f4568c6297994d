"""Weights that Keras saved: the legacy HDF5 layout, alone or in a whole model's file, and Keras 3's `.weights.h5`."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from fer_jax.errors import InputError, is_exhaustion, shown
from fer_jax.pretrained.source_file import SourceFile

# `.weights.h5` numbers the weights of a layer in the order of their creation: their names by how many there are.
_NAMES_BY_COUNT = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("mean", "variance", "count"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def read(path: Path) -> SourceFile:
    """Read an HDF5 file; weights are named as Keras 3 does (`kernel` also for depthwise convolutions, no `:0`)."""
    try:
        with h5py.File(path, "r") as file:
            legacy = _group(file, "model_weights") if "model_weights" in file else file
            if _has_attribute(legacy, "layer_names"):
                return _gather(path, _legacy_weights(legacy), ordered=True)
            if "layers" in file:
                return _gather(path, _keras_3_weights(path, _group(file, "layers")), ordered=False)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # as h5py translates HDF5's own errors
        if is_exhaustion(error):
            raise
        raise InputError(f"{path}: a damaged HDF5 file, download or copy it again ({error})") from error
    raise InputError(f"{path}: an HDF5 file without Keras weights: expected `layer_names`, `model_weights` or `layers`")


def _gather(path: Path, weights: Iterator[tuple[str, str, str, np.ndarray]], *, ordered: bool) -> SourceFile:
    models = {}
    for model, layer, weight, array in weights:
        models.setdefault(model, {}).setdefault(layer, {})[weight] = np.asarray(array)
    return SourceFile(path, "keras", models, ordered)


def _legacy_weights(group: h5py.Group) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """(model, layer, weight, array): a model inside a model is saved as one layer, with the weights of all of its."""
    for outer in _strings(group, "layer_names"):
        for name in _strings(_group(group, outer), "weight_names"):
            place, _, weight = name.rpartition("/")
            layer = place.rpartition("/")[2] or outer
            weight = weight.partition(":")[0].replace("depthwise_kernel", "kernel")
            yield "" if layer == outer else outer, layer, weight, _array(_group(group, outer), name)


def _keras_3_weights(path: Path, layers: h5py.Group, model: str = "") -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Like `_legacy_weights`; the groups are named by class and number, an attribute has the layer's own name."""
    for key in layers:
        group = _group(layers, key)
        if "layers" in group:
            yield from _keras_3_weights(path, _group(group, "layers"), key)
        variables = _group(group, "vars") if "vars" in group else {}
        if not len(variables):
            continue
        if "name" not in variables.attrs:
            raise InputError(
                f"{path}: does not name its layers, as older versions of Keras 3 did not; "
                "load it into the model and save that with a newer version"
            )
        names = _NAMES_BY_COUNT.get(len(variables), sorted(variables, key=int))
        for number, name in enumerate(names):
            yield model, _text(variables.attrs["name"]), name, _array(variables, str(number))


def _has_attribute(group: h5py.Group, name: str) -> bool:
    return name in group.attrs or f"{name}0" in group.attrs


def _strings(group: h5py.Group, name: str) -> list[str]:
    """Read a list of strings from an attribute, split into `name0`, `name1`, ... if HDF5's limit required it."""
    pieces = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{name}{len(pieces)}"])
    if not all(isinstance(piece, np.ndarray) and piece.ndim == 1 for piece in pieces):
        raise ValueError(f"{name} is no list of strings")
    return [_text(value) for piece in pieces for value in piece]


def _text(value: object) -> str:
    if not isinstance(value, str | bytes):
        raise ValueError(f"{shown(value)} in the place of a name")
    return value.decode("utf8") if isinstance(value, bytes) else value


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    if not isinstance(parent[name], h5py.Group):
        raise ValueError(f"{name} is no group")
    return parent[name]


def _array(parent: h5py.Group, name: str) -> np.ndarray:
    if not isinstance(parent[name], h5py.Dataset):
        raise ValueError(f"{name} is no array")
    return parent[name][()]
