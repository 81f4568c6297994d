"""Models of `keras.applications` whose weights make their outputs depend on the input, and the files they are kept in.

Both sides compute in float64 where they are compared. In float32 rounding grows from block to block in such networks:
PyTorch's MobileNetV2 differs from itself in float64 by 3e-4 of the output's standard deviation.
"""

import contextlib
import dataclasses
import sys
from pathlib import Path
from unittest import mock

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import nnx
from keras.src.backend.common import dtypes
from keras.src.initializers.random_initializers import VarianceScaling
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from fer_jax.models.batch_norm import BatchNorm
from fer_jax.pretrained.verify import load_backbone
from fer_jax.testing import load_script

GOLDEN = Path(__file__).parent / "golden"
KERAS_MODELS = {
    "efficientnet_b0": keras.applications.EfficientNetB0,
    "mobilenet_v2": keras.applications.MobileNetV2,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class KerasReference:
    """A Keras model with drawn weights, tapped after the stem, each block and the top, and files of it by layout."""

    architecture: str
    size: int
    model: keras.Model
    taps: keras.Model
    files: dict[str, Path]
    head: dict[str, np.ndarray]

    def stages(self, images, *, train=False):
        """Float64 arrays [n, h, w, c] for RGB images in 0..255; in training the running statistics are updated."""
        with _keras_in_float64():
            images = images.astype(np.float64)
            if self.architecture == "mobilenet_v2":
                images = keras.applications.mobilenet_v2.preprocess_input(images.copy())
            return [np.asarray(output) for output in self.taps(images, training=train)]

    def statistics(self):
        """The running mean and variance of each batch normalisation, in the order of computation."""
        return [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in _norms(self.model)]

    @contextlib.contextmanager
    def kept_statistics(self):
        """Undoes in the end what training changes."""
        before = self.statistics()
        yield
        with _keras_in_float64():
            for layer, (mean, variance) in zip(_norms(self.model), before, strict=True):
                layer.moving_mean.assign(mean)
                layer.moving_variance.assign(variance)


def _our_stages(weights, images, *, train=False, lowering="native"):
    """The same of our network in float64, and the network."""
    weights = dataclasses.replace(weights, arrays={k: a.astype(np.float64) for k, a in weights.arrays.items()})
    with jax.enable_x64(True):
        backbone = load_backbone(weights, dtype=jnp.dtype("float64"), depthwise_lowering=lowering, drop_path=0.0)
        for _, module in nnx.iter_modules(backbone):
            if isinstance(module, BatchNorm):
                module.dtype = jnp.dtype("float64")
        outputs = backbone.stages(images.astype(np.float64), train=train)
        return [np.asarray(output) for output in outputs], backbone


def _relative_difference(ours, reference):
    """The largest difference after any stage, in standard deviations of the reference there."""
    assert [a.shape for a in ours] == [b.shape for b in reference]
    return max(np.abs(a - b).max() / b.std() for a, b in zip(ours, reference, strict=True))


def _reference(architecture, size, folder):
    with _keras_in_float64(), mock.patch.object(VarianceScaling, "__call__", _zeros):
        return _build(architecture, size, folder)


@contextlib.contextmanager
def _keras_in_float64():
    """Keras on JAX otherwise normalises in float32 whatever its configuration says."""
    float_type = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        with jax.enable_x64(True), mock.patch.dict(dtypes.BIT64_TO_BIT32_DTYPE, float64="float64"):
            yield
    finally:
        keras.config.set_floatx(float_type)


def _zeros(self, shape, dtype=None):
    """Drawn anew below; Keras compiles a program for each shape it draws."""
    return np.zeros(shape)


def _build(architecture, size, folder):
    create = KERAS_MODELS[architecture]
    options = {"include_top": False, "input_shape": (size, size, 3)}
    plain = create(weights=None, **options)
    _draw(plain)
    rng = np.random.default_rng(0)
    head = {"kernel": rng.normal(size=(1280, 1000)).astype("f4"), "bias": rng.normal(size=1000).astype("f4")}
    published = folder / "published.h5"
    write_published(published, plain)
    # As Keras builds it for its users, from a file in the layout that it downloads.
    with mock.patch.object(file_utils, "get_file", return_value=str(published)):
        model = create(weights="imagenet", **options)
    assert plain.count_params() == model.count_params()

    names = [layer.name for layer in model.layers]
    ends = [name for name in names if name.lower().endswith("project_bn")]
    ends = [add if (add := _add_after(name)) in names else name for name in ends]
    stem, top = {
        "efficientnet_b0": ("stem_activation", "top_activation"),
        "mobilenet_v2": ("Conv1_relu", "out_relu"),
    }[architecture]
    taps = keras.Model(model.input, [model.get_layer(name).output for name in (stem, *ends, top)])
    files = {name: folder / f"{name}.h5" for name in ("whole_model", "nested", "legacy_weights")}
    files |= {"published": published, "weights_h5": folder / "keras3.weights.h5"}
    files |= {"nested_weights_h5": folder / "nested.weights.h5"}
    reference = KerasReference(architecture, size, model, taps, files, head)
    _calibrate(reference)
    write_published(published, model, head)
    model.save(files["whole_model"])
    model.save_weights(files["weights_h5"])
    with h5py.File(files["legacy_weights"], "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    nested = keras.Sequential([keras.Input((size, size, 3)), model, keras.layers.GlobalAveragePooling2D()])
    nested.add(keras.layers.Dense(7))
    # Keras then lists the weights that train before those that do not.
    for layer in model.layers[: len(model.layers) // 2]:
        layer.trainable = False
    nested.save(files["nested"])
    nested.save_weights(files["nested_weights_h5"])
    model.trainable = True
    return reference


def _add_after(name):
    return name.rpartition("_project")[0] + "_add"


def _draw(model):
    """He et al.'s gain over the inputs of each kernel, gamma in [0.5, 1.5], beta N(0, 0.3); float32 numbers."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(np.float32(rng.uniform(0.5, 1.5, layer.gamma.shape)))
            layer.beta.assign(np.float32(rng.normal(0, 0.3, layer.beta.shape)))
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            shape = layer.kernel.shape
            inputs = np.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:3])
            layer.kernel.assign(np.float32(rng.normal(0, np.sqrt(2 / inputs), shape)))
            if layer.use_bias:
                layer.bias.assign(np.float32(rng.normal(0, 0.3, layer.bias.shape)))


def _norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _calibrate(reference):
    """Sets the running statistics to those of a training pass, in float32."""
    for layer in reference.model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    norms = _norms(reference.model)
    own = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    rng = np.random.default_rng(1)
    reference.stages(rng.uniform(0, 255, (2, reference.size, reference.size, 3)), train=True)
    for layer, momentum in zip(norms, own, strict=True):
        layer.momentum = momentum
        for variable in (layer.moving_mean, layer.moving_variance):
            variable.assign(np.float32(variable.numpy()))


def write_published(path, model, head=None):
    """The layout of the files that Keras downloads: names in bytes, `:0`, old names of layers; `head` as its last."""
    with h5py.File(path, "w") as file:
        layers = {_old_name(layer.name): _published_weights(layer) for layer in model.layers}
        if head is not None:
            layers["predictions"] = {f"{name}:0": value for name, value in head.items()}
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.1.6"
        for layer, weights in layers.items():
            names = [f"{layer}/{weight}" for weight in weights]
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
            for name, value in zip(names, weights.values(), strict=True):
                group.create_dataset(name, data=np.float32(value))


def _published_weights(layer):
    if isinstance(layer, keras.layers.Normalization):
        # The published file has the standard deviations where the variances belong.
        return {"mean:0": np.array(IMAGENET_MEAN), "variance:0": np.array(IMAGENET_STD), "count:0": np.int64(0)}
    weights = {variable.name: variable.numpy() for variable in layer.weights if "seed" not in variable.name}
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        weights = {"depthwise_kernel": weights["kernel"]}
    return {f"{name}:0": value for name, value in weights.items()}


def _old_name(name):
    """Of a layer of MobileNetV2, in the Keras that wrote its file; other names are unchanged."""
    block, _, part = name.replace("expanded_conv_", "block_0_").removeprefix("block_").partition("_")
    kind, _, norm = part.partition("_")
    if not block.isdigit() or kind not in ("expand", "depthwise", "project"):
        return name
    return f"bn{block}_conv_{block}_bn_{kind}" if norm == "BN" else f"mobl{block}_conv_{block}_{part}"


@pytest.fixture(scope="session")
def keras_reference(tmp_path_factory):
    """The reference of an architecture at a size in pixels, built once."""
    built = {}

    def get(architecture, size=200):
        if (architecture, size) not in built:
            folder = tmp_path_factory.mktemp(f"{architecture}-{size}")
            built[architecture, size] = _reference(architecture, size, folder)
        return built[architecture, size]

    return get


@pytest.fixture(scope="session")
def our_stages():
    return _our_stages


@pytest.fixture(scope="session")
def relative_difference():
    return _relative_difference


@pytest.fixture(scope="session")
def golden_folder():
    return GOLDEN


@pytest.fixture(scope="session")
def drawing():
    return _load(GOLDEN / "drawing.py")


@pytest.fixture(scope="session")
def torch_models(drawing):
    """The models of timm and torchvision; skips where these are not installed."""
    for name in ("torch", "torchvision", "timm"):
        pytest.importorskip(name)
    return _load(GOLDEN / "torch_models.py")


def _load(path):
    """A module beside the tests, which pytest's importlib mode does not put on the path; one may import another."""
    if path.stem not in sys.modules:
        sys.modules[path.stem] = load_script(path)
    return sys.modules[path.stem]
