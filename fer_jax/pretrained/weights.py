"""Converted weights: one safetensors file holds a backbone, its ImageNet classifier if any, and what they expect."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.errors import InputError
from fer_jax.models.spec import BackboneSpec
from fer_jax.pretrained.layers import RUNNING_STATISTICS, Layer, backbone_layers
from fer_jax.pretrained.variant import read_variant
from fer_jax.storage.bucket import AnyPath
from fer_jax.storage.files import replace_file

CONVERTER_VERSION = 1
"""Grows when files converted earlier would differ from those converted now."""

IMAGENET_CLASSES = "imagenet-1k"
"""The 1000 classes of ImageNet in the order of their WordNet ids, as all published weights have them."""

_FORMAT = "fer_jax backbone"
_METADATA = (
    "converter_version",
    "architecture",
    "padding",
    "batch_norm_epsilon",
    "preprocessing",
    "classes",
    "origin",
    "origin_sha256",
    "licence",
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of one backbone.

    `arrays` has float32 arrays by the path of their layer and their name, such as ("stem", "norm", "scale"). `head` is
    the classifier that they were trained with, `kernel` [top_channels, n] and `bias` [n], or empty; `classes` names
    the order of its outputs, if known. `origin` names the source or file, `origin_sha256` is the digest of the file.
    `notes` are lines for whoever converts a file, such as what was left out; they are not kept.
    """

    spec: BackboneSpec
    arrays: dict[tuple[str | int, ...], np.ndarray]
    head: dict[str, np.ndarray]
    classes: str
    origin: str
    origin_sha256: str
    licence: str
    notes: tuple[str, ...] = ()

    @property
    def params(self) -> dict:
        """The parameters as the `Backbone` module nests them."""
        return _nested({path: a for path, a in self.arrays.items() if path[-1] not in RUNNING_STATISTICS})

    @property
    def batch_stats(self) -> dict:
        """The running statistics as the `Backbone` module nests them."""
        return _nested({path: a for path, a in self.arrays.items() if path[-1] in RUNNING_STATISTICS})


def head_layer(spec: BackboneSpec, outputs: int) -> Layer:
    """Return the layer that classifies the averaged features of a backbone."""
    return Layer(("head",), "dense", spec.top_channels, outputs)


def write_weights(path: AnyPath, weights: Weights) -> None:
    """Write a safetensors file: `backbone/...` and `head/...`, and metadata as strings."""
    variant = weights.spec.variant()
    metadata = {
        "format": _FORMAT,
        "converter_version": str(CONVERTER_VERSION),
        "architecture": variant["name"],
        "padding": variant["padding"],
        "batch_norm_epsilon": repr(variant["batch_norm_epsilon"]),
        "preprocessing": json.dumps(variant["preprocessing"]),
        "classes": weights.classes,
        "origin": weights.origin,
        "origin_sha256": weights.origin_sha256,
        "licence": weights.licence,
    }
    tensors = {_key("backbone", path): array for path, array in weights.arrays.items()}
    tensors |= {_key("head", (name,)): array for name, array in weights.head.items()}
    try:
        with replace_file(path) as beside:
            beside.write_bytes(safetensors.numpy.save(tensors, metadata))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_weights(path: Path) -> Weights:
    """Read what `write_weights` wrote and check that it is complete; raise `InputError` for anything else."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise InputError(
                    f"{path}: not converted weights of this project; convert it: "
                    f"python scripts/convert_weights.py --file {path} --arch NAME --flavour NAME --out FILE"
                )
            missing = [key for key in _METADATA if key not in metadata]
            if missing:
                raise InputError(f"{path}: its metadata lack {', '.join(missing)}; damaged, convert the weights again")
            if metadata["converter_version"] != str(CONVERTER_VERSION):
                raise InputError(
                    f"{path}: written by version {metadata['converter_version'][:60]} of the converter, expected "
                    f"{CONVERTER_VERSION}; convert {metadata['origin'][:60]} again"
                )
        tensors = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, KeyError) as error:  # KeyError: a type that NumPy has not
        raise InputError(f"{path}: damaged, or not a safetensors file of float arrays: {error}") from error
    spec = _spec(path, metadata)
    return Weights(
        spec,
        _checked_arrays(path, spec, tensors),
        _checked_head(path, spec, tensors),
        metadata["classes"],
        metadata["origin"],
        metadata["origin_sha256"],
        metadata["licence"],
    )


def _spec(path: Path, metadata: dict[str, str]) -> BackboneSpec:
    try:
        epsilon, preprocessing = float(metadata["batch_norm_epsilon"]), json.loads(metadata["preprocessing"])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its metadata are damaged ({error}); convert the weights again") from error
    variant = {
        "name": metadata["architecture"],
        "padding": metadata["padding"],
        "batch_norm_epsilon": epsilon,
        "preprocessing": preprocessing,
    }
    return read_variant(variant, str(path))


def _checked_arrays(path: Path, spec: BackboneSpec, tensors: dict) -> dict:
    arrays = {}
    for layer in backbone_layers(spec):
        for name, shape in layer.shapes().items():
            key = _key("backbone", (*layer.path, name))
            arrays[(*layer.path, name)] = _checked(path, spec, tensors, key, shape)
            if name == "var" and (tensors[key] < 0).any():
                raise InputError(f"{path}: {key} is negative somewhere; damaged, convert the weights again")
    return arrays


def _checked_head(path: Path, spec: BackboneSpec, tensors: dict) -> dict:
    keys = {name: _key("head", (name,)) for name in ("kernel", "bias")}
    if not any(key in tensors for key in keys.values()):
        return {}
    shapes = head_layer(spec, np.size(tensors.get(keys["bias"], ()))).shapes()
    return {name: _checked(path, spec, tensors, key, shapes[name]) for name, key in keys.items()}


def _checked(path: Path, spec: BackboneSpec, tensors: dict, key: str, shape: tuple[int, ...]) -> np.ndarray:
    found = tensors[key].shape if key in tensors else "nothing"
    if found != shape:
        raise InputError(f"{path}: {key} has the shape {found}, {spec.name} has {shape}; convert it again")
    if tensors[key].dtype != np.float32 or not np.isfinite(tensors[key]).all():
        raise InputError(
            f"{path}: {key} is {tensors[key].dtype}, expected finite float32; damaged, convert the weights again"
        )
    return tensors[key]


def _key(prefix: str, path: tuple[str | int, ...]) -> str:
    return "/".join([prefix, *map(str, path)])


def _nested(arrays: dict[tuple[str | int, ...], np.ndarray]) -> dict:
    tree: dict = {}
    for (*parents, name), array in arrays.items():
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array
    return tree
