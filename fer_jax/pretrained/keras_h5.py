"""Weights that Keras saved: the legacy HDF5 layout, alone or in a whole model's file, and Keras 3's `.weights.h5`.

The latter also lies inside a `.keras` file.
"""

import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fer_jax.errors import InputError, is_exhaustion, shown
from fer_jax.pretrained.file_kind import KERAS_WEIGHTS
from fer_jax.pretrained.source_file import SourceFile

# `.weights.h5` numbers the weights of a layer in the order of their creation: their names by how many there are.
_NAMES_BY_COUNT = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("mean", "variance", "count"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
# What Keras calls the group of a model's layers; the second is that of TensorFlow's Keras 2.12 to 2.14.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
# At the top of a file, beside the layers.
_NO_LAYERS = ("optimizer", "vars", "_vars", "seed_generator", "compile_metrics", "loss_tracker")


def read(path: Path) -> SourceFile:
    """Read an HDF5 file; weights are named as Keras 3 does (`kernel` also for depthwise convolutions, no `:0`)."""
    return _read(path, path, {})


def read_archive(path: Path) -> SourceFile:
    """Read a `.keras` file: a zip archive of the weights and of the model's description, which names the layers."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = io.BytesIO(archive.read(KERAS_WEIGHTS))
            described = archive.read("config.json") if "config.json" in archive.namelist() else b"{}"
        names = _names_of_layers(json.loads(described))
    # What zipfile raises for damage; RuntimeError: encrypted. RecursionError: of JSON.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if is_exhaustion(error):
            raise
        raise InputError(f"{path}: a damaged .keras file, download or copy it again ({error})") from error
    return _read(path, content, names)


def _read(path: Path, content: Path | io.BytesIO, names: Mapping[tuple[str, ...], str]) -> SourceFile:
    try:
        with h5py.File(content, "r") as file:
            legacy = _group(file, "model_weights") if "model_weights" in file else file
            if _has_attribute(legacy, "layer_names"):
                return _gather(path, _legacy_weights(legacy), ordered=True)
            weights = _gather(path, _keras_3_weights(path, file, names, ()), ordered=False)
            if weights.models:
                return weights
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # as h5py translates HDF5's own errors
        if is_exhaustion(error):
            raise
        raise InputError(f"{path}: a damaged HDF5 file, download or copy it again ({error})") from error
    raise InputError(f"{path}: an HDF5 file without Keras weights: expected `layer_names`, `model_weights` or `layers`")


def _names_of_layers(model: object, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The names of all layers that a model's description has, by the groups that hold their weights in the file.

    A group is called by the class of the layer, in snake case, and counted among those of its class. Newer versions
    write the layer's name into the group as well.
    """
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    found: dict[tuple[str, ...], str] = {}
    count: Counter[str] = Counter()
    for layer in layers if isinstance(layers, list) else ():
        if not (isinstance(layer, dict) and isinstance(layer.get("class_name"), str)):
            continue
        kind = _snake_case(layer["class_name"])
        group = (*above, f"{kind}_{count[kind]}" if count[kind] else kind)
        count[kind] += 1
        inner = layer.get("config")
        name = layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
        if isinstance(name, str):
            found[group] = name
        found |= _names_of_layers(layer, group)
    return found


def _snake_case(name: str) -> str:
    """As Keras itself does it: Conv2D is conv2d, BatchNormalization batch_normalization."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _gather(path: Path, weights: Iterator[tuple[str, str, str, np.ndarray]], *, ordered: bool) -> SourceFile:
    models: dict[str, Any] = {}
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


def _keras_3_weights(
    path: Path, group: h5py.Group, names: Mapping[tuple[str, ...], str], place: tuple[str, ...]
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Like `_legacy_weights`, for the layers below the group of a model, which is called `place` without containers.

    The groups of layers are called by class and number; the layer's own name is an attribute, or in `names`.
    """
    for key in group:
        if key in _CONTAINERS:
            yield from _keras_3_weights(path, _group(group, key), names, place)
        elif isinstance(group[key], h5py.Group) and (place or key not in _NO_LAYERS) and key != "vars":
            inner, inner_place = _group(group, key), (*place, key)
            yield from _keras_3_weights(path, inner, names, inner_place)
            if "vars" in inner and len(variables := _group(inner, "vars")):
                named = variables.attrs.get("name", names.get(inner_place))
                yield from _keras_3_layer(path, variables, "/".join(place), named)


def _keras_3_layer(
    path: Path, variables: h5py.Group, model: str, name: object
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    if name is None:
        raise InputError(
            f"{path}: does not name its layers, as older versions of Keras 3 did not; give the model as .keras, or "
            "load it and save it with a newer version"
        )
    arrays = [_array(variables, number) for number in sorted(variables, key=int)]
    weights = _NAMES_BY_COUNT.get(len(arrays), range(len(arrays)))
    if len(arrays) == 3 and arrays[2].ndim:  # no count: another layer than a Normalization
        weights = range(3)
    for weight, array in zip(weights, arrays, strict=True):
        yield model, _text(name), str(weight), array


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
