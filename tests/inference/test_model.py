"""A trained model in a notebook: predict, features, explain, by `fer_jax.load`."""

import contextlib
import dataclasses
import functools
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import fer_jax
from fer_jax.errors import InputError
from fer_jax.inference.explanation import class_activation
from fer_jax.inference.model import TrainedModel, padded_number
from fer_jax.inference.temperature import tempered
from fer_jax.models.fernet import FerNetSpec
from fer_jax.runs.temperature import StoredTemperature
from fer_jax.runtime.sharding import make_mesh, replicated
from fer_jax.testing import MINI, TINY
from fer_jax.training.state import create_model, model_definition


@pytest.fixture(scope="module")
def model(whole_run):
    return fer_jax.load(whole_run[0])


@pytest.fixture(scope="module")
def images(faces):
    return faces.test.images[:7]


@contextlib.contextmanager
def compilations():
    """The events of compilations inside the block."""
    found = []

    def listener(event, *_, **__):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_load_gives_the_trained_model(model, whole_run):
    assert isinstance(model, TrainedModel)
    assert model.class_names[3] == "happy"
    with pytest.raises(InputError, match="no such folder"):
        fer_jax.load(str(whole_run[0] / "nowhere"))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        fer_jax.lode  # noqa: B018


def test_the_package_imports_without_jax():
    code = "import sys, fer_jax; assert 'load' in dir(fer_jax); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_predict_gives_the_same_numbers_for_every_form(model, images, tmp_path):
    expected = model.probabilities(images)
    Image.fromarray(images[2]).save(tmp_path / "face.png")
    mixed = [images[0], Image.fromarray(images[1]), tmp_path / "face.png", *images[3:, ..., None]]
    for given in (images, images[..., None], np.stack([images] * 3, -1), list(images), mixed):
        for function in (model.predict, model.probabilities):
            found = function(given)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(images[0]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(model.predict(tmp_path / "face.png"), expected[2:3], atol=1e-5)


def test_no_image_gives_no_rows(model):
    for none in ([], np.empty((0, 48, 48), np.uint8)):
        assert model.predict(none).shape == model.probabilities(none).shape == (0, 7)
        assert model.features(none).shape == (0, TINY.top_channels)


def test_more_images_than_a_batch_are_predicted_batch_by_batch(model, faces):
    many = faces.train.images[:45]
    assert model.config.eval.batch_size == 20
    np.testing.assert_allclose(model.predict(many), model.probabilities(many), atol=1e-5)


def test_few_numbers_of_images_are_compiled_for(model, images):
    model.predict(images[:2])
    model.features(images[:3])
    with compilations() as found:
        for number in (3, 4, 2):
            model.predict(images[:number])
            model.features(list(images[:number]))
    assert not found
    assert [padded_number(number, 200) for number in (1, 2, 4, 5, 16, 17, 64, 65, 200)] == [
        *(1, 4, 4, 16, 16, 64, 64, 200, 200)
    ]


def test_predict_is_calibrated_where_a_temperature_is_stored(model, images, monkeypatch):
    raw = model.probabilities(images)
    np.testing.assert_allclose(model.predict(images), raw, atol=1e-5)
    stored = StoredTemperature(temperature=2.0, fitted_on="faces", images=30)
    monkeypatch.setattr(model, "stored_temperature", lambda: stored)
    np.testing.assert_allclose(model.predict(images), tempered(raw, 2.0), atol=1e-5)
    np.testing.assert_array_equal(model.probabilities(images), raw)


def test_features_are_what_the_classifier_takes(model, images):
    """The classifier on them, computed by NumPy, gives the probabilities."""
    x = model.features(images)
    assert x.dtype == np.float32
    assert x.shape == (7, TINY.top_channels)
    classifier = jax.tree.map(np.asarray, model._params["classifier"])
    for layer in classifier["hidden"].values():
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    logits = x @ classifier["logits"]["kernel"] + classifier["logits"]["bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-5)


def test_explain_maps_a_class_over_the_image(model, images):
    predicted = model.class_names[model.predict(images[0]).argmax()]
    found = model.explain(images[0])
    assert found.shape == (48, 48)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() in (0, 1)
    np.testing.assert_array_equal(found, model.explain([images[0]], predicted))
    others = [model.explain(images[0], name) for name in model.class_names if name != predicted]
    assert not all(np.array_equal(found, other) for other in others)


def test_explain_refuses_what_has_no_map(model, images):
    with pytest.raises(InputError, match="takes one image, found 7"):
        model.explain(images)
    with pytest.raises(
        InputError, match=r"hapy: no class of this model, expected one of angry, .*; did you mean 'happy'"
    ):
        model.explain(images[0], "hapy")
    with pytest.raises(InputError, match="float32"):
        model.explain(images[0].astype(np.float32))


def test_class_activation_of_a_hybrid_is_the_mean_over_its_backbones(images):
    """Against the derivative of the classifier by hand, in NumPy, on the feature maps of each backbone."""
    # As little as has a feature map, in the order that is not that of the names.
    left, right = (
        dataclasses.replace(MINI, name=name, stages=MINI.stages[:1], top_channels=channels)
        for name, channels in (("left", 8), ("right", 16))
    )
    spec = FerNetSpec((right, left), input_size=32, hidden_units=(8,))
    graphdef, *_ = model_definition(spec, replicated(make_mesh()))
    params, stats = create_model(spec, seed=1)
    sizes = {"input_size": 32, "output_size": 48}
    activation = jax.jit(functools.partial(class_activation, graphdef=graphdef, **sizes))
    found = [activation(params, stats, images[:1], label) for label in (*range(7), -1)]

    @jax.jit
    def feature_maps(params, stats, image):
        model = nnx.merge(graphdef, params, stats)
        inputs = jax.image.resize(image.astype("float32"), (1, 32, 32), "linear", antialias=False)
        maps = [backbone(inputs) for backbone in model.backbones.values()]
        return maps, model(inputs)

    maps, logits = jax.tree.map(np.asarray, feature_maps(params, stats, images[:1]))
    layers = jax.tree.map(np.asarray, params["classifier"])
    (hidden,) = layers["hidden"].values()
    before = np.concatenate([each.mean(axis=(0, 1, 2)) for each in maps]) @ hidden["kernel"] + hidden["bias"]
    for label in range(7):
        gradient = hidden["kernel"] @ ((before > 0) * layers["logits"]["kernel"][:, label])
        parts = np.split(gradient, [left.top_channels])
        total = 0
        for each, weights in zip(maps, parts, strict=True):
            height, width = each.shape[1:3]
            plane = np.maximum((each[0] * weights / (height * width)).sum(axis=-1), 0).astype(np.float32)
            total = total + np.asarray(jax.image.resize(plane, (48, 48), "linear"))
        np.testing.assert_allclose(found[label], total / max(total.max(), 1e-30), atol=1e-4)
    assert max(map(np.max, found[:7])) == 1
    np.testing.assert_array_equal(found[-1], found[int(logits.argmax())])
