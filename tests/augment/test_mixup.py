"""Mixup against its definition: Beta draws, convex combinations, mixed targets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

from fer_jax.augment.affine import NO_AUGMENTATION, resize
from fer_jax.augment.keys import mixup_keys
from fer_jax.augment.mixup import mix, mixing_weights
from fer_jax.data import resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.runtime import sharding as meshes
from fer_jax.training.program import DataShape, TrainProgram
from fer_jax.training.state import create_model
from fer_jax.training.step import cross_entropy


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_weights_are_beta_draws_folded_at_one_half(alpha):
    n = 4000
    weights = np.asarray(mixing_weights(jax.random.split(jax.random.key(0), n), alpha))
    assert weights.min() >= 0.5
    assert weights.max() <= 1
    for most in (0.55, 0.7, 0.9, 0.99, 0.9999):
        expected = stats.beta.cdf(most, alpha, alpha) - stats.beta.cdf(1 - most, alpha, alpha)
        # Four standard deviations of a share of n draws.
        assert np.mean(weights <= most) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))


@pytest.mark.optimised
def test_weight_belongs_to_the_key_not_to_the_place():
    keys = jax.random.split(jax.random.key(1), 8)
    np.testing.assert_array_equal(mixing_weights(keys, 0.4)[::-1], mixing_weights(keys[::-1], 0.4))


def test_each_is_mixed_with_the_one_before_it():
    images = np.random.default_rng(0).uniform(0, 255, (3, 4, 4)).astype(np.float32)
    weights = np.array([0.5, 0.75, 1.0], np.float32)
    mixed = mix(jnp.array(images), jnp.array(weights))
    np.testing.assert_allclose(mixed[0], (images[0] + images[2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(mixed[1], 0.75 * images[1] + 0.25 * images[0], rtol=1e-6)
    np.testing.assert_array_equal(mixed[2], images[2])


def test_mixed_losses_are_the_loss_of_mixed_targets():
    """What the step computes, against the cross-entropy of the targets that the paper of mixup defines."""
    rng = np.random.default_rng(2)
    logits, labels = jnp.array(rng.normal(size=(5, 7))), jnp.array(rng.integers(0, 7, 5))
    weights = jnp.array(rng.uniform(0.5, 1, 5))
    smoothed = optax.smooth_labels(jax.nn.one_hot(labels, 7), 0.1)
    expected = optax.softmax_cross_entropy(logits, mix(smoothed, weights))
    pair = cross_entropy(logits, labels, 0.1), cross_entropy(logits, jnp.roll(labels, 1), 0.1)
    np.testing.assert_allclose(weights * pair[0] + (1 - weights) * pair[1], expected, rtol=1e-5)


def test_step_mixes_images_and_targets(make_tiny_config, mini_backbone):
    """The loss of one step, against mixed images through the model and mixed targets in optax."""
    config = make_tiny_config()
    config.augment.update(dataclasses.asdict(NO_AUGMENTATION))
    config.model.dropout = 0.0
    config.train.update(mixup_alpha=0.5, label_smoothing=0.1, class_weights=(1, 5, 2, 1, 3, 1, 1))
    # With a frozen backbone the step compiles in no time, and its features are those of evaluation.
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    mesh = meshes.make_mesh()
    program = TrainProgram.build(config, DataShape(16, (48, 48), 7), mesh, [mini_backbone])
    params, batch_stats = create_model(program.spec, config.seed)
    faces = synthetic_faces(16, 7, 7, seed=0).train
    data = resident.to_device(faces, meshes.replicated(mesh))

    weights = mixing_weights(mixup_keys(config.seed, 0, data.row_ids), 0.5)
    images = mix(resize(jnp.asarray(faces.images), 32), weights)
    logits = jax.jit(lambda images: nnx.merge(program.graphdef, params, batch_stats)(images))(images)
    # Class weights scale the part of each label in the mixture.
    class_weights = jnp.array(program.class_weights)[data.labels][:, None]
    targets = mix(class_weights * optax.smooth_labels(jax.nn.one_hot(data.labels, 7), 0.1), weights)
    expected = optax.softmax_cross_entropy(logits, targets).mean()

    order = jax.device_put(np.arange(16, dtype=np.int32)[None], meshes.replicated(mesh))
    _, metrics = program.step()(program.initial_state(), program.no_metrics(), data, order)
    assert float(metrics.compute()["loss"]) == pytest.approx(float(expected), rel=1e-4)
