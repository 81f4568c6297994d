"""The networks: published sizes, shapes, drop rates, and what training mode does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from fer_jax.models.backbone import Backbone, BackboneOptions
from fer_jax.models.efficientnet import EFFICIENTNET_B0
from fer_jax.models.fernet import FerNet, FerNetSpec, freeze_modules
from fer_jax.models.initialisation import NoKeys
from fer_jax.models.mobilenet import MOBILENET_V2
from fer_jax.models.summary import layer_table
from fer_jax.training.state import split_model


def size(module, kind):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, kind)))


def shapes(spec, input_size=200):
    """A backbone of shapes and the shapes of its outputs for one image."""
    backbone = Backbone(spec, BackboneOptions(), rngs=NoKeys())
    graphdef, state = nnx.split(backbone)
    image = jax.ShapeDtypeStruct((1, input_size, input_size), jnp.float32)
    outputs = jax.eval_shape(lambda state, image: nnx.merge(graphdef, state).stages(image), state, image)
    return backbone, [output.shape[1:] for output in outputs]


@pytest.mark.parametrize(
    ("spec", "parameters", "statistics", "sizes"),
    [
        # Keras' counts without top (efficientnetb0_notop, mobilenet_v2 no_top); sizes after the stem and each stage.
        (EFFICIENTNET_B0, 4_007_548, 42_016, [100, 100, 50, 25, 13, 13, 7, 7]),
        (MOBILENET_V2, 2_223_872, 34_112, [100, 100, 50, 25, 13, 13, 7, 7]),
    ],
    ids=["efficientnet_b0", "mobilenet_v2"],
)
def test_published_sizes_at_200_pixels(spec, parameters, statistics, sizes):
    backbone, outputs = shapes(spec)
    assert size(backbone, nnx.Param) == parameters
    assert size(backbone, nnx.BatchStat) == statistics
    assert outputs[-1] == (7, 7, 1280)
    ends = np.cumsum([stage.repeats for stage in spec.stages])
    assert [outputs[i][0] for i in (0, *ends)] == sizes
    assert spec.feature_size(200) == 7


def test_efficientnet_drop_rates_are_those_of_keras():
    backbone, _ = shapes(EFFICIENTNET_B0)
    rates = {i: block.drop_path_rate for i, block in enumerate(backbone.blocks) if block.is_residual}
    expected = {2: 0.025, 4: 0.05, 6: 0.075, 7: 0.0875, 9: 0.1125, 10: 0.125, 12: 0.15, 13: 0.1625, 14: 0.175}
    assert rates == pytest.approx(expected)


def test_mobilenet_adds_where_keras_adds_and_drops_no_path():
    backbone, _ = shapes(MOBILENET_V2)
    assert [i for i, block in enumerate(backbone.blocks) if block.is_residual] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert all(block.drop_path_rate == 0 for block in backbone.blocks)


@pytest.mark.parametrize(
    ("backbones", "pooling", "features"),
    [
        ((EFFICIENTNET_B0,), "avg", 1280),
        ((EFFICIENTNET_B0, MOBILENET_V2), "max", 2560),
        ((MOBILENET_V2,), "flatten", 62_720),
    ],
)
def test_classifier_takes_the_features_of_all_backbones(backbones, pooling, features):
    spec = FerNetSpec(backbones, pooling=pooling)
    assert spec.num_features == features
    model = FerNet(spec, rngs=NoKeys())
    first, second = model.classifier.hidden
    assert first.kernel.shape == (features, 4096)
    assert second.kernel.shape == (4096, 1024)
    assert model.classifier.logits.kernel.shape == (1024, 7)
    graphdef, state = nnx.split(model)
    image = jax.ShapeDtypeStruct((2, 200, 200), jnp.float32)
    logits = jax.eval_shape(lambda state, image: nnx.merge(graphdef, state)(image), state, image)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)


@pytest.fixture(scope="module")
def tiny_model(tiny_backbone):
    return FerNet(FerNetSpec((tiny_backbone,), input_size=32, hidden_units=(16,)), rngs=nnx.Rngs(0))


def test_without_keys_a_network_has_the_shapes_that_it_has_with_them(tiny_model, tiny_backbone):
    without = FerNet(FerNetSpec((tiny_backbone,), input_size=32, hidden_units=(16,)), rngs=NoKeys())
    (graphdef, state), (expected_graphdef, expected) = nnx.split(without), nnx.split(tiny_model)
    assert graphdef == expected_graphdef
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == jax.tree.map(lambda a: (a.shape, a.dtype), expected)


def images(n=8):
    return jnp.array(np.random.default_rng(0).uniform(0, 255, (n, 32, 32)).astype(np.float32))


def test_gray_is_rgb_with_equal_channels(tiny_model):
    gray = images()
    rgb = jnp.repeat(gray[..., None], 3, axis=-1)
    np.testing.assert_allclose(tiny_model(gray), tiny_model(rgb), atol=1e-5)


def test_evaluation_does_not_depend_on_the_batch(tiny_model):
    whole = tiny_model(images())
    np.testing.assert_allclose(tiny_model(images()[:3]), whole[:3], atol=1e-5)


def test_training_mode_draws_from_its_keys_and_updates_statistics(tiny_backbone):
    model = FerNet(FerNetSpec((tiny_backbone,), input_size=32, hidden_units=(16,)), rngs=nnx.Rngs(0))

    def run(seed):
        return np.asarray(model(images(), train=True, rngs=nnx.Rngs(seed)))

    before = np.asarray(model.backbones["tiny"].stem.norm.mean[...])
    first, again, other = run(1), run(1), run(2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    # Three passes move a mean of 0 by 3 % of the batch's mean, which is about 0.02 here.
    assert np.abs(model.backbones["tiny"].stem.norm.mean[...] - before).max() > 1e-4


def test_bfloat16_agrees_with_float32_to_its_precision(tiny_backbone):
    def logits(dtype):
        options = BackboneOptions(dtype=jnp.dtype(dtype))
        spec = FerNetSpec((tiny_backbone,), input_size=32, hidden_units=(16,), options=options)
        return FerNet(spec, rngs=nnx.Rngs(0)).features(images())

    low, full = logits("bfloat16"), logits("float32")
    assert low.dtype == jnp.float32, "features are pooled in float32"
    difference = np.abs(low - full).max() / np.std(full)
    # Rounding to 8 significant bits, 2 ** -9 at most, some twenty times on the way.
    assert 1e-4 < difference < 0.25


def test_rematerialised_blocks_give_the_same_gradients_and_keep_less(tiny_backbone):
    """With drop path on, so that the same paths have to be dropped the second time."""

    def run(rematerialise):
        options = BackboneOptions(drop_path=0.5, rematerialise=rematerialise)
        spec = FerNetSpec((tiny_backbone,), input_size=32, hidden_units=(16,), options=options)
        graphdef, params, statistics = split_model(FerNet(spec, rngs=nnx.Rngs(0)))

        @jax.jit
        def backward_and_values(params, statistics):
            def loss(params):
                model = nnx.merge(graphdef, params, statistics)
                logits = model(images(), train=True, rngs=nnx.Rngs(dropout=1, drop_path=2))
                return jnp.square(logits).mean(), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

            value, backward, after = jax.vjp(loss, params, has_aux=True)
            return backward, (value, after)

        backward, values = backward_and_values(params, statistics)
        return backward(jnp.ones(())), values, sum(leaf.size for leaf in jax.tree.leaves(backward))

    *whole, kept_by_whole = run(False)
    *again, kept = run(True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), again, whole)
    assert kept < kept_by_whole / 2


def test_weights_decide_padding_epsilon_and_preprocessing(tiny_backbone):
    variant = dataclasses.replace(tiny_backbone, padding="symmetric", batch_norm_epsilon=1e-5)
    assert tiny_backbone.with_variant(variant.variant()) == variant
    outputs = [
        Backbone(spec, BackboneOptions(), rngs=nnx.Rngs(0))(images())
        for spec in (tiny_backbone, variant, tiny_backbone)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2


def merged(spec, is_frozen):
    """A model whose parameters are frozen where `is_frozen` says so of their path."""
    model = FerNet(spec, rngs=nnx.Rngs(0))
    freeze_modules(model, is_frozen)
    return nnx.merge(*nnx.split(model))


def test_frozen_model_acts_in_training_mode_as_in_evaluation(mini_backbone):
    """Neither dropout nor drop path draws (there are no keys), and the running statistics normalise and stay."""
    spec = FerNetSpec((mini_backbone,), input_size=32, hidden_units=(16,))
    model = merged(spec, lambda path: True)
    statistics = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    np.testing.assert_array_equal(model(images(), train=True), model(images(), train=False))
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), statistics)
    with pytest.raises(ValueError, match="no `rngs`"):
        merged(spec, lambda path: path[0] == "backbones")(images(), train=True)


@pytest.mark.parametrize(
    ("is_frozen", "frozen_statistics"),
    [
        (lambda path: "norm" in path, lambda path: True),
        (lambda path: path[-1] == "scale", lambda path: False),
        (
            lambda path: path[2:4] in (("blocks", 0), ("blocks", 1)),
            lambda path: path[2:4] in (("blocks", 0), ("blocks", 1)),
        ),
    ],
)
def test_statistics_are_frozen_with_the_whole_normalisation(is_frozen, frozen_statistics, tiny_backbone):
    model = merged(FerNetSpec((tiny_backbone,), input_size=32, hidden_units=(16,)), is_frozen)
    before = flatten_dict(nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    model(images(), train=True, rngs=nnx.Rngs(dropout=0, drop_path=1))
    after = flatten_dict(nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    for path in before:
        assert np.array_equal(before[path], after[path]) == frozen_statistics(path), path


def test_blocks_drop_paths_unless_frozen_as_a_whole(tiny_backbone):
    spec = FerNetSpec((tiny_backbone,), input_size=32)
    model = merged(spec, lambda path: "norm" in path or path[2:4] == ("blocks", 2))
    assert [block.frozen for block in model.backbones["tiny"].blocks] == [False, False, True]


def test_layer_table_adds_up():
    table = layer_table(FerNetSpec((EFFICIENTNET_B0, MOBILENET_V2)))
    assert "4,007,548" in table
    assert "2,223,872" in table
    classifier = 2560 * 4096 + 4096 + 4096 * 1024 + 1024 + 1024 * 7 + 7
    assert f"{4_007_548 + 2_223_872 + classifier:,}" in table
