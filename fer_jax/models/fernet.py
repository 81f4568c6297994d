"""FerNet: one or more backbones, their pooled features concatenated, and the classifier of the paper."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.models.backbone import Backbone, BackboneOptions, BackboneSpec
from fer_jax.models.backbones import BACKBONES as BACKBONES
from fer_jax.models.initialisation import shaped, zeros
from fer_jax.params.tree import leaves_by_path

_POOLINGS = {
    "avg": lambda x: jnp.mean(x, axis=(1, 2), dtype=jnp.float32),
    "max": lambda x: jnp.max(x, axis=(1, 2)),
    "flatten": lambda x: x.reshape(x.shape[0], -1),
}
"""Functions from a feature map [n, h, w, c] to features [n, c], or [n, h * w * c] for `flatten`."""


@dataclasses.dataclass(frozen=True)
class FerNetSpec:
    """The shapes and the computation of a `FerNet`.

    The defaults are the paper's Table 1; the paper does not name its pooling, `avg` is the usual choice in Keras.
    `input_size` is in pixels; it decides shapes only where pooling is `flatten`.
    """

    backbones: Sequence[BackboneSpec]
    input_size: int = 200
    pooling: str = "avg"
    hidden_units: tuple[int, ...] = (4096, 1024)
    dropout: float = 0.2
    num_classes: int = NUM_EXPRESSIONS
    options: BackboneOptions = dataclasses.field(default_factory=BackboneOptions)

    @property
    def num_features(self) -> int:
        """Width of the concatenated features that enter the classifier."""
        cells = [spec.feature_size(self.input_size) ** 2 if self.pooling == "flatten" else 1 for spec in self.backbones]
        return sum(n * spec.top_channels for n, spec in zip(cells, self.backbones, strict=True))


class Hidden(nnx.Linear):
    """A dense layer, ReLU and dropout; a `frozen` layer has no dropout."""

    frozen = False

    def __init__(self, inputs: int, outputs: int, *, dropout: float, **linear):
        super().__init__(inputs, outputs, **linear)
        self.dropout = nnx.Dropout(dropout)

    def __call__(  # type: ignore[override]  # a layer with dropout needs to know its mode
        self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None
    ) -> jax.Array:
        return self.dropout(jax.nn.relu(super().__call__(x)), deterministic=self.frozen or not train, rngs=rngs)


class Classifier(nnx.Module):
    """One `Hidden` layer for each of `hidden_units`, then the logits (the softmax is in the loss)."""

    def __init__(self, spec: FerNetSpec, *, rngs: nnx.Rngs):
        # The Keras default of a Dense layer, which the paper used.
        kernel_init = shaped(jax.nn.initializers.glorot_uniform())
        init: dict[str, Any] = {"kernel_init": kernel_init, "bias_init": zeros, "rngs": rngs}
        widths = (spec.num_features, *spec.hidden_units)
        self.hidden = nnx.List(
            [
                Hidden(inputs, outputs, dropout=spec.dropout, dtype=spec.options.dtype, **init)
                for inputs, outputs in itertools.pairwise(widths)
            ]
        )
        # The logits and the loss are float32 whatever the compute dtype.
        self.logits = nnx.Linear(widths[-1], spec.num_classes, dtype=jnp.float32, **init)

    def __call__(self, features: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = features
        for layer in self.hidden:
            x = layer(x, train=train, rngs=rngs)
        return self.logits(x)


class FerNet(nnx.Module):
    """The network of a `FerNetSpec`: backbones and classifier.

    It takes images in 0..255, float32, gray [n, h, w] or RGB [n, h, w, 3], and returns logits, float32 [n,
    num_classes]. Training mode (`train=True`) normalises by batch statistics, updates the running ones, applies dropout
    and drop path, and needs the streams `dropout` and `drop_path` in `rngs`.
    """

    def __init__(self, spec: FerNetSpec, *, rngs: nnx.Rngs):
        self.backbones = nnx.Dict({s.name: Backbone(s, spec.options, rngs=rngs) for s in spec.backbones})
        self.classifier = Classifier(spec, rngs=rngs)
        self.pooling = spec.pooling

    def features(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the pooled features of all backbones, concatenated: [n, num_features]."""
        return self.pool([backbone(images, train=train, rngs=rngs) for backbone in self.backbones.values()])

    def pool(self, feature_maps: Sequence[jax.Array]) -> jax.Array:
        """Return the features [n, num_features] of the feature maps [n, h, w, c] of the backbones, in their order."""
        return jnp.concatenate([_POOLINGS[self.pooling](feature_map) for feature_map in feature_maps], axis=-1)

    def __call__(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.classifier(self.features(images, train=train, rngs=rngs), train=train, rngs=rngs)


def freeze_modules(model: FerNet, is_frozen: Callable[[tuple[Any, ...]], bool]) -> None:
    """Make the frozen parts of a model act in training mode as in evaluation.

    `is_frozen` tells from its path whether a parameter is frozen. A module with a `frozen` attribute (batch
    normalisation, inverted residual, hidden layer of the classifier) becomes frozen if all its parameters are. In a
    block of which only a part is frozen, the frozen batch normalisations use their running statistics, and the block
    may still be dropped.
    """
    training = [path for path in leaves_by_path(nnx.to_pure_dict(nnx.state(model, nnx.Param))) if not is_frozen(path)]
    for module_path, module in nnx.iter_modules(model):
        if hasattr(module, "frozen"):
            module.frozen = not any(path[: len(module_path)] == module_path for path in training)
