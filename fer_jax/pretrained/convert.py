"""From the layers of a file of weights to the arrays of a backbone: matched, checked, transposed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_jax.errors import InputError
from fer_jax.models.backbone import BackboneSpec, Preprocessing
from fer_jax.models.fernet import BACKBONES
from fer_jax.pretrained.layers import Layer
from fer_jax.pretrained.manifest import CONVENTIONS, Conventions, Source
from fer_jax.pretrained.naming import Naming
from fer_jax.pretrained.readers import read_source_file
from fer_jax.pretrained.source_file import Layers, SourceFile, file_hash
from fer_jax.pretrained.weights import IMAGENET_CLASSES, Weights, head_layer

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

# Keras's file of EfficientNet has ImageNet's standard deviations in the place of the variances, and Keras then scales
# once more, by 1 / sqrt(std): together the (x / 255 - mean) / std that the weights were trained with.
_STD_FOR_VARIANCE = (0.229, 0.224, 0.225)


def convert_source(source: Source, path: Path) -> Weights:
    """Convert a published file; raise `InputError` unless it holds exactly the expected weights."""
    file = read_source_file(path)
    return _convert(file, source.architecture, source.flavour, source.conventions, source.name, source.licence)


def convert_file(path: Path, architecture: str, flavour: str | None = None) -> Weights:
    """Convert any file of a backbone, or raise `InputError`; without `flavour`, an HDF5 file is Keras's."""
    file = read_source_file(path)
    if flavour is None and file.library == "torch":
        flavours = [f for f, arch in CONVENTIONS if arch == architecture and f != "keras"]
        raise InputError(f"{path}: give --flavour, one of {', '.join(flavours)}: it decides padding and preprocessing")
    flavour = flavour or "keras"
    if (flavour, architecture) not in CONVENTIONS:
        flavours = [f for f, arch in CONVENTIONS if arch == architecture]
        raise InputError(f"--flavour {flavour}: unknown for {architecture}, expected one of {', '.join(flavours)}")
    return _convert(file, architecture, flavour, CONVENTIONS[flavour, architecture], path.name, "")


def _convert(
    file: SourceFile, architecture: str, flavour: str, conventions: Conventions, origin: str, licence: str
) -> Weights:
    path, spec = file.path, BACKBONES[architecture]
    if (flavour == "keras") != (file.library == "keras"):
        found = "Keras" if file.library == "keras" else "PyTorch"
        raise InputError(f"{path}: weights of a {found} model, expected the flavour {flavour}")
    layers, ordered = _model(file, spec, conventions.namings)
    preprocessing = conventions.preprocessing
    if conventions.normalization_layer:
        preprocessing, layers = _preprocessing(path, layers)
    matched, head_name = _match(path, layers, ordered, spec, conventions.namings)
    arrays = {
        (*layer.path, name): array
        for source_name, layer in matched.items()
        for name, array in _take(file, source_name, layers[source_name], layer).items()
    }
    head = {}
    if head_name:
        arrays_of_head = layers[head_name]
        head = _take(file, head_name, arrays_of_head, head_layer(spec, np.size(arrays_of_head.get("bias", ()))))
    return Weights(
        spec=dataclasses.replace(
            spec,
            padding=conventions.padding,
            batch_norm_epsilon=conventions.batch_norm_epsilon,
            preprocessing=preprocessing,
        ),
        arrays=arrays,
        head=head,
        classes=IMAGENET_CLASSES if head and len(head["bias"]) == 1000 else "",
        origin=origin,
        origin_sha256=file_hash(path),
        licence=licence,
    )


def _model(file: SourceFile, spec: BackboneSpec, namings: Sequence[Naming]) -> tuple[Layers, bool]:
    """Return the layers of the backbone: of the whole file, or of the model inside with most of its names; their order.

    The second value is whether they come in the order of computation, which inside a model nothing promises: Keras
    lists the weights that train before those that do not.
    """
    known = {name for naming in namings for name in naming.names(spec)}
    models = file.models or {"": {}}
    model = max(models, key=lambda model: len(known & models[model].keys()))
    return models[model], file.ordered and not model


