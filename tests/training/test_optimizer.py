"""Schedules and the optimizer against values computed by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.config.defaults import default_config
from fer_jax.params.trainable import resolve
from fer_jax.training.optimizer import learning_rate_schedule, make_optimizer
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
    # With both moments corrected for their start, the first step is the learning rate times g / (|g| + eps).
    updates = first_update()
    np.testing.assert_allclose(updates["kernel"], [-1e-3, 1e-3], rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], [-1e-3], rtol=1e-5)


def test_weight_decay_acts_on_kernels_alone():
    updates = first_update(weight_decay=0.1)
    np.testing.assert_allclose(updates["kernel"], [-1e-3 * (1 + 0.1 * 1), 1e-3 * (1 + 0.1 * 2)], rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], [-1e-3], rtol=1e-5)


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


def test_label_smoothing_by_hand():
    logits, labels = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])
    log_z = math.log(math.exp(2) + 1 + math.exp(-1))
    # Targets 0.8 and 0.1, 0.1 for a smoothing of 0.3 over three classes.
    expected = 0.8 * (log_z - 2) + 0.1 * log_z + 0.1 * (log_z + 1)
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.3), [expected], rtol=1e-5)
