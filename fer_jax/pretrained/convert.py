"""From the layers of a file of weights to the arrays of a backbone: matched, checked, transposed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_jax.errors import InputError
from fer_jax.models.backbones import BACKBONES
from fer_jax.models.spec import Preprocessing
from fer_jax.pretrained.array_forms import shapes_in_file, take
from fer_jax.pretrained.manifest import CONVENTIONS, Conventions, Source
from fer_jax.pretrained.matching import Found, find_backbone
from fer_jax.pretrained.readers import read_source_file
from fer_jax.pretrained.source_file import Layers, SourceFile, file_hash
from fer_jax.pretrained.weights import IMAGENET_CLASSES, Weights, head_layer

# Keras's file of EfficientNet has ImageNet's standard deviations in the place of the variances, and Keras then scales
# once more, by 1 / sqrt(std): together the (x / 255 - mean) / std that the weights were trained with.
_STD_FOR_VARIANCE = (0.229, 0.224, 0.225)


def convert_source(source: Source, path: Path) -> Weights:
    """Convert a published file; raise `InputError` unless it holds exactly the expected weights."""
    file = read_source_file(path)
    return _convert(file, source.architecture, source.flavour, source.conventions, source.name, source.licence)


def convert_file(path: Path, architecture: str, flavour: str | None = None) -> Weights:
    """Convert any file of a backbone, or raise `InputError`.

    Without `flavour` a file of Keras has that of Keras, and a state dict the one whose names it has, if that is only
    one: it decides padding and preprocessing.
    """
    file = read_source_file(path)
    flavours = [f for f, arch in CONVENTIONS if arch == architecture]
    if flavour is None:
        flavour = "keras" if file.library == "keras" else _flavour(file, architecture, flavours)
    if flavour not in flavours:
        raise InputError(f"--flavour {flavour}: unknown for {architecture}, expected one of {', '.join(flavours)}")
    return _convert(file, architecture, flavour, CONVENTIONS[flavour, architecture], path.name, "")


def _flavour(file: SourceFile, architecture: str, flavours: Sequence[str]) -> str:
    """Return the one flavour that calls a layer of `file` as its first one, wherever that lies in the file."""
    fitting = [
        flavour
        for flavour in flavours
        for naming in CONVENTIONS[flavour, architecture].namings[:1]
        for layers in file.models.values()
        if flavour != "keras" and any(f".{name}".endswith(f".{naming.stem[0]}") for name in layers)
    ]
    fitting = list(dict.fromkeys(fitting))
    if len(fitting) == 1:
        return fitting[0]
    choice = fitting or [flavour for flavour in flavours if flavour != "keras"]
    raise InputError(f"{file.path}: give --flavour, one of {', '.join(choice)}: it decides padding and preprocessing")


def _convert(
    file: SourceFile, architecture: str, flavour: str, conventions: Conventions, origin: str, licence: str
) -> Weights:
    path, spec = file.path, BACKBONES[architecture]
    if (flavour == "keras") != (file.library == "keras"):
        library = "Keras" if file.library == "keras" else "PyTorch"
        raise InputError(f"{path}: weights of a {library} model, expected the flavour {flavour}")
    searched = _without_normalizations(file) if conventions.normalization_layer else file
    others = {
        layer
        for (f, other), known in CONVENTIONS.items()
        if f == flavour and other != architecture
        for naming in known.namings
        for layer in naming.names(BACKBONES[other])
    }
    found = find_backbone(searched, spec, conventions.namings, others)
    _check_channels(file, found)
    preprocessing = conventions.preprocessing
    if conventions.normalization_layer:
        preprocessing = _preprocessing(path, file.models[found.model])
    arrays = {
        (*layer.path, name): array
        for source_name, layer in found.expected.items()
        for name, array in take(file, source_name, found.layers[source_name], layer).items()
    }
    head = {}
    if found.head:
        arrays_of_head = found.layers[found.head]
        head = take(file, found.head, arrays_of_head, head_layer(spec, np.size(arrays_of_head["bias"])))
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
        notes=found.notes,
    )


def _is_normalization(arrays: Mapping[str, np.ndarray]) -> bool:
    return {"mean", "variance"} <= arrays.keys()


def _without_normalizations(file: SourceFile) -> SourceFile:
    models = {
        model: {name: arrays for name, arrays in layers.items() if not _is_normalization(arrays)}
        for model, layers in file.models.items()
    }
    return dataclasses.replace(file, models=models)


def _check_channels(file: SourceFile, found: Found) -> None:
    """Raise `InputError` for a network whose first convolution takes anything but three channels."""
    name, layer = next(iter(found.expected.items()))
    for weight, shape in shapes_in_file(file.library, layer).items():
        given = np.shape(found.layers[name].get(weight, ()))
        if len(given) != len(shape):
            continue  # `take` will say so
        changed = [(theirs, ours) for theirs, ours in zip(given, shape, strict=True) if theirs != ours]
        if len(changed) == 1 and changed[0][1] == layer.inputs:
            channels = "one channel (gray)" if changed[0][0] == 1 else f"{changed[0][0]} channels"
            raise InputError(
                f"{file.path}: made for images of {channels}, its {name} has the shape {given}, expected three (RGB); "
                "give weights of a network for RGB images: here it sees a gray image in all three channels"
            )


def _preprocessing(path: Path, layers: Layers) -> Preprocessing:
    """Return what the Normalization layer of a Keras EfficientNet does to RGB in 0..255.

    The published numbers are taken to come with the second scaling, as in a model built with weights="imagenet".
    """
    found = [arrays for arrays in layers.values() if _is_normalization(arrays)]
    if len(found) != 1:
        raise InputError(f"{path}: has {len(found)} Normalization layers, a Keras EfficientNet has 1")
    mean, variance = (np.asarray(found[0][name], np.float64).ravel() for name in ("mean", "variance"))
    if mean.shape != (3,) or variance.shape != (3,) or not (variance > 0).all():
        raise InputError(f"{path}: its Normalization has mean {mean} and variance {variance}, expected three of each")
    std = variance if np.allclose(variance, _STD_FOR_VARIANCE, atol=1e-6) else np.sqrt(variance)

    # Seven digits drop what storing them in float32 added.
    def of_255(values: np.ndarray) -> tuple[float, float, float]:
        red, green, blue = (float(f"{255 * value:.7g}") for value in values)
        return red, green, blue

    return Preprocessing(mean=of_255(mean), std=of_255(std))
