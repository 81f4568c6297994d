"""The blocks of a config's backbones one by one, forward and backward: each compiles in much less time than a step."""

import math
from collections.abc import Iterator

import jax
from flax import nnx
from ml_collections import ConfigDict

from fer_jax.compile_check import hlo
from fer_jax.compile_check.cost import program_cost
from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.models.backbone import BackboneOptions, BackboneSpec, InvertedResidual, Stage
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES
from fer_jax.training.state import split_model

BlockShape = tuple[int, int, Stage]
"""Pixels along a side of a block's input, its channels, and the block as a stage of one repeat."""


def block_shapes(spec: BackboneSpec, input_size: int) -> dict[BlockShape, int]:
    """Return the distinct blocks of a backbone in order, with the number of times each occurs."""
    shapes: dict[BlockShape, int] = {}
    size, channels = math.ceil(input_size / 2), spec.stem_channels
    for stage in spec.stages:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            shape = (size, channels, Stage(1, stage.kernel, stride, stage.channels, stage.expansion))
            shapes[shape] = shapes.get(shape, 0) + 1
            size, channels = math.ceil(size / stride), stage.channels
    return shapes


def lower_block(
    spec: BackboneSpec,
    options: BackboneOptions,
    shape: BlockShape,
    batch: int,
    seeds: int,
    sharding: jax.sharding.Sharding,
) -> jax.stages.Lowered:
    """Lower the gradients of one block in training mode, of its parameters and its input, for `seeds` together.

    Input and gradient come from main memory, [batch, h, w, c] of each seed in the dtype of `options`.
    """
    size, inputs, stage = shape

    def made():
        rngs = nnx.Rngs(0)
        return InvertedResidual(
            spec, options, inputs=inputs, stage=stage, stride=stage.stride, drop_path_rate=0.0, rngs=rngs
        )

    graphdef, params, batch_stats = split_model(nnx.eval_shape(made))

    def gradients(params, batch_stats, x, gradient):
        def forward(params, x):
            model = nnx.merge(graphdef, params, batch_stats)
            return model(x, train=True, rngs=None), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        _, backward, new_stats = jax.vjp(forward, params, x, has_aux=True)
        return backward(gradient), new_stats

    def of_seeds(leaf):
        shape = leaf.shape if seeds == 1 else (seeds, *leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    out = math.ceil(size / stage.stride)
    x = jax.ShapeDtypeStruct((batch, size, size, inputs), options.dtype)
    gradient = jax.ShapeDtypeStruct((batch, out, out, stage.channels), options.dtype)
    arguments = jax.tree.map(of_seeds, (params, batch_stats, x, gradient))
    return jax.jit(gradients if seeds == 1 else jax.vmap(gradients)).lower(*arguments)


def block_lines(config: ConfigDict, mesh: jax.sharding.Mesh, batch_per_chip: int, seeds: int) -> Iterator[str]:
    """Compile each distinct block of the config's backbones for one chip, and yield a line of figures for each."""
    sharding = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])
    backbones = [BACKBONES[name] for name in config.model.backbones]
    options = model_spec(config, backbones, NUM_EXPRESSIONS).options
    for spec in backbones:
        for shape, times in block_shapes(spec, config.model.input_size).items():
            compiled = lower_block(spec, options, shape, batch_per_chip, seeds, sharding).compile()
            text = compiled.as_text() or ""
            size, inputs, stage = shape
            yield (
                f"{spec.name} {size} x {size} x {inputs} to {stage.channels}, expanded {stage.expansion} x, "
                f"{stage.kernel} x {stage.kernel} / {stage.stride}, {times} in the network: "
                f"{hlo.estimated_cycles(text) / 1e6:.2f} million cycles, {hlo.main_memory_bytes(text) / 1e6:.0f} MB of "
                f"HBM traffic, {program_cost(compiled).temporary_bytes / 1e6:.0f} MB of temporaries"
            )
