"""The table of layers of a network: output shapes and parameter counts, computed without running it."""

import io
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.table import Table

from fer_jax.models.backbone import Backbone
from fer_jax.models.fernet import FerNet, FerNetSpec
from fer_jax.models.initialisation import NoKeys


def layer_table(spec: FerNetSpec) -> str:
    """Return the layers of a `FerNet` as text: name, output shape for one image, parameters, running statistics."""
    model = FerNet(spec, rngs=NoKeys())  # type: ignore[arg-type]  # all of it that is used
    table = Table("layer", "output", title=f"FerNet at {spec.input_size} x {spec.input_size} pixels")
    table.add_column("parameters", justify="right")
    table.add_column("statistics", justify="right")

    def add(name: str, output: tuple[int, ...], module: nnx.Module, end_section: bool = False) -> None:
        shape = " x ".join(map(str, output))
        table.add_row(name, shape, *(f"{n:,}" if n else "" for n in _counts(module)), end_section=end_section)

    image = jax.ShapeDtypeStruct((1, spec.input_size, spec.input_size), jnp.float32)
    for name, backbone in model.backbones.items():
        outputs = _backbone_outputs(backbone, image)
        layers = {
            "stem": backbone.stem,
            **{f"blocks/{i}": b for i, b in enumerate(backbone.blocks)},
            "top": backbone.top,
        }
        for (layer, module), output in zip(layers.items(), outputs, strict=True):
            kind = f" {_block_kind(module)}" if layer.startswith("blocks") else ""
            add(f"{name}/{layer}{kind}", output, module)
        add(f"{name} in all", outputs[-1], backbone, end_section=True)
    for i, (units, module) in enumerate(zip(spec.hidden_units, model.classifier.hidden, strict=True)):
        add(f"classifier/hidden/{i}", (units,), module)
    add("classifier/logits", (spec.num_classes,), model.classifier.logits, end_section=True)
    add("in all", (spec.num_classes,), model)

    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


def _counts(module: nnx.Module) -> tuple[int, int]:
    params, batch_stats = (jax.tree.leaves(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return sum(leaf.size for leaf in params), sum(leaf.size for leaf in batch_stats)


def _backbone_outputs(backbone: Backbone, image: jax.ShapeDtypeStruct) -> list[tuple[int, ...]]:
    graphdef, state = nnx.split(backbone)

    def run(state, image):
        return nnx.merge(graphdef, state).stages(image)

    return [output.shape[1:] for output in jax.eval_shape(run, state, image)]


def _block_kind(block: Any) -> str:
    conv = block.depthwise.conv
    size = conv.kernel.shape[0]
    return f"{size}x{size}{' /2' if conv.stride == 2 else ''}{' +' if block.is_residual else ''}"
