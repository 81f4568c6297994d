"""Times variants of the training step side by side: built once each, then run in turn, so that noise hits all alike."""

import dataclasses
import statistics
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fer_jax.config import model_spec
from fer_jax.data import augment, resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.models.fernet import BACKBONES
from fer_jax.training import mesh as meshes
from fer_jax.training.optimizer import learning_rate_schedule, make_optimizer
from fer_jax.training.state import create_model, create_state, model_definition
from fer_jax.training.step import TrainMetrics, jit_train_step


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config to time; with `images_at_input_size` the images have that size already, so that no resize is left."""

    config: ConfigDict
    images_at_input_size: bool = False


@dataclasses.dataclass(frozen=True)
class Timing:
    """Images per second over the counted rounds, and the seconds that the compilation took."""

    median: float
    low: float
    high: float
    compile_seconds: float


class _Runner:
    """The compiled training step of a variant, on synthetic faces and fresh parameters."""

    def __init__(self, variant: Variant):
        config = variant.config
        mesh = meshes.make_mesh()
        replicated = meshes.replicated(mesh)
        self._batch_size = config.train.batch_size
        meshes.check_batch_size(self._batch_size, mesh, "train.batch_size")
        spec = model_spec(config, [BACKBONES[name] for name in config.model.backbones], 7)
        graphdef, *_ = model_definition(spec, replicated)
        optimizer = make_optimizer(
            config.optimizer, learning_rate_schedule(config.optimizer, total_steps=1000, steps_per_epoch=100)
        )
        data = synthetic_faces(2 * self._batch_size, 7, 7, seed=0).train
        order = resident.epoch_order(0, 0, len(data), self._batch_size)
        train_data = resident.to_device(data, replicated)
        if variant.images_at_input_size:
            images = augment.resize(train_data.images, config.model.input_size).round().astype(jnp.uint8)
            train_data = dataclasses.replace(train_data, images=jax.device_put(images, replicated))
        self._inputs = train_data, jax.device_put(order, replicated)
        self._state = create_state(*create_model(spec, config.seed), optimizer, replicated)
        self._metrics = jax.device_put(TrainMetrics.empty(), replicated)
        step = jit_train_step(config, graphdef=graphdef, optimizer=optimizer, mesh=mesh)
        start = time.perf_counter()
        self._step = step.lower(self._state, self._metrics, *self._inputs).compile()
        self.compile_seconds = time.perf_counter() - start

    def images_per_second(self, steps: int) -> float:
        """Runs `steps` steps one after another."""
        start = time.perf_counter()
        for _ in range(steps):
            self._state, self._metrics = self._step(self._state, self._metrics, *self._inputs)
        jax.block_until_ready(self._state)
        return steps * self._batch_size / (time.perf_counter() - start)


def time_train_steps(variants: Mapping[str, Variant], *, rounds: int, steps: int) -> dict[str, Timing]:
    """Times the training step of each variant, the variants in turn, for `rounds` rounds of `steps` steps.

    One round comes first that does not count.
    """
    runners = {name: _Runner(variant) for name, variant in variants.items()}
    times = {name: [] for name in runners}
    for round_ in range(rounds + 1):
        for name, runner in runners.items():
            images_per_second = runner.images_per_second(steps)
            if round_:
                times[name].append(images_per_second)
    return {
        name: Timing(statistics.median(found), min(found), max(found), runners[name].compile_seconds)
        for name, found in times.items()
    }
