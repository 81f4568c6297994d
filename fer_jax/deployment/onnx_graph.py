"""A network as an ONNX graph, written from its own description.

The graph is NCHW, as onnxruntime computes; convolutions pad by explicit amounts, which may differ between the two sides
(`padding="same"` of a strided convolution), so all sizes but the batch's are constants. Batch normalisation in
evaluation is a factor and a shift of each channel: both are folded into the convolution before it, and so is the
division of the preprocessing. The resize is two matrix products, along rows and along columns.

Opset 17 and IR version 8 are of 2022: onnxruntime reads them since 1.12, and so do the other runtimes.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import fer_jax
from fer_jax.deployment.metadata import ExportMetadata
from fer_jax.deployment.network import ExportNetwork
from fer_jax.errors import InputError
from fer_jax.models.convolutions.depthwise import padding_amounts
from fer_jax.models.spec import BackboneSpec

_OPSET, _IR_VERSION = 17, 8
_CHANNEL_BLOCK = 16  # Of onnxruntime's layout, where the processor has AVX-512; 8 elsewhere.

STORAGES = ("float32", "float16")
"""How kernels are stored. They are computed with in float32: runtimes convert them once, when they load the file."""


def onnx_model(network: ExportNetwork, metadata: ExportMetadata, storage: str = "float32") -> onnx.ModelProto:
    """Return `network` as a model from `images`, uint8 [n, *image_shape], to `probabilities`, float32 [n, classes].

    `storage` is one of `STORAGES`. Raises `InputError` if a kernel cannot be stored so.
    """
    graph = _Graph(storage)
    inputs = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", *network.image_shape])
    outputs = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", network.spec.num_classes])
    _network(graph, network)
    model = helper.make_model(
        helper.make_graph(graph.nodes, "fer_jax", [inputs], [outputs], graph.initializers, value_info=graph.shapes),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="fer_jax",
        producer_version=fer_jax.__version__,
    )
    helper.set_model_props(model, metadata.encode())
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The nodes, the constants and the shapes to be told so far. Each node has one output, of its own name."""

    def __init__(self, storage: str):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: list[onnx.ValueInfoProto] = []
        self._storage = storage

    def node(self, name: str, op: str, *inputs: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray | np.float32) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def kernel(self, name: str, array: np.ndarray) -> str:
        array = array.astype(np.float32)
        if self._storage == "float32":
            return self.constant(name, array)
        with np.errstate(over="ignore"):
            halves = array.astype(np.float16)
        if not np.isfinite(halves).all():
            raise InputError(f"{name}: has values beyond float16, up to {abs(array).max():g}; use --storage=float32")
        return self.node(name, "Cast", self.constant(f"{name}/float16", halves), to=TensorProto.FLOAT)

    def activation(self, x: str, kind: str | None) -> str:
        if kind is None:
            return x
        if kind == "relu6":
            bounds = [self.constant(f"{x}/relu6/{bound}", np.float32(bound)) for bound in (0, 6)]
            return self.node(f"{x}/relu6", "Clip", x, *bounds)
        if kind == "swish":
            return self.node(f"{x}/swish", "Mul", x, self.node(f"{x}/sigmoid", "Sigmoid", x))
        raise InputError(f"activation {kind!r}: is not known to the ONNX export")

    def dense(self, name: str, x: str, layer: dict) -> str:
        kernel, bias = self.kernel(f"{name}/kernel", layer["kernel"]), self.constant(f"{name}/bias", layer["bias"])
        return self.node(name, "Gemm", x, kernel, bias)


