"""The training step: deterministic, the same on any number of devices, and able to learn."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from fer_jax.compile_check import hlo
from fer_jax.data import resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.models.backbone import BackboneSpec, Preprocessing, Stage
from fer_jax.models.build import model_spec
from fer_jax.runtime.sharding import DATA_AXIS, make_mesh, replicated
from fer_jax.training.program import DataShape, TrainProgram
from fer_jax.training.state import create_model

STEPS = 20
# Adam would lift the rounding of a gradient that is zero in exact arithmetic, such as that of a bias in front of a
# normalisation, to the size of the learning rate.
PLAIN = optax.sgd(0.02, momentum=0.9)

SMALL = BackboneSpec(
    name="small",
    stem_channels=8,
    stages=(
        Stage(repeats=1, kernel=3, stride=2, channels=8, expansion=2),
        Stage(repeats=1, kernel=3, stride=1, channels=8, expansion=2),
    ),
    top_channels=16,
    activation="swish",
    squeeze_excite=0.25,
    drop_path=True,
    preprocessing=Preprocessing(mean=(127.5,) * 3, std=(63.75,) * 3),
)
"""What is compiled once for each number of devices: two blocks, of which the second may be dropped."""


def run(config, backbone, steps=STEPS, optimizer=None, mesh=None):
    """The state and the metrics after some steps on synthetic faces, and the compiled step."""
    data = synthetic_faces(64, 8, 8, seed=0)
    config.train.epochs = max(1, steps // 4)
    program = TrainProgram.build(config, DataShape.of(data), mesh or make_mesh(), [backbone])
    if optimizer is not None:
        program = WithOptimizer(**vars(program), plain=optimizer)
    state, metrics = program.initial_state(), program.no_metrics()
    train_data = resident.to_device(data.train, replicated(program.mesh))

    def order(epoch):
        order = resident.epoch_order(config.seed, epoch, 64, config.train.batch_size)
        return jax.device_put(order, replicated(program.mesh))

    step = program.step().lower(state, metrics, train_data, order(0)).compile()
    for i in range(steps):
        state, metrics = step(state, metrics, train_data, order(i // 4))
    return state, metrics, step


@dataclasses.dataclass(frozen=True, eq=False)
class WithOptimizer(TrainProgram):
    """A program that steps by `plain` instead."""

    plain: optax.GradientTransformation

    def optimizer(self, epoch=1):
        return self.plain


@pytest.fixture(scope="module")
def first_run(make_tiny_config, tiny_backbone):
    return run(make_tiny_config(), tiny_backbone)


def leaves(state):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def test_same_seed_gives_the_same_bits(first_run, tiny_backbone, make_tiny_config):
    again, *_ = run(make_tiny_config(), tiny_backbone)
    for path, leaf in leaves(first_run[0]).items():
        np.testing.assert_array_equal(leaves(again)[path], leaf, err_msg=path)


def test_another_seed_gives_other_parameters(first_run, tiny_backbone, make_tiny_config):
    config = make_tiny_config()
    config.seed = 1
    other = leaves(run(config, tiny_backbone, steps=1)[0].params)
    kernels = [path for path in other if "kernel" in path]
    assert all(np.abs(other[path] - leaves(first_run[0].params)[path]).max() > 1e-3 for path in kernels)


def test_every_parameter_and_statistic_moves(first_run, tiny_backbone, make_tiny_config):
    state, *_ = first_run
    spec = model_spec(make_tiny_config(), [tiny_backbone], 7)
    start = create_model(spec, 0)
    assert int(state.step) == STEPS
    for before, after in zip(start, (state.params, state.batch_stats), strict=True):
        for path, leaf in leaves(after).items():
            assert not np.array_equal(leaf, leaves(before)[path]), path


def test_metrics_count_every_example(first_run):
    _, metrics, _ = first_run
    assert float(metrics.loss.count) == STEPS * 16
    assert float(metrics.accuracy.count) == STEPS * 16
    assert 0 < float(metrics.compute()["accuracy"]) < 1


_ON_DEVICES = """
import pathlib, sys
from fer_jax.testing import load_script, make_tiny_config
load_script(pathlib.Path(sys.argv[1])).run_on_devices(make_tiny_config(), sys.argv[2])
"""


def run_on_devices(config, folder):
    """Some steps on each of 1, 2, 4 and 8 devices: the state and the collectives of the step, a file each."""
    for devices in (1, 2, 4, 8):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (DATA_AXIS,))
        state, _, step = run(config, SMALL, steps=6, optimizer=PLAIN, mesh=mesh)
        np.savez(f"{folder}/state{devices}.npz", **leaves(state))
        found = [(collective.opcode, collective.num_bytes) for collective in hlo.collectives(step.as_text())]
        Path(f"{folder}/collectives{devices}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def on_devices(tmp_path_factory):
    """The folder that `run_on_devices` filled, in a process with eight devices."""
    folder = tmp_path_factory.mktemp("on_devices")
    # Unoptimised machine code: four programs are compiled, and hardly run.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    subprocess.run(
        [sys.executable, "-c", _ON_DEVICES, __file__, str(folder)],
        env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"},
        check=True,
    )
    return folder


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_several_devices_agree_with_one(on_devices, devices):
    """Batch statistics, gradients, dropout, drop path and augmentation are those of the global batch."""
    with np.load(on_devices / f"state{devices}.npz") as several, np.load(on_devices / "state1.npz") as one:
        assert several.files == one.files
        for path, leaf in one.items():
            np.testing.assert_allclose(several[path], leaf, atol=1e-4, rtol=1e-3, err_msg=path)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_only_sums_cross_between_devices(on_devices, devices):
    """Of the gradients, of the batch statistics, and of numbers such as the loss: no more than these in all."""
    collectives = json.loads((on_devices / f"collectives{devices}.json").read_text())
    if devices == 1:
        assert not collectives
        return
    assert {opcode for opcode, _ in collectives} == {"all-reduce"}
    with np.load(on_devices / "state1.npz") as state:
        gradients = sum(leaf.nbytes for path, leaf in state.items() if ".params" in path)
        statistics = sum(leaf.nbytes for path, leaf in state.items() if ".batch_stats" in path)
    assert gradients < sum(num_bytes for _, num_bytes in collectives) < gradients + 4 * statistics + 1000


def test_learns_a_few_faces_by_heart(tiny_backbone, make_tiny_config):
    config = make_tiny_config()
    config.augment.update(dict.fromkeys(("rotation_range", "width_shift_range", "height_shift_range"), 0.0))
    config.augment.update(zoom_range=0.0, horizontal_flip=False)
    config.model.dropout = config.model.drop_path = 0.0
    config.optimizer.learning_rate = 1e-2
    _, early, _ = run(config, tiny_backbone, steps=4)
    _, all_steps, _ = run(config, tiny_backbone, steps=200)
    # The mean over all 200 steps, the first ones included, is far below the mean of the first four.
    assert float(all_steps.compute()["loss"]) < 0.6 * float(early.compute()["loss"])
