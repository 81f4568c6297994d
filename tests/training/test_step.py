"""The training step: deterministic, the same on any number of devices, and able to learn."""

import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from fer_jax.config import model_spec
from fer_jax.data import resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.training import mesh as meshes
from fer_jax.training.optimizer import learning_rate_schedule, make_optimizer
from fer_jax.training.state import create_model, create_state, model_definition
from fer_jax.training.step import TrainMetrics, jit_train_step

STEPS = 20
# Adam would lift the rounding of a gradient that is zero in exact arithmetic, such as that of a bias in front of a
# normalisation, to the size of the learning rate.
PLAIN = optax.sgd(0.02, momentum=0.9)


def run(config, backbone, steps=STEPS, optimizer=None):
    """The state and the metrics after some steps on synthetic faces, on all devices of this process."""
    mesh = meshes.make_mesh()
    replicated = meshes.replicated(mesh)
    data = synthetic_faces(64, 8, 8, seed=0)
    spec = model_spec(config, [backbone], 7)
    graphdef, *_ = model_definition(spec, replicated)
    if optimizer is None:
        schedule = learning_rate_schedule(config.optimizer, total_steps=steps, steps_per_epoch=4)
        optimizer = make_optimizer(config.optimizer, schedule)
    state = create_state(*create_model(spec, config.seed), optimizer, replicated)
    train_data = resident.to_device(data.train, replicated)
    step = jit_train_step(config, graphdef=graphdef, optimizer=optimizer, mesh=mesh)
    metrics = jax.device_put(TrainMetrics.empty(), replicated)
    for i in range(steps):
        order = resident.epoch_order(config.seed, i // 4, 64, config.train.batch_size)
        state, metrics = step(state, metrics, train_data, jax.device_put(order, replicated))
    return state, metrics


@pytest.fixture(scope="module")
def first_run(make_tiny_config, tiny_backbone):
    return run(make_tiny_config(), tiny_backbone)


def leaves(state):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def test_same_seed_gives_the_same_bits(first_run, tiny_backbone, make_tiny_config):
    again, _ = run(make_tiny_config(), tiny_backbone)
    for path, leaf in leaves(first_run[0]).items():
        np.testing.assert_array_equal(leaves(again)[path], leaf, err_msg=path)


def test_another_seed_gives_other_parameters(first_run, tiny_backbone, make_tiny_config):
    config = make_tiny_config()
    config.seed = 1
    other = leaves(run(config, tiny_backbone, steps=1)[0].params)
    kernels = [path for path in other if "kernel" in path]
    assert all(np.abs(other[path] - leaves(first_run[0].params)[path]).max() > 1e-3 for path in kernels)


def test_every_parameter_and_statistic_moves(first_run, tiny_backbone, make_tiny_config):
    state, _ = first_run
    spec = model_spec(make_tiny_config(), [tiny_backbone], 7)
    start = create_model(spec, 0)
    assert int(state.step) == STEPS
    for before, after in zip(start, (state.params, state.batch_stats), strict=True):
        for path, leaf in leaves(after).items():
            assert not np.array_equal(leaf, leaves(before)[path]), path


def test_metrics_count_every_example(first_run):
    _, metrics = first_run
    assert float(metrics.loss.count) == STEPS * 16
    assert float(metrics.accuracy.count) == STEPS * 16
    assert 0 < float(metrics.compute()["accuracy"]) < 1


_ON_FOUR_DEVICES = """
import importlib.util, json, sys
import jax, numpy as np
spec = importlib.util.spec_from_file_location("conftest", sys.argv[1])
conftest = importlib.util.module_from_spec(spec); spec.loader.exec_module(conftest)
conftest.BACKBONES["tiny"] = conftest.TINY
spec = importlib.util.spec_from_file_location("test_step", sys.argv[2])
test_step = importlib.util.module_from_spec(spec); spec.loader.exec_module(test_step)
assert len(jax.devices()) == 4
state, _ = test_step.run(conftest.tiny_config(), conftest.TINY, optimizer=test_step.PLAIN)
np.savez(sys.argv[3], **test_step.leaves(state))
"""


def test_four_devices_agree_with_one(make_tiny_config, tiny_backbone, repository, tmp_path):
    """Batch statistics, gradients, dropout, drop path and augmentation are those of the global batch."""
    one, _ = run(make_tiny_config(), tiny_backbone, optimizer=PLAIN)
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    arguments = [repository / "tests" / "conftest.py", __file__, tmp_path / "state.npz"]
    subprocess.run(
        [sys.executable, "-c", _ON_FOUR_DEVICES, *map(str, arguments)],
        env={**os.environ, "XLA_FLAGS": flags},
        check=True,
    )
    with np.load(tmp_path / "state.npz") as found:
        for path, leaf in leaves(one).items():
            np.testing.assert_allclose(found[path], leaf, atol=1e-4, rtol=1e-3, err_msg=path)


def test_learns_a_few_faces_by_heart(tiny_backbone, make_tiny_config):
    config = make_tiny_config()
    config.augment.update(dict.fromkeys(("rotation_range", "width_shift_range", "height_shift_range"), 0.0))
    config.augment.update(zoom_range=0.0, horizontal_flip=False)
    config.model.dropout = config.model.drop_path = 0.0
    config.optimizer.learning_rate = 5e-3
    _, early = run(config, tiny_backbone, steps=4)
    _, all_steps = run(config, tiny_backbone, steps=100)
    # The mean over all 100 steps, the first ones included, is far below the mean of the first four.
    assert float(all_steps.compute()["loss"]) < 0.6 * float(early.compute()["loss"])