def _match(
    path: Path, layers: Layers, ordered: bool, spec: BackboneSpec, namings: Sequence[Naming]
) -> tuple[dict[str, Layer], str | None]:
    """Return our layer for each name in the file, and the name of the ImageNet classifier, if the file has it.

    By name where all are known. Otherwise a file that comes in the order of computation is matched by that order, as
    Keras itself matches it: Keras has renamed layers since it published its files.
    """
    mismatches = []
    for naming in namings:
        expected = naming.names(spec)
        heads = [name for name in naming.heads if name in layers]
        missing = [name for name in expected if name not in layers]
        surplus = [name for name in layers if name not in expected and name not in heads]
        if not missing and not surplus:
            return expected, heads[0] if heads else None
        mismatches.append((missing, surplus))
    if ordered and (matched := _match_by_order(layers, list(expected.values()))):
        return matched
    missing, surplus = min(mismatches, key=lambda mismatch: len(mismatch[0]))
    if len(missing) > len(expected) // 2:
        raise InputError(
            f"{path}: its layers ({_some(list(layers))}) are not those of {spec.name} ({_some(list(expected))}); "
            "are --arch and --flavour right?"
        )
    faults = [f"{what} {_some(names)}" for what, names in (("lacks", missing), ("has besides", surplus)) if names]
    raise InputError(f"{path}: not a whole {spec.name} and no more: it {' and '.join(faults)}")


def _match_by_order(layers: Layers, expected: Sequence[Layer]) -> tuple[dict[str, Layer], str | None] | None:
    names = list(layers)
    backbone, head = names[: len(expected)], names[len(expected) :]
    if len(backbone) < len(expected) or len(head) > 1:
        return None
    matched = dict(zip(backbone, expected, strict=True))
    for name, layer in matched.items():
        shapes = {_ARRAYS["keras"][layer.kind][ours]: _file_shape("keras", layer, ours) for ours in layer.shapes()}
        if {weight: array.shape for weight, array in layers[name].items()} != shapes:
            return None
    return matched, head[0] if head else None


def _preprocessing(path: Path, layers: Layers) -> tuple[Preprocessing, Layers]:
    """Return what the Normalization layer of a Keras EfficientNet does to RGB in 0..255, and the other layers.

    The published numbers are taken to come with the second scaling, as in a model built with weights="imagenet".
    """
    rest = {name: arrays for name, arrays in layers.items() if not {"mean", "variance"} <= arrays.keys()}
    found = [layers[name] for name in layers if name not in rest]
    if len(found) != 1:
        raise InputError(f"{path}: has {len(found)} Normalization layers, a Keras EfficientNet has 1")
    mean, variance = (np.asarray(found[0][name], np.float64).ravel() for name in ("mean", "variance"))
    if mean.shape != (3,) or variance.shape != (3,) or not (variance > 0).all():
        raise InputError(f"{path}: its Normalization has mean {mean} and variance {variance}, expected three of each")
    std = variance if np.allclose(variance, _STD_FOR_VARIANCE, atol=1e-6) else np.sqrt(variance)
    # Seven digits drop what storing them in float32 added.
    mean, std = (tuple(float(f"{255 * value:.7g}") for value in values) for values in (mean, std))
    return Preprocessing(mean=mean, std=std), rest


def _take(file: SourceFile, name: str, given: dict[str, np.ndarray], layer: Layer) -> dict[str, np.ndarray]:
    """Return the arrays of one layer in our names, axes and float32."""
    names = _ARRAYS[file.library][layer.kind]
    if given.keys() != set(names.values()):
        raise InputError(f"{file.path}: {name} has {_some(sorted(given))}, expected {_some(sorted(names.values()))}")
    taken = {}
    for ours, theirs in names.items():
        array, expected = given[theirs], _file_shape(file.library, layer, ours)
        what = f"{file.path}: {name}, {theirs}:"
        if array.shape != expected:
            raise InputError(f"{what} shape {array.shape}, expected {expected}; is --arch right, and the width 1.0?")
        if array.dtype.kind != "f" or not np.isfinite(array).all() or (ours == "var" and (array < 0).any()):
            least = " of at least 0" if ours == "var" else ""
            raise InputError(f"{what} {array.dtype}, expected finite floats{least}; the file is damaged")
        if ours == "kernel":
            array = array.transpose(_AXES[file.library][layer.kind])
        taken[ours] = np.ascontiguousarray(array.reshape(layer.shapes()[ours]), np.float32)
    return taken


def _file_shape(library: str, layer: Layer, name: str) -> tuple[int, ...]:
    """Return the shape in the file of an array of `layer`."""
    shape = layer.shapes()[name]
    if name != "kernel":
        return shape
    if layer.kind == "gate":
        shape = (1, 1, *shape)
    axes = _AXES[library][layer.kind]
    return tuple(shape[axes.index(axis)] for axis in range(len(shape)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"
