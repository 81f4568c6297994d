"""Converted weights against `keras.applications` itself, after the stem, each block and the top."""

import dataclasses

import numpy as np
import pytest

from fer_jax.models.backbone import Preprocessing
from fer_jax.pretrained.convert import convert_file
from fer_jax.pretrained.verify import load_backbone
from fer_jax.pretrained.weights import read_weights, write_weights

ARCHITECTURES = ("efficientnet_b0", "mobilenet_v2")
TOLERANCE = 1e-4
SIZES = [pytest.param(199, marks=pytest.mark.slow), 200, pytest.param(224, marks=pytest.mark.slow)]


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


@pytest.fixture(params=ARCHITECTURES)
def reference(request, keras_reference, size):
    return keras_reference(request.param, size)


@pytest.fixture(params=ARCHITECTURES)
def reference_200(request, keras_reference):
    return keras_reference(request.param)


def test_outputs_are_those_of_keras(reference, drawing, our_stages, relative_difference, tmp_path):
    images = drawing.draw_images(reference.size)
    write_weights(tmp_path / "w.safetensors", convert_file(reference.files["published"], reference.architecture))
    ours, _ = our_stages(read_weights(tmp_path / "w.safetensors"), images)
    assert relative_difference(ours, reference.stages(images)) <= TOLERANCE
    # The comparison means nothing where the output hardly depends on the image.
    assert (ours[-1][0] - ours[-1][1]).std() > 0.1 * ours[-1].std()


def test_training_is_that_of_keras(reference, drawing, our_stages, relative_difference):
    images = drawing.draw_images(reference.size)
    weights = convert_file(reference.files["whole_model"], reference.architecture)
    ours, backbone = our_stages(weights, images, train=True)
    with reference.kept_statistics():
        theirs = reference.stages(images, train=True)
        statistics = reference.statistics()
    assert relative_difference(ours, theirs) <= TOLERANCE
    norms = [backbone.stem.norm]
    for block in backbone.blocks:
        norms += [block.expand.norm] if block.has_expand else []
        norms += [block.depthwise.norm, block.project.norm]
    norms.append(backbone.top.norm)
    for norm, (mean, variance) in zip(norms, statistics, strict=True):
        np.testing.assert_allclose(norm.mean[...], mean, atol=TOLERANCE * np.sqrt(variance).max())
        np.testing.assert_allclose(norm.var[...], variance, rtol=TOLERANCE)


def test_every_layout_holds_the_same(reference_200):
    converted = {layout: convert_file(path, reference_200.architecture) for layout, path in reference_200.files.items()}
    first = converted["published"]
    for weights in converted.values():
        assert weights.spec == first.spec
        assert weights.arrays.keys() == first.arrays.keys()
        assert all(np.array_equal(weights.arrays[path], first.arrays[path]) for path in first.arrays)
    for name, value in reference_200.head.items():
        assert np.array_equal(first.head[name], value)
    assert first.classes == "imagenet-1k"
    assert not converted["nested"].head


@pytest.mark.slow
def test_float32_as_trained_is_within_its_rounding(reference_200, drawing, relative_difference):
    images = drawing.draw_images(200)
    weights = convert_file(reference_200.files["published"], reference_200.architecture)
    ours = [np.asarray(output) for output in load_backbone(weights).stages(images)]
    assert relative_difference(ours, reference_200.stages(images)) <= 1e-3


def _with_spec(weights, **changes):
    return dataclasses.replace(weights, spec=dataclasses.replace(weights.spec, **changes))


def _with_arrays(weights, changes):
    return dataclasses.replace(weights, arrays=weights.arrays | changes)


def _swapped_axes(weights):
    path = ("blocks", 1, "depthwise", "conv", "kernel")
    return _with_arrays(weights, {path: weights.arrays[path].swapaxes(0, 1)})


def _swapped_layers(weights):
    # Blocks of the same shape in both networks: of stage 4.
    first, second = (("blocks", {"efficientnet_b0": 6}.get(weights.spec.name, 7) + i, "expand") for i in (0, 1))
    first, second = (*first, "conv", "kernel"), (*second, "conv", "kernel")
    return _with_arrays(weights, {first: weights.arrays[second], second: weights.arrays[first]})


# What Keras computes from the published file without the second scaling, and for MobileNetV2 what EfficientNet wants.
_WRONG_PREPROCESSING = {
    "efficientnet_b0": Preprocessing(
        mean=(123.675, 116.28, 103.53), std=tuple(255 * np.sqrt(std) for std in (0.229, 0.224, 0.225))
    ),
    "mobilenet_v2": Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
}

MISTAKES = {
    "padding": lambda weights: _with_spec(weights, padding="symmetric"),
    "epsilon": lambda weights: _with_spec(weights, batch_norm_epsilon=1e-5),
    "preprocessing": lambda weights: _with_spec(weights, preprocessing=_WRONG_PREPROCESSING[weights.spec.name]),
    "depthwise axes": _swapped_axes,
    "equal shapes": _swapped_layers,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_break_the_comparison(reference_200, drawing, our_stages, relative_difference, mistake):
    images = drawing.draw_images(200)
    weights = convert_file(reference_200.files["published"], reference_200.architecture)
    ours, _ = our_stages(MISTAKES[mistake](weights), images)
    assert relative_difference(ours, reference_200.stages(images)) >= 100 * TOLERANCE
