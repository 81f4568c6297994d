"""What a step on the frozen hybrid costs, beside one that trains all of it: long, run by hand with -m slow -s."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.config.loading import load_config
from fer_jax.data import resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.inference.predictor import predict_images, predict_rows
from fer_jax.params.trainable import state_bytes
from fer_jax.runtime import sharding as meshes
from fer_jax.training.program import DataShape, TrainProgram

ROUNDS, STEPS, BATCH, SIZE = 7, 2, 16, 96


class Runner:
    """The compiled training step of a config on synthetic faces."""

    def __init__(self, path):
        config = load_config([f"--config={path}", f"--config.model.input_size={SIZE}", "--config.init=scratch"])
        config.train.batch_size = BATCH
        self.program = TrainProgram.build(config, DataShape(BATCH, (48, 48), 7), meshes.make_mesh())
        self.mesh = self.program.mesh
        replicated = meshes.replicated(self.mesh)
        self.state, self.metrics = self.program.initial_state(), self.program.no_metrics()
        self.faces = synthetic_faces(BATCH, 7, 7, seed=0).train
        self.data = resident.to_device(self.faces, replicated)
        self.order = jax.device_put(np.arange(BATCH, dtype=np.int32)[None], replicated)
        self.step = self.program.step().lower(self.state, self.metrics, self.data, self.order).compile()
        self.flops = self.step.cost_analysis()["flops"]

    def seconds(self):
        """The duration of `STEPS` steps."""
        start = time.perf_counter()
        for _ in range(STEPS):
            self.state, self.metrics = self.step(self.state, self.metrics, self.data, self.order)
        jax.block_until_ready(self.state)
        return time.perf_counter() - start


@pytest.mark.slow
def test_frozen_hybrid_takes_a_fraction_of_the_time(repository):
    """FLOPs against a forward pass with the classifier's training, and time against the step that trains everything."""
    frozen = Runner(repository / "configs" / "hybrid_imagenet_frozen.py")
    whole = Runner(repository / "configs" / "hybrid_imagenet_finetuned.py")

    images_to_logits = functools.partial(predict_images, graphdef=frozen.program.graphdef, input_size=SIZE)
    predict = functools.partial(predict_rows, images_to_logits, sharding=meshes.split_batch(frozen.mesh))
    arguments = frozen.state.params, frozen.state.batch_stats, jnp.asarray(frozen.faces.images), frozen.order[0]
    forward = jax.jit(predict).lower(*arguments).compile().cost_analysis()["flops"]
    # In training a matrix product is done three times, once in the forward pass; Adam takes some 15 operations.
    parameters = sum(leaf.size for leaf in jax.tree.leaves(frozen.state.params["classifier"]))
    classifier = (2 * 2 * BATCH + 15) * parameters
    flops_ratio = frozen.flops / (forward + classifier)

    times = {"frozen": [], "whole": []}
    for round_ in range(ROUNDS + 1):
        for name, runner in (("frozen", frozen), ("whole", whole)):
            seconds = runner.seconds() / STEPS
            if round_:
                times[name].append(seconds)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, runner in (("frozen", frozen), ("whole", whole)):
        low, high = min(times[name]), max(times[name])
        print(
            f"\n{name}: {medians[name]:.3f} s a step ({low:.3f} to {high:.3f}), {runner.flops / 1e9:.2f} GFLOP, "
            f"optimizer state {state_bytes(runner.state.opt_state):,} bytes"
        )
    print(
        f"forward pass {forward / 1e9:.2f} GFLOP, classifier beyond it {classifier / 1e9:.2f}; ratio {flops_ratio:.3f}"
    )
    print(f"time ratio {medians['frozen'] / medians['whole']:.3f}")
    assert flops_ratio <= 1.15
    assert medians["frozen"] <= 0.45 * medians["whole"]
