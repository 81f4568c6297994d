"""Networks of inverted residual blocks, each described by a table: MobileNetV2 and the EfficientNets."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fer_jax.models.batch_norm import BatchNorm
from fer_jax.models.convolutions.depthwise import DepthwiseConv
from fer_jax.models.layers import Conv, SqueezeExcite, drop_path
from fer_jax.models.spec import BackboneSpec as BackboneSpec
from fer_jax.models.spec import Preprocessing as Preprocessing
from fer_jax.models.spec import Stage as Stage


@dataclasses.dataclass(frozen=True)
class BackboneOptions:
    """The options of the config for every backbone: drop path rate of the last block, BN decay, dtype, lowering.

    `batch_norm_momentum` None is each backbone's own (`BackboneSpec`).

    With `rematerialise` the backward pass computes what is inside a block again, from the block's input, instead of
    keeping it: a third more operations, and far less memory (`docs/performance.md`).
    """

    drop_path: float = 0.2
    batch_norm_momentum: float | None = None
    dtype: jnp.dtype = jnp.float32
    depthwise_lowering: str = "auto"
    rematerialise: bool = False


class ConvNorm(nnx.Module):
    """A convolution (dense or depthwise), its batch normalisation and an optional activation."""

    def __init__(self, conv: nnx.Module, norm: BatchNorm, activation: str | None):
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self.norm(self.conv(x), self.activation, train=train)


def _norm_options(spec: BackboneSpec, options: BackboneOptions, rngs: nnx.Rngs) -> dict[str, Any]:
    given = options.batch_norm_momentum
    momentum = spec.batch_norm_momentum if given is None else given
    return {"momentum": momentum, "epsilon": spec.batch_norm_epsilon, "rngs": rngs}


class InvertedResidual(nnx.Module):
    """Expand by 1x1, convolve each channel, gate, project by 1x1; add the input where the shapes agree.

    A `frozen` block never drops its residual branch.
    """

    frozen = False

    def __init__(
        self,
        spec: BackboneSpec,
        options: BackboneOptions,
        *,
        inputs: int,
        stage: Stage,
        stride: int,
        drop_path_rate: float,
        rngs: nnx.Rngs,
    ):
        expanded = inputs * stage.expansion
        norm = _norm_options(spec, options, rngs)
        pointwise: dict[str, Any] = {"dtype": options.dtype, "rngs": rngs}
        if stage.expansion != 1:
            self.expand = ConvNorm(Conv(inputs, expanded, **pointwise), BatchNorm(expanded, **norm), spec.activation)
        depthwise = DepthwiseConv(
            expanded,
            stage.kernel,
            stride=stride,
            padding=spec.padding,
            dtype=options.dtype,
            lowering=options.depthwise_lowering,
            rngs=rngs,
        )
        self.depthwise = ConvNorm(depthwise, BatchNorm(expanded, **norm), spec.activation)
        if spec.squeeze_excite:
            reduced = max(1, int(inputs * spec.squeeze_excite))
            self.squeeze_excite = SqueezeExcite(expanded, reduced, **pointwise)
        self.project = ConvNorm(Conv(expanded, stage.channels, **pointwise), BatchNorm(stage.channels, **norm), None)
        self.has_expand = stage.expansion != 1
        self.has_gate = bool(spec.squeeze_excite)
        self.is_residual = stride == 1 and inputs == stage.channels
        self.drop_path_rate = drop_path_rate if self.is_residual else 0.0

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        branch = self.expand(x, train=train) if self.has_expand else x
        branch = self.depthwise(branch, train=train)
        if self.has_gate:
            branch = self.squeeze_excite(branch)
        branch = self.project(branch, train=train)
        if not self.is_residual:
            return branch
        if train and self.drop_path_rate and not self.frozen:
            assert rngs is not None, "training mode with drop path needs rngs"
            branch = drop_path(branch, self.drop_path_rate, rngs)
        return x + branch


class Backbone(nnx.Module):
    """The network of a `BackboneSpec` without its ImageNet classifier.

    It takes images in 0..255, float32, gray [n, h, w] or RGB [n, h, w, 3], and returns the feature map
    [n, h / 32, w / 32, top_channels] in the compute dtype. Training mode normalises by batch statistics, updates the
    running ones, and needs a stream `drop_path` in `rngs`.
    """

    def __init__(self, spec: BackboneSpec, options: BackboneOptions, *, rngs: nnx.Rngs):
        norm = _norm_options(spec, options, rngs)
        conv: dict[str, Any] = {"dtype": options.dtype, "rngs": rngs}
        stem = Conv(3, spec.stem_channels, 3, stride=2, padding=spec.padding, **conv)
        self.stem = ConvNorm(stem, BatchNorm(spec.stem_channels, **norm), spec.activation)
        blocks: list[InvertedResidual] = []
        channels = spec.stem_channels
        for stage in spec.stages:
            for repeat in range(stage.repeats):
                block = InvertedResidual(
                    spec,
                    options,
                    inputs=channels,
                    stage=stage,
                    stride=stage.stride if repeat == 0 else 1,
                    # Linear in depth (Huang et al. 2016), as EfficientNet was trained: block b of n at rate b / n.
                    drop_path_rate=options.drop_path * len(blocks) / spec.num_blocks if spec.drop_path else 0.0,
                    rngs=rngs,
                )
                blocks.append(block)
                channels = stage.channels
        self.blocks = nnx.List(blocks)
        top = Conv(channels, spec.top_channels, **conv)
        self.top = ConvNorm(top, BatchNorm(spec.top_channels, **norm), spec.activation)
        self.spec = spec
        self.rematerialise = options.rematerialise

    def stages(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> list[jax.Array]:
        """Return the outputs of the stem, of each block and of the top, for comparisons layer by layer."""
        outputs = [self.stem(self.spec.preprocessing(images), train=train)]

        def apply(block, x, rngs):
            return block(x, train=train, rngs=rngs)

        if self.rematerialise and train:
            apply = nnx.remat(apply)
        for block in self.blocks:
            outputs.append(apply(block, outputs[-1], rngs))
        return [*outputs, self.top(outputs[-1], train=train)]

    def __call__(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.stages(images, train=train, rngs=rngs)[-1]
