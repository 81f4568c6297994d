"""Schedules and the optimizer against values computed by hand."""

import math

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from fer_jax.config.defaults import default_config
from fer_jax.params.trainable import resolve
from fer_jax.training.optimizer import learning_rate_schedule, make_optimizer, scale_by_keras_adam
from fer_jax.training.step import cross_entropy


def schedule(**changes):
    config = default_config().optimizer
    config.update(changes)
    return learning_rate_schedule(config, total_steps=100, steps_per_epoch=10)


def test_constant_schedule_is_the_paper_s():
    assert [float(schedule()(step)) for step in (0, 50, 99)] == pytest.approx([1e-3] * 3)


def test_cosine_goes_from_the_peak_to_zero():
    cosine = schedule(schedule="cosine")
    for step in (0, 25, 50, 99, 100):
        assert float(cosine(step)) == pytest.approx(1e-3 * (1 + math.cos(math.pi * step / 100)) / 2, abs=1e-9)


def test_warmup_is_linear_and_comes_before_the_cosine():
    warm = schedule(schedule="cosine", warmup_epochs=2.0)
    assert [float(warm(step)) for step in (0, 10, 20)] == pytest.approx([0, 5e-4, 1e-3])
    assert float(warm(60)) == pytest.approx(5e-4)
    assert float(warm(100)) == pytest.approx(0, abs=1e-9)


PARAMS = {"layer": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}}
GRADIENTS = {"layer": {"kernel": jnp.array([0.3, -0.4]), "bias": jnp.array([1.2])}}


def optimizer_of(config):
    table = resolve(("**: train",), 1, PARAMS)
    schedule = learning_rate_schedule(config, total_steps=10, steps_per_epoch=1)
    return make_optimizer(config, schedule, table, epoch=1, steps_per_epoch=1)


def first_update(**changes):
    config = default_config().optimizer
    config.update(changes)
    optimizer = optimizer_of(config)
    updates, _ = optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS)
    return updates["layer"]


def test_first_step_of_adam():
    # With both moments corrected for their start, it is the learning rate times g / (|g| + eps / sqrt(0.001)).
    updates = first_update()
    np.testing.assert_allclose(updates["kernel"], [-1e-3, 1e-3], rtol=1e-4)
    np.testing.assert_allclose(updates["bias"], [-1e-3], rtol=1e-4)


def test_adam_is_that_of_keras_also_where_gradients_are_as_small_as_epsilon():
    start = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
    gradients = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32) * np.array([1, 1e-2, 1e-7, 1e-8], "f4")

    def ours(transform):
        params, state, path = jnp.array(start), transform.init(jnp.array(start)), []
        for gradient in gradients:
            updates, state = transform.update(jnp.array(gradient), state, params)
            params = params - 1e-3 * updates
            path.append(params)
        return np.array(path) - start

    variable, theirs = keras.Variable(start), []
    optimizer = keras.optimizers.Adam(learning_rate=1e-3)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        theirs.append(np.array(variable.numpy()))
    theirs = np.array(theirs) - start
    # To the rounding of the parameters, of which the smallest updates are a thousandth.
    np.testing.assert_allclose(ours(scale_by_keras_adam(0.9, 0.999, 1e-7)), theirs, atol=1e-6)
    # The two differ by less than a hundredth of a step where gradients are large, and tenfold where they are small.
    of_optax = ours(optax.scale_by_adam(0.9, 0.999, 1e-7))
    np.testing.assert_allclose(of_optax[:, :2], theirs[:, :2], atol=1e-5)
    assert (np.abs(of_optax[0]) / np.abs(theirs[0]))[2] > 10


def test_sgd_is_nesterov_s_with_decay_in_the_gradient():
    """By the recursion in PyTorch's documentation of SGD."""
    config = default_config().optimizer
    config.update(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    optimizer, params = optimizer_of(config), PARAMS
    state, velocity = optimizer.init(params), 0.0
    expected = np.array([1.0, -2.0])
    for _ in range(3):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
        gradient = np.array([0.3, -0.4]) + 0.01 * expected
        velocity = 0.9 * velocity + gradient
        expected = expected - 0.1 * (gradient + 0.9 * velocity)
    np.testing.assert_allclose(params["layer"]["kernel"], expected, rtol=1e-5)
    # A bias does not decay.
    np.testing.assert_allclose(params["layer"]["bias"], 3 - 0.1 * 1.2 * (1.9 + 2.71 + 3.439), rtol=1e-5)


def test_weight_decay_acts_on_kernels_alone():
    updates = first_update(weight_decay=0.1)
    np.testing.assert_allclose(updates["kernel"], [-1e-3 * (1 + 0.1 * 1), 1e-3 * (1 + 0.1 * 2)], rtol=1e-4)
    np.testing.assert_allclose(updates["bias"], [-1e-3], rtol=1e-4)


def test_clipping_scales_the_whole_gradient_to_the_norm():
    config = default_config().optimizer
    config.gradient_clip_norm = 0.65  # half of the gradient's norm, sqrt(0.09 + 0.16 + 1.44) = 1.3
    optimizer = optimizer_of(config)
    _, state = optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS)
    first_moment = state[-1].inner_states["rate 1.0 from epoch 1"].inner_state[0].mu["layer"]
    np.testing.assert_allclose(first_moment["kernel"], 0.1 * 0.5 * np.array([0.3, -0.4]), rtol=1e-5)
    np.testing.assert_allclose(first_moment["bias"], 0.1 * 0.5 * np.array([1.2]), rtol=1e-5)


def test_cross_entropy_by_hand():
    logits, labels = jnp.array([[0.0, 0.0, 0.0], [2.0, 0.0, -1.0]]), jnp.array([1, 0])
    log_z = math.log(math.exp(2) + 1 + math.exp(-1))
    np.testing.assert_allclose(cross_entropy(logits, labels), [math.log(3), log_z - 2], rtol=1e-5)


def test_class_weights_scale_the_loss_by_the_label_and_distributions_have_their_mean():
    logits, labels, weights = jnp.array([[0.0, 1.0, 2.0], [2.0, 0.0, -1.0]]), jnp.array([1, 0]), (0.5, 3.0, 1.0)
    plain = cross_entropy(logits, labels, 0.1)
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.1, weights), plain * np.array([3.0, 0.5]), rtol=1e-5)
    soft = jnp.array([[0.0, 0.75, 0.25], [1.0, 0.0, 0.0]])
    parts = [cross_entropy(logits, jnp.array([label, 0]), 0.1) for label in (1, 2)]
    expected = (0.75 * parts[0] + 0.25 * parts[1]) * jnp.array([0.75 * 3.0 + 0.25, 0.5])
    np.testing.assert_allclose(cross_entropy(logits, soft, 0.1, weights), expected, rtol=1e-5)


def test_label_smoothing_by_hand():
    logits, labels = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])
    log_z = math.log(math.exp(2) + 1 + math.exp(-1))
    # Targets 0.8 and 0.1, 0.1 for a smoothing of 0.3 over three classes.
    expected = 0.8 * (log_z - 2) + 0.1 * log_z + 0.1 * (log_z + 1)
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.3), [expected], rtol=1e-5)
