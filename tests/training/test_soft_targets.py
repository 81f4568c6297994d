"""A step towards shares of classes: the same as towards labels where these are certain, and their mixture else."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from fer_jax.augment.keys import mixup_keys
from fer_jax.augment.mixup import mixing_weights
from fer_jax.data.resident import Batch
from fer_jax.training.state import TrainState
from fer_jax.training.step import StepDefinition, TrainMetrics, train_step

N, CLASSES, SMOOTHING, ALPHA = 6, 3, 0.1, 0.4
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, N).astype(np.int32)
SHARES = RNG.dirichlet(np.ones(CLASSES), N).astype(np.float32)


def loss_and_gradient(targets, alpha):
    """The mean loss of one step of a linear model, and its gradient: the step of plain descent at a rate of 1."""
    graphdef, params = nnx.split(nnx.Linear(4, CLASSES, rngs=nnx.Rngs(0)), nnx.Param)
    params = nnx.to_pure_dict(params)
    optimizer = optax.sgd(1.0)
    definition = StepDefinition(
        graphdef=graphdef,
        trains=lambda path: True,
        optimizer=optimizer,
        prepare=lambda batch, seed, step: batch.images,
        forward=lambda model, inputs, **_: model(inputs),
        label_smoothing=SMOOTHING,
        class_weights=None,
        mixup_alpha=alpha,
        ema_decay=0.0,
        seed=0,
    )
    state = TrainState(np.int32(0), params, {}, optimizer.init(params))
    batch = Batch(INPUTS, LABELS, np.arange(N, dtype=np.int32), targets)
    after, metrics = jax.jit(lambda *arguments: train_step(*arguments, definition))(state, TrainMetrics.empty(), batch)
    gradient = jax.tree.map(lambda old, new: old - new, params, after.params)
    return float(metrics.loss.compute()), gradient, params


@pytest.mark.optimised
@pytest.mark.parametrize("alpha", [0.0, ALPHA])
def test_certain_shares_are_labels(alpha):
    with_labels, gradient, _ = loss_and_gradient(None, alpha)
    with_shares, same_gradient, _ = loss_and_gradient(np.eye(CLASSES, dtype=np.float32)[LABELS], alpha)
    assert with_shares == with_labels
    jax.tree.map(np.testing.assert_array_equal, same_gradient, gradient)


@pytest.mark.parametrize("alpha", [0.0, ALPHA])
def test_the_loss_is_the_cross_entropy_with_smoothed_and_mixed_shares(alpha):
    loss, gradient, params = loss_and_gradient(SHARES, alpha)
    weights = np.ones(N)
    if alpha:
        weights = np.asarray(mixing_weights(mixup_keys(0, 0, np.arange(N, dtype=np.int32)), alpha), np.float64)
    weights = weights[:, None]
    inputs = weights * INPUTS + (1 - weights) * np.roll(INPUTS, 1, axis=0)
    smoothed = (1 - SMOOTHING) * SHARES.astype(np.float64) + SMOOTHING / CLASSES
    targets = weights * smoothed + (1 - weights) * np.roll(smoothed, 1, axis=0)
    logits = inputs @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"])
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    assert loss == pytest.approx(-np.mean((targets * np.log(probabilities)).sum(1)), rel=1e-5)
    expected = inputs.T @ (probabilities - targets) / N
    np.testing.assert_allclose(gradient["kernel"], expected, atol=1e-6)