def _network(graph: _Graph, network: ExportNetwork) -> None:
    spec, params = network.spec, network.params
    x = _resized(graph, network)
    if network.flip:
        # The mirror images follow in the same batch: [2 n, channels, size, size].
        backwards = [graph.constant(f"mirror/{key}", np.array([v])) for key, v in _LAST_AXIS_BACKWARDS.items()]
        x = graph.node("with_mirror", "Concat", x, graph.node("mirrored", "Slice", x, *backwards), axis=0)
    features = []
    # The network holds its backbones by name, so their features follow each other in the order of the names.
    for backbone in sorted(spec.backbones, key=lambda backbone: backbone.name):
        weights = params["backbones"][backbone.name], network.batch_stats["backbones"][backbone.name]
        features.append(_pooled(graph, spec.pooling, _backbone(graph, x, backbone, *weights, spec.input_size)))
    x = graph.node("features", "Concat", *features, axis=1)
    classifier = params["classifier"]
    for index in range(len(spec.hidden_units)):
        name = f"classifier/hidden/{index}"
        x = graph.node(f"{name}/relu", "Relu", graph.dense(name, x, classifier["hidden"][index]))
    _probabilities(graph, graph.dense("classifier/logits", x, classifier["logits"]), network.flip, network.temperature)


_LAST_AXIS_BACKWARDS = {"start": -1, "end": np.iinfo(np.int64).min, "axis": 3, "step": -1}


def _resized(graph: _Graph, network: ExportNetwork) -> str:
    """The images as float32 [n, channels, input_size, input_size], on the scale of the input."""
    if len(network.image_shape) == 3:
        x = graph.node("planes", "Transpose", "images", perm=(0, 3, 1, 2))
    else:
        x = graph.node("planes", "Unsqueeze", "images", graph.constant("planes/axis", np.array([1])))
    x = graph.node("planes/float32", "Cast", x, to=TensorProto.FLOAT)
    (height, width), size = network.image_shape[:2], network.spec.input_size
    if height != size:
        x = graph.node("resize/rows", "MatMul", graph.constant("resize/down", _resize_matrix(height, size)), x)
    if width != size:
        x = graph.node("resize/columns", "MatMul", x, graph.constant("resize/right", _resize_matrix(width, size).T))
    return x


