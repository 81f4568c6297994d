"""The programs of a run, ready to be timed: the training step, the evaluation, and the making of a batch."""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fer_jax.augment import affine
from fer_jax.benchmarking.rounds import Round, Runner, timed
from fer_jax.compile_check.cost import ProgramCost, program_cost
from fer_jax.data import resident
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.inference.predictor import Predictor, predict_images
from fer_jax.runtime import sharding as meshes
from fer_jax.runtime.run_ahead import StepsInFlight
from fer_jax.training.cached_features import cached_input
from fer_jax.training.program import FER2013_SHAPE, DataShape, TrainProgram, augmented_images
from fer_jax.training.state import create_model

# Images of a split that is not looked at.
_UNUSED = 7


class TrainRunner:
    """The compiled training step of a config, on synthetic faces and fresh parameters.

    With `images_at_input_size` the images have the network's input size already, so that no resize is left. There are
    `num_images` of them, by default two batches. Where `config.train.cached_views` asks for it, their features are
    computed first; `beat` is called after each batch of these.

    Attributes:
      program: what was compiled.
      step: the compiled step, of which `inputs` are the last arguments: the data on the devices, and an epoch's order.
      state: the state after the steps run so far.
      cost: of one step on one device.
      compile_seconds: wall time of the step's compilation, or of its load from the cache.
      first_step_seconds: wall time from the config to the end of the first step, the data being there.
    """

    def __init__(
        self,
        config: ConfigDict,
        *,
        images_at_input_size: bool = False,
        num_images: int | None = None,
        beat: Callable[[], None] = lambda: None,
    ):
        mesh = meshes.make_mesh()
        replicated = meshes.replicated(mesh)
        batch_size = config.train.batch_size
        drawn = synthetic_faces(num_images or 2 * batch_size, _UNUSED, _UNUSED, seed=0)
        faces = drawn.train
        if images_at_input_size:
            faces = dataclasses.replace(faces, images=_at_input_size(faces.images, config))
        data = resident.to_device(faces, replicated)
        order = jax.device_put(resident.epoch_order(0, 0, len(faces), batch_size), replicated)
        self.inputs = jax.block_until_ready((data, order))

        start = time.perf_counter()
        shape = DataShape(len(faces), faces.images.shape[1:], NUM_EXPRESSIONS)
        self.program = TrainProgram.build(config, shape, mesh)
        self.state, fetch = self.program.initial_state(), None
        if config.train.cached_views:
            model = self.state.model()
            features, _ = cached_input(config, drawn, **model, graphdef=self.program.graphdef, mesh=mesh, beat=beat)
            self.inputs, fetch = features.step_arguments(), features.fetch
        self._metrics = self.program.no_metrics()
        self._in_flight = StepsInFlight()
        lowered = self.lower(self.program.step(fetch=fetch))
        compile_start = time.perf_counter()
        self.step = lowered.compile()
        self.compile_seconds = time.perf_counter() - compile_start
        self(1)
        self.first_step_seconds = time.perf_counter() - start
        self.cost: ProgramCost = program_cost(self.step)

    def __call__(self, steps: int) -> Round:
        """Run `steps` steps in sequence, as training does, and wait for the last."""
        return self.dispatch(self.step, steps, steps_each=1)

    def dispatch(self, step: jax.stages.Compiled, times: int, *, steps_each: int) -> Round:
        """Call `step` `times` times; it has the arguments of the training step and runs `steps_each` steps a call."""

        def run():
            for _ in range(times):
                self.call(step)
                self._in_flight.add(self.state.step)
            jax.block_until_ready(self.state)

        return timed(run, times * steps_each * self.program.config.train.batch_size)(1)

    def call(self, step: jax.stages.Compiled) -> None:
        """Dispatch one call of `step` to the devices; its result may not be ready when this returns."""
        self.state, self._metrics = step(self.state, self._metrics, *self.inputs)

    def lower(self, step: jax.stages.Wrapped) -> jax.stages.Lowered:
        """Lower `step`, which has the arguments of the training step, for the arguments of this runner."""
        return step.lower(self.state, self._metrics, *self.inputs)


def eval_runner(config: ConfigDict, num_images: int) -> Runner:
    """Return the runner of predictions as `train.py` makes them; a step predicts all of `num_images` images."""
    program, model = _network(config)
    faces = synthetic_faces(_UNUSED, num_images, _UNUSED, seed=0).validation
    images = jax.device_put(faces.images, meshes.replicated(program.mesh))
    predict = Predictor.of_program(program)
    return timed(lambda: predict(*model, images), num_images)


def forward_runner(config: ConfigDict, batch_size: int) -> Runner:
    """Return the runner of the forward pass alone, from a resized batch on the devices to logits there.

    `batch_size` is rounded up to a multiple of the number of devices.
    """
    program, model = _network(config)
    devices = program.mesh.size
    faces = synthetic_faces(_UNUSED, -(-batch_size // devices) * devices, _UNUSED, seed=0).validation
    split_batch = meshes.split_batch(program.mesh)
    images = jax.device_put(_at_input_size(faces.images, config), split_batch)
    fixed = {"graphdef": program.graphdef, "input_size": config.model.input_size, "flip": config.eval.flip}
    forward = jax.jit(functools.partial(predict_images, **fixed), out_shardings=split_batch)
    compiled = forward.lower(*model, images).compile()

    def run(steps: int) -> None:
        upcoming = compiled(*model, images)
        for _ in range(steps - 1):
            # One batch ahead of the one that is waited for, as in `Predictor`.
            current, upcoming = upcoming, compiled(*model, images)
            current.block_until_ready()
        upcoming.block_until_ready()

    return lambda steps: timed(lambda: run(steps), steps * len(images))(1)


def _network(config: ConfigDict) -> tuple[TrainProgram, tuple[dict, dict]]:
    """Return the definition of the network on all devices, and fresh parameters and running statistics on them."""
    program = TrainProgram.build(config, FER2013_SHAPE, meshes.make_mesh())
    model = create_model(program.spec, config.seed)
    return program, jax.device_put(model, meshes.replicated(program.mesh))


def _at_input_size(images: np.ndarray | ImageFiles, config: ConfigDict) -> np.ndarray:
    """Resize images, uint8 [n, size, size], to the network's input size."""
    assert isinstance(images, np.ndarray)
    return np.asarray(affine.resize(jnp.asarray(images), config.model.input_size).round().astype(jnp.uint8))


def input_runners(config: ConfigDict) -> dict[str, Runner]:
    """Return the runners that make a batch of `config.train.batch_size`: `fetch`, and `fetch, augment, resize`."""
    mesh = meshes.make_mesh()
    replicated, batch_size = meshes.replicated(mesh), config.train.batch_size
    faces = synthetic_faces(2 * batch_size, _UNUSED, _UNUSED, seed=0).train
    data = resident.to_device(faces, replicated)
    ids = jax.device_put(np.arange(batch_size, dtype=np.int32), meshes.split_batch(mesh))

    def fetch(data, ids):
        return data.take(ids)

    prepare = augmented_images(config)

    def whole(data, ids):
        return prepare(data.take(ids), config.seed, jnp.int32(0))

    def runner(function):
        compiled = jax.jit(function, out_shardings=meshes.split_batch(mesh)).lower(data, ids).compile()
        return timed(lambda: jax.block_until_ready(compiled(data, ids)), batch_size)

    return {"fetch": runner(fetch), "fetch, augment, resize": runner(whole)}
