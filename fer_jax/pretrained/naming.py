"""What Keras, torchvision, timm and EfficientNet-PyTorch call the layers of each backbone.

Read off `keras.applications` 3.15, torchvision 0.29, timm 1.0 and EfficientNet-PyTorch 0.6; the tests hold these
tables against the models themselves.
"""

import dataclasses
import re
import string
from collections.abc import Mapping
from typing import Any

from fer_jax.models.spec import BackboneSpec
from fer_jax.pretrained.layers import Layer, backbone_layers


@dataclasses.dataclass(frozen=True)
class Naming:
    """One naming of the layers of a backbone.

    `stem` and `top` are convolution and normalisation. `block` maps the part of a block to a format of the number of
    its stage, of the block in the stage (`repeat`, or `letter`) and in the network (`block`), all from 0;
    `first_block` replaces it for blocks without expansion. `heads` are the names that the ImageNet classifier goes by.
    """

    stem: tuple[str, str]
    block: Mapping[str, str]
    first_block: Mapping[str, str]
    top: tuple[str, str]
    heads: tuple[str, ...]

    def is_of_a_block(self, name: str) -> bool:
        """Return whether a layer is called like one of a block, of this backbone or of a larger one."""
        starts = {text.partition("{")[:2] for text in (*self.block.values(), *self.first_block.values())}
        return any(re.match(re.escape(start) + (r"\d" if brace else ""), name) for start, brace in starts)

    def within(self, prefix: str) -> "Naming":
        """Return the naming of the part of a model whose names begin with `prefix`, without it."""

        def cut(names: Mapping[str, str]) -> dict[str, str]:
            return {part: name.removeprefix(prefix) for part, name in names.items()}

        def cut_pair(pair: tuple[str, str]) -> tuple[str, str]:
            return pair[0].removeprefix(prefix), pair[1].removeprefix(prefix)

        return Naming(cut_pair(self.stem), cut(self.block), cut(self.first_block), cut_pair(self.top), heads=())

    def names(self, spec: BackboneSpec) -> dict[str, Layer]:
        """Return the layers of `spec` by their names, in the order of computation."""
        ends = {
            ("stem", "conv"): self.stem[0],
            ("stem", "norm"): self.stem[1],
            ("top", "conv"): self.top[0],
            ("top", "norm"): self.top[1],
        }
        places: list[dict[str, Any]] = [
            {"stage": s, "stage_from_1": s + 1, "repeat": repeat, "letter": string.ascii_lowercase[repeat]}
            | {"formats": self.block if stage.expansion != 1 else self.first_block}
            for s, stage in enumerate(spec.stages)
            for repeat in range(stage.repeats)
        ]
        named = {}
        for layer in backbone_layers(spec):
            if layer.path in ends:
                named[ends[layer.path]] = layer
            else:
                _, index, *part = layer.path
                block = int(index)
                place = places[block]
                text = place["formats"]["/".join(map(str, part))]
                named[text.format(block=block, block_from_1=block + 1, **place)] = layer
        return named


_PARTS = (
    "expand/conv",
    "expand/norm",
    "depthwise/conv",
    "depthwise/norm",
    "squeeze_excite/reduce",
    "squeeze_excite/expand",
    "project/conv",
    "project/norm",
)
_PLAIN_PARTS = tuple(part for part in _PARTS if not part.startswith("squeeze_excite"))


def _block(prefix: str, names: str, parts: tuple[str, ...] = _PARTS) -> dict[str, str]:
    """Formats for the last of `parts`, as many as there are in `names`."""
    found = names.split()
    return dict(zip(parts[-len(found) :], (prefix + name for name in found), strict=True))


_KERAS_EFFICIENTNET = "block{stage_from_1}{letter}_"
_KERAS_EFFICIENTNET_BLOCK = _block(
    _KERAS_EFFICIENTNET, "expand_conv expand_bn dwconv bn se_reduce se_expand project_conv project_bn"
)
KERAS_EFFICIENTNET = Naming(
    stem=("stem_conv", "stem_bn"),
    block=_KERAS_EFFICIENTNET_BLOCK,
    first_block=_KERAS_EFFICIENTNET_BLOCK,
    top=("top_conv", "top_bn"),
    heads=("predictions", "probs"),
)
KERAS_MOBILENET = Naming(
    stem=("Conv1", "bn_Conv1"),
    block=_block("block_{block}_", "expand expand_BN depthwise depthwise_BN project project_BN", _PLAIN_PARTS),
    first_block=_block("expanded_conv_", "depthwise depthwise_BN project project_BN", _PLAIN_PARTS),
    top=("Conv_1", "Conv_1_bn"),
    heads=("predictions", "Logits"),
)
_PUBLISHED_MOBILENET_BLOCK = {
    "expand/conv": "mobl{block}_conv_{block}_expand",
    "expand/norm": "bn{block}_conv_{block}_bn_expand",
    "depthwise/conv": "mobl{block}_conv_{block}_depthwise",
    "depthwise/norm": "bn{block}_conv_{block}_bn_depthwise",
    "project/conv": "mobl{block}_conv_{block}_project",
    "project/norm": "bn{block}_conv_{block}_bn_project",
}
# The files that Keras downloads were written by an older version of it.
PUBLISHED_KERAS_MOBILENET = dataclasses.replace(
    KERAS_MOBILENET, block=_PUBLISHED_MOBILENET_BLOCK, first_block=_PUBLISHED_MOBILENET_BLOCK
)
TORCHVISION_EFFICIENTNET = Naming(
    stem=("features.0.0", "features.0.1"),
    block=_block("features.{stage_from_1}.{repeat}.block.", "0.0 0.1 1.0 1.1 2.fc1 2.fc2 3.0 3.1"),
    first_block=_block("features.{stage_from_1}.{repeat}.block.", "0.0 0.1 1.fc1 1.fc2 2.0 2.1"),
    top=("features.8.0", "features.8.1"),
    heads=("classifier.1",),
)
TORCHVISION_MOBILENET = Naming(
    stem=("features.0.0", "features.0.1"),
    block=_block("features.{block_from_1}.conv.", "0.0 0.1 1.0 1.1 2 3", _PLAIN_PARTS),
    first_block=_block("features.{block_from_1}.conv.", "0.0 0.1 1 2", _PLAIN_PARTS),
    top=("features.18.0", "features.18.1"),
    heads=("classifier.1",),
)
TIMM = Naming(
    stem=("conv_stem", "bn1"),
    block=_block("blocks.{stage}.{repeat}.", "conv_pw bn1 conv_dw bn2 se.conv_reduce se.conv_expand conv_pwl bn3"),
    first_block=_block("blocks.{stage}.{repeat}.", "conv_dw bn1 se.conv_reduce se.conv_expand conv_pw bn2"),
    top=("conv_head", "bn2"),
    heads=("classifier",),
)
_EFFICIENTNET_PYTORCH_BLOCK = _block(
    "_blocks.{block}.", "_expand_conv _bn0 _depthwise_conv _bn1 _se_reduce _se_expand _project_conv _bn2"
)
EFFICIENTNET_PYTORCH = Naming(
    stem=("_conv_stem", "_bn0"),
    block=_EFFICIENTNET_PYTORCH_BLOCK,
    first_block=_EFFICIENTNET_PYTORCH_BLOCK,
    top=("_conv_head", "_bn1"),
    heads=("_fc",),
)