def _resize_matrix(size: int, output_size: int) -> np.ndarray:
    """Linear interpolation from `size` to `output_size` pixels, float32 [output_size, size], as `affine.resize`."""
    positions = (np.arange(output_size) + 0.5) * size / output_size - 0.5
    weights = np.maximum(0, 1 - abs(positions[:, None] - np.arange(size)))
    # Beyond the centre of the outermost pixel, that pixel alone counts.
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _backbone(graph: _Graph, x: str, spec: BackboneSpec, params: dict, batch_stats: dict, size: int) -> str:
    """The feature map [n, top_channels, h, w] of the images `x`, square of `size` pixels."""
    name = spec.name

    def conv_norm(x: str, *path: str | int, stride: int = 1, size: int = 1, activation: str | None = None) -> str:
        layer, statistics = params, batch_stats
        for key in path:
            layer, statistics = layer[key], statistics[key]
        factor = layer["norm"]["scale"] / np.sqrt(
            statistics["norm"]["var"].astype(np.float64) + spec.batch_norm_epsilon
        )
        kernel = layer["conv"]["kernel"] * factor  # [k, k, inputs or 1, outputs]
        if path == ("stem",):
            kernel = kernel / np.array(spec.preprocessing.std)[:, None]
        here = "/".join(map(str, (name, *path)))
        bias = (layer["norm"]["bias"] - statistics["norm"]["mean"] * factor).astype(np.float32)
        before, after = padding_amounts(spec.padding, size, kernel.shape[0], stride)
        x = graph.node(
            here,
            "Conv",
            x,
            graph.kernel(f"{here}/kernel", kernel.transpose(3, 2, 0, 1)),
            graph.constant(f"{here}/bias", bias),
            group=kernel.shape[3] if path[-1] == "depthwise" else 1,
            kernel_shape=kernel.shape[:2],
            strides=(stride, stride),
            pads=(before, before, after, after),
        )
        return graph.activation(x, activation)

    mean = graph.constant(f"{name}/mean", np.array(spec.preprocessing.mean, np.float32).reshape(1, 3, 1, 1))
    x = conv_norm(
        graph.node(f"{name}/centred", "Sub", x, mean), "stem", stride=2, size=size, activation=spec.activation
    )
    size = -(-size // 2)
    channels = spec.stem_channels
    strides = [(stage, stage.stride if repeat == 0 else 1) for stage in spec.stages for repeat in range(stage.repeats)]
    for index, (stage, stride) in enumerate(strides):
        block, shortcut = ("blocks", index), x
        if stage.expansion != 1:
            x = conv_norm(x, *block, "expand", activation=spec.activation)
        x = conv_norm(x, *block, "depthwise", stride=stride, size=size, activation=spec.activation)
        if spec.squeeze_excite:
            layers = params["blocks"][index]["squeeze_excite"]
            x = _gated(graph, x, layers, (channels * stage.expansion, -(-size // stride)))
        x = conv_norm(x, *block, "project")
        if stride == 1 and channels == stage.channels:
            x = graph.node(f"{x}/added", "Add", shortcut, x)
        size, channels = -(-size // stride), stage.channels
    return conv_norm(x, "top", activation=spec.activation)


def _gated(graph: _Graph, x: str, layers: dict, shape: tuple[int, int]) -> str:
    """The feature map `x` [n, channels, size, size], whose channels and size are `shape`, times its gates."""
    channels, size = shape
    gate = graph.node(f"{x}/mean", "GlobalAveragePool", x)
    # Channels of zeros, which swish and the second layer leave alone: onnxruntime's layout has blocks of channels.
    padding = -layers["reduce"]["kernel"].shape[1] % _CHANNEL_BLOCK
    paddings = {"reduce": (0, padding), "expand": (padding, 0)}
    for step, activation in (("reduce", "swish"), ("expand", None)):
        before, after = paddings[step]
        weights = np.pad(layers[step]["kernel"], ((0, before), (0, after)))
        # A dense layer on [n, channels, 1, 1] is a convolution.
        kernel = graph.kernel(f"{x}/{step}/kernel", weights.T[:, :, None, None])
        bias = graph.constant(f"{x}/{step}/bias", np.pad(layers[step]["bias"], (0, after)))
        gate = graph.activation(graph.node(f"{x}/{step}", "Conv", gate, kernel, bias), activation)
    gate = graph.node(f"{x}/gate", "Sigmoid", gate)
    if size > 1:
        # A product with the gates as they are, [n, channels, 1, 1], onnxruntime computes in another layout only, into
        # and out of which it would copy the feature map. That it may stay, it has to know that n is the same n.
        scales = graph.constant(f"{x}/gates/scales", np.array([1, 1, size, size], np.float32))
        nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        gate = graph.node(f"{x}/gates", "Resize", gate, "", scales, **nearest)
        graph.shapes.append(helper.make_tensor_value_info(gate, TensorProto.FLOAT, ["n", channels, size, size]))
    return graph.node(f"{x}/gated", "Mul", x, gate)


def _pooled(graph: _Graph, pooling: str, x: str) -> str:
    """The features [n, width] of a feature map [n, c, h, w]."""
    if pooling == "flatten":
        # The network flattens [n, h, w, c].
        x = graph.node(f"{x}/rows_first", "Transpose", x, perm=(0, 2, 3, 1))
    elif pooling in ("avg", "max"):
        x = graph.node(f"{x}/{pooling}", {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}[pooling], x)
    else:
        raise InputError(f"config.model.pooling={pooling!r}: is not known to the ONNX export; use --format=stablehlo")
    return graph.node(f"{x}/features", "Flatten", x)


def _probabilities(graph: _Graph, logits: str, flip: bool, temperature: float) -> None:
    def softmax(x: str, name: str) -> str:
        return graph.node(name, "Softmax", x, axis=1)

    def cooled(x: str) -> str:
        return (
            x
            if temperature == 1
            else graph.node("cooled", "Div", x, graph.constant("temperature", np.float32(temperature)))
        )

    if not flip:
        softmax(cooled(logits), "probabilities")
        return
    # As the network evaluates: the mean of both, and the temperature for its logarithm.
    both = softmax(logits, "both")
    graph.nodes.append(helper.make_node("Split", [both], ["plain", "mirror"], name="split", axis=0))
    mean = graph.node(
        "probabilities" if temperature == 1 else "mean",
        "Mul",
        graph.node("sum", "Add", "plain", "mirror"),
        graph.constant("half", np.float32(0.5)),
    )
    if temperature != 1:
        softmax(cooled(graph.node("log", "Log", mean)), "probabilities")
