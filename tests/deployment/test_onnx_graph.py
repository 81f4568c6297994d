"""The ONNX graph computes what the network does, and says what it is."""

import dataclasses

import jax
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx.reference import ReferenceEvaluator

from fer_jax.deployment.onnx_graph import onnx_model
from fer_jax.deployment.onnx_model import OnnxModel
from fer_jax.errors import InputError
from fer_jax.models.fernet import BACKBONES
from fer_jax.testing import MINI, TINY


@pytest.fixture
def saved(metadata_of, tmp_path):
    """Save the graph of a network and return its place."""

    def save(network, **options):
        path = tmp_path / "network.onnx"
        onnx.save(onnx_model(network, metadata_of(network), **options), path)
        return path

    return save


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_shape": (20, 20, 3), "flip": True, "temperature": 1.7, "pooling": "max", "backbones": (TINY,)},
        # An odd size, at which `same` pads both sides alike, and images of the input size.
        {"image_shape": (27, 27), "input_size": 27, "pooling": "flatten", "backbones": (MINI,), "hidden_units": ()},
    ],
    ids=["hybrid", "rgb_flip_temperature_max", "flatten_without_resize"],
)
def test_graph_computes_what_the_network_does(make_network, saved, fields):
    network = make_network(**fields)
    images = np.random.default_rng(1).integers(0, 256, (5, *network.image_shape), dtype=np.uint8)
    expected = np.asarray(jax.jit(network.probabilities)(images))
    path = saved(network)
    model = OnnxModel(path)
    found = model.predict(images, batch_size=3)
    assert np.ptp(expected, axis=0).max() > 0.005
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(images[2:3]), expected[2:3], atol=1e-5)
    assert model.predict(images[:0]).shape == (0, 7)
    # A second runtime, written from the standard alone.
    by_standard = ReferenceEvaluator(onnx.load(path)).run(None, {"images": images[:2]})[0]
    np.testing.assert_allclose(by_standard, expected[:2], atol=1e-5)


def test_file_describes_itself(make_network, saved):
    model = OnnxModel(saved(make_network(image_shape=(20, 20, 3), temperature=1.5)))
    assert model.class_names == tuple("abcdefg")
    assert (model.image_size, model.metadata.channels, model.metadata.temperature) == ((20, 20), 3, 1.5)
    assert model.metadata.config == {"model": {"input_size": 24}}
    with pytest.raises(InputError, match=r"images: found uint8 \[1, 20, 20\], expected uint8 \[n, 20, 20, 3\]"):
        model.predict(np.zeros((1, 20, 20), np.uint8))
    with pytest.raises(InputError, match=r"found float32"):
        model.predict(np.zeros((1, 20, 20, 3), np.float32))


def test_kernels_in_float16_halve_the_file_and_keep_the_answers(make_network, saved):
    network = make_network(hidden_units=(1024,))
    images = np.random.default_rng(1).integers(0, 256, (8, 20, 20), dtype=np.uint8)
    whole = saved(network)
    size, expected = whole.stat().st_size, OnnxModel(whole).predict(images)
    halves = saved(network, storage="float16")
    assert halves.stat().st_size < 0.75 * size
    difference = abs(OnnxModel(halves).predict(images) - expected).max()
    assert 0 < difference < 0.01


def test_kernel_beyond_float16_is_named(make_network, saved):
    network = make_network()
    network.params["classifier"]["logits"]["kernel"][0, 0] = 1e6
    with pytest.raises(InputError, match=r"classifier/logits/kernel: has values beyond float16, up to 1e\+06"):
        saved(network, storage="float16")


def test_unknown_part_is_named(make_network, saved):
    with pytest.raises(InputError, match=r"config.model.pooling='softly'"):
        saved(dataclasses.replace(make_network(), spec=dataclasses.replace(make_network().spec, pooling="softly")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [("mobilenet_v2",), ("efficientnet_b0",), ("efficientnet_lite0", "mobilenet_v2")], ids="+".join
)
def test_graphs_of_the_real_networks(make_network, saved, names):
    network = make_network(
        image_shape=(48, 48), input_size=64, backbones=tuple(BACKBONES[name] for name in names), hidden_units=(64,)
    )
    images = np.random.default_rng(1).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    expected = np.asarray(jax.jit(network.probabilities)(images))
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(OnnxModel(saved(network)).predict(images), expected, atol=1e-4)
