"""Seeing that converted weights work: the ImageNet classes of one image, by the classifier they were trained with."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from fer_jax.errors import InputError
from fer_jax.models.backbone import Backbone, BackboneOptions
from fer_jax.models.initialisation import NoKeys
from fer_jax.pretrained.weights import IMAGENET_CLASSES, Weights

_INPUT_SIZE = 224
_RESIZED = 256


def load_backbone(weights: Weights, **options) -> Backbone:
    """Return the module with these weights; `options` are those of `BackboneOptions`."""
    module = Backbone(weights.spec, BackboneOptions(**options), rngs=NoKeys())  # type: ignore[arg-type]  # all it uses
    graphdef, *_ = nnx.split(module, nnx.Param, nnx.BatchStat)
    return nnx.merge(graphdef, nnx.State(weights.params), nnx.State(weights.batch_stats))


def top_classes(weights: Weights, image: Path, count: int = 5) -> list[tuple[int, float]]:
    """Return the `count` most probable classes of an image file, as (index, probability).

    Raises `InputError` for weights without a classifier.

    The image is prepared as for ImageNet's validation split: its shorter side to 256 pixels, of which the middle 224.
    """
    if not weights.head:
        raise InputError(f"{weights.origin}: has no ImageNet classifier to verify it by")
    backbone = load_backbone(weights, depthwise_lowering="native")
    features = backbone(jnp.asarray(_prepared(image))[None]).mean(axis=(1, 2))
    probabilities = jax.nn.softmax(features @ weights.head["kernel"] + weights.head["bias"])[0]
    return [(int(i), float(probabilities[i])) for i in np.argsort(-probabilities)[:count]]


def class_names(weights: Weights) -> list[str] | None:
    """Return the names of the classifier's outputs; None unless they are ImageNet's and torchvision is installed."""
    if weights.classes != IMAGENET_CLASSES or importlib.util.find_spec("torchvision") is None:
        return None
    from torchvision.models import MobileNet_V2_Weights

    return MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]


def _prepared(path: Path) -> np.ndarray:
    """Float32 [224, 224, 3] in 0..255."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from error
    scale = _RESIZED / min(image.size)
    image = image.resize([round(scale * side) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - _INPUT_SIZE) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + _INPUT_SIZE, top + _INPUT_SIZE)), np.float32)
