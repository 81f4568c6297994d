"""The programs of a run, ready to be timed: the training step, the evaluation, and the making of a batch."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fer_jax.benchmarking.cost import ProgramCost, program_cost
from fer_jax.benchmarking.rounds import Round, Runner, timed
from fer_jax.benchmarking.train_program import TrainProgram, train_program
from fer_jax.data import augment, resident
from fer_jax.data.resident import Batch
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.inference import Predictor
from fer_jax.training import mesh as meshes
from fer_jax.training.state import create_model, create_state
from fer_jax.training.step import TrainMetrics

# Images of a split that is not looked at.
_UNUSED = 7


class TrainRunner:
    """The compiled training step of a config, on synthetic faces and fresh parameters.

    With `images_at_input_size` the images have the network's input size already, so that no resize is left.

    Attributes:
      program: what was compiled.
      state: the state after the steps run so far.
      cost: of one step on one device.
      compile_seconds: wall time of the step's compilation, or of its load from the cache.
      first_step_seconds: wall time from the config to the end of the first step, the data being there.
    """

    def __init__(self, config: ConfigDict, *, images_at_input_size: bool = False):
        mesh = meshes.make_mesh()
        replicated = meshes.replicated(mesh)
        batch_size = config.train.batch_size
        faces = synthetic_faces(2 * batch_size, _UNUSED, _UNUSED, seed=0).train
        data = resident.to_device(faces, replicated)
        if images_at_input_size:
            images = augment.resize(data.images, config.model.input_size).round().astype(jnp.uint8)
            data = Batch(jax.device_put(images, replicated), data.labels, data.row_ids)
        order = jax.device_put(resident.epoch_order(0, 0, len(faces), batch_size), replicated)
        self._inputs = jax.block_until_ready((data, order))

        start = time.perf_counter()
        self.program: TrainProgram = train_program(config, mesh, num_images=len(faces), image_size=data.images.shape[1])
        model = create_model(self.program.spec, config.seed)
        self.state = create_state(*model, self.program.optimizer, replicated)
        self._metrics = jax.device_put(TrainMetrics.empty(), replicated)
        lowered = self.program.lower()
        compile_start = time.perf_counter()
        self._step = lowered.compile()
        self.compile_seconds = time.perf_counter() - compile_start
        self(1)
        self.first_step_seconds = time.perf_counter() - start
        self.cost: ProgramCost = program_cost(self._step)

    def __call__(self, steps: int) -> Round:
        """Runs `steps` steps one after another, as training does, waiting for the last."""
        return timed(lambda: self._run(steps), steps * self.program.config.train.batch_size)(1)

    def _run(self, steps: int) -> None:
        for _ in range(steps):
            self.state, self._metrics = self._step(self.state, self._metrics, *self._inputs)
        jax.block_until_ready(self.state)


def eval_runner(config: ConfigDict) -> Runner:
    """Predictions as `Predictor` makes them, a batch of `config.eval.batch_size` images a step."""
    mesh = meshes.make_mesh()
    replicated = meshes.replicated(mesh)
    program = train_program(config.copy_and_resolve_references(), mesh)
    params, batch_stats = jax.device_put(create_model(program.spec, config.seed), replicated)
    faces = synthetic_faces(_UNUSED, config.eval.batch_size, _UNUSED, seed=0).validation
    images = jax.device_put(faces.images, replicated)
    predict = Predictor(program.graphdef, config.model.input_size, config.eval.batch_size, mesh)
    return timed(lambda: predict(params, batch_stats, images), len(images))


def input_runners(config: ConfigDict) -> dict[str, Runner]:
    """The making of a batch of `config.train.batch_size`, up to two ends: `fetch`, and `fetch, augment, resize`."""
    mesh = meshes.make_mesh()
    replicated, batch_size = meshes.replicated(mesh), config.train.batch_size
    faces = synthetic_faces(2 * batch_size, _UNUSED, _UNUSED, seed=0).train
    data = resident.to_device(faces, replicated)
    ids = jax.device_put(np.arange(batch_size, dtype=np.int32), meshes.split_batch(mesh))
    augmentation = augment.Augmentation(**config.augment)

    def fetch(data, ids):
        return data.take(ids)

    def whole(data, ids):
        batch = data.take(ids)
        keys = augment.example_keys(jax.random.key(config.seed), 0, batch.row_ids)
        return augment.augment(batch.images, keys, augmentation, config.model.input_size)

    def runner(function):
        compiled = jax.jit(function, out_shardings=meshes.split_batch(mesh)).lower(data, ids).compile()
        return timed(lambda: jax.block_until_ready(compiled(data, ids)), batch_size)

    return {"fetch": runner(fetch), "fetch, augment, resize": runner(whole)}
