"""The moving average of the model, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.training.ema import average_decay, moved_average


def test_decay_rises_to_what_is_asked_for():
    assert [float(average_decay(0.9, step)) for step in (0, 1, 10, 90, 1000)] == pytest.approx(
        [1 / 10, 2 / 11, 11 / 20, 0.9, 0.9]
    )


def test_average_follows_the_recursion():
    values = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    average, expected = {"a": {"x": jnp.zeros(5)}}, np.zeros(5)
    for step, value in enumerate(values):
        # The model has a leaf that is not averaged.
        average = moved_average(average, {"a": {"x": jnp.array(value), "y": jnp.ones(2)}}, 0.5, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert set(average["a"]) == {"x"}
    np.testing.assert_allclose(average["a"]["x"], expected, rtol=1e-5, atol=1e-6)


def test_start_is_forgotten_within_tens_of_steps():
    average = {"x": jnp.ones(1)}
    for step in range(50):
        average = moved_average(average, {"x": jnp.zeros(1)}, 0.999, step)
    assert float(average["x"][0]) < 1e-8


def test_average_of_what_stands_still_stands_still():
    leaf = jnp.array(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    average = {"x": leaf}
    for step in range(5):
        average = moved_average(average, {"x": leaf}, 0.99, step)
    np.testing.assert_array_equal(average["x"], leaf)
