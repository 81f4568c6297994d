"""The layers of a backbone in the order of its computation, with the shapes of their arrays, from its table alone."""

import dataclasses
from collections.abc import Iterator

from fer_jax.models.spec import BackboneSpec

RUNNING_STATISTICS = ("mean", "var")
"""The arrays of a batch normalisation that are no parameters."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights.

    `path` leads to it in the module, such as ("blocks", 3, "depthwise", "conv"); `kind` is "conv", "depthwise",
    "norm", "gate" (a dense layer that the published models write as a 1x1 convolution) or "dense". `kernel_size` is
    1 where it says nothing.
    """

    path: tuple[str | int, ...]
    kind: str
    inputs: int
    outputs: int
    kernel_size: int = 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array, by its name in the module."""
        k = self.kernel_size
        if self.kind == "norm":
            return dict.fromkeys(("scale", "bias", *RUNNING_STATISTICS), (self.outputs,))
        if self.kind == "conv":
            return {"kernel": (k, k, self.inputs, self.outputs)}
        if self.kind == "depthwise":
            return {"kernel": (k, k, 1, self.outputs)}
        return {"kernel": (self.inputs, self.outputs), "bias": (self.outputs,)}


def backbone_layers(spec: BackboneSpec) -> list[Layer]:
    """Return all layers with weights of a `Backbone`: stem, blocks, top."""
    layers = list(_conv_norm(("stem",), 3, spec.stem_channels, kernel_size=3))
    channels, block = spec.stem_channels, 0
    for stage in spec.stages:
        for _ in range(stage.repeats):
            path, expanded = ("blocks", block), channels * stage.expansion
            if stage.expansion != 1:
                layers += _conv_norm((*path, "expand"), channels, expanded)
            layers += _conv_norm((*path, "depthwise"), expanded, expanded, kernel_size=stage.kernel, kind="depthwise")
            if spec.squeeze_excite:
                reduced = max(1, int(channels * spec.squeeze_excite))
                layers.append(Layer((*path, "squeeze_excite", "reduce"), "gate", expanded, reduced))
                layers.append(Layer((*path, "squeeze_excite", "expand"), "gate", reduced, expanded))
            layers += _conv_norm((*path, "project"), expanded, stage.channels)
            channels, block = stage.channels, block + 1
    return [*layers, *_conv_norm(("top",), channels, spec.top_channels)]


def _conv_norm(path, inputs: int, outputs: int, *, kernel_size: int = 1, kind: str = "conv") -> Iterator[Layer]:
    yield Layer((*path, "conv"), kind, inputs, outputs, kernel_size)
    yield Layer((*path, "norm"), "norm", outputs, outputs)
