"""The step that several seeds take together: for each of them its step alone, on a model that compiles at once."""

import dataclasses
import functools

import jax
import numpy as np
import optax
from flax import nnx

from fer_jax.augment.keys import augmentation_keys
from fer_jax.compile_check.seeds import jit_seeds_step
from fer_jax.data import resident
from fer_jax.runtime.sharding import make_mesh, replicated, split_batch
from fer_jax.testing import drawn_split
from fer_jax.training.program import jit_step
from fer_jax.training.state import TrainState
from fer_jax.training.step import StepDefinition, TrainMetrics

SEEDS, STEPS, N, BATCH = (7, 8), 3, 32, 8


def brightened(batch, seed, step):
    """A cheap augmentation: all pixels of an image times a number drawn for it."""
    factors = jax.vmap(jax.random.uniform)(augmentation_keys(seed, step, batch.row_ids))
    return batch.images * factors[:, None, None] / 255


def forward(model, images, *, train, rngs):
    """The logits of a linear model of the images, of which dropout leaves three quarters."""
    kept = jax.random.bernoulli(rngs.dropout(), 0.75, images.shape)
    return model((images * kept).reshape(len(images), -1))


def test_each_seed_takes_the_steps_that_it_takes_alone():
    graphdef, _ = nnx.split(nnx.Linear(48 * 48, 7, rngs=nnx.Rngs(0)), nnx.Param)
    optimizer = optax.sgd(0.1, momentum=0.9)
    definition = StepDefinition(
        graphdef=graphdef,
        trains=lambda path: True,
        optimizer=optimizer,
        prepare=brightened,
        forward=forward,
        label_smoothing=0.1,
        class_weights=None,
        mixup_alpha=0.0,
        ema_decay=0.0,
        seed=SEEDS[1],
    )
    mesh = make_mesh()
    data = resident.to_device(drawn_split(N), replicated(mesh))
    orders = np.stack([resident.epoch_order(seed, 0, N, BATCH) for seed in SEEDS])

    def first_state(seed):
        kernel = np.random.default_rng(seed).normal(size=(48 * 48, 7), scale=0.02).astype(np.float32)
        params = {"kernel": kernel, "bias": np.zeros(7, np.float32)}
        return TrainState(np.int32(0), params, {}, optimizer.init(params))

    def stacked(trees):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

    states = dataclasses.replace(stacked([first_state(seed) for seed in SEEDS]), step=np.int32(0))
    metrics = stacked([TrainMetrics.empty() for _ in SEEDS])
    together = jit_seeds_step(definition, mesh)
    # The second of them alone.
    alone = jit_step(definition, functools.partial(resident.fetch_batch, sharding=split_batch(mesh)), mesh)
    state, alone_metrics = first_state(SEEDS[1]), TrainMetrics.empty()
    for _ in range(STEPS):
        states, metrics = together(states, metrics, data, orders, np.array(SEEDS, np.uint32))
        state, alone_metrics = alone(state, alone_metrics, data, orders[1])
    assert int(states.step) == STEPS
    for ours, theirs in ((states.params, state.params), (metrics, alone_metrics)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6), ours, theirs)
    assert np.ptp(metrics.loss.total) > 0
