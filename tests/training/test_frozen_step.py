"""Training steps with frozen parts: what moves and what does not, what it costs, and who has optimizer state."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fer_jax.augment.affine import NO_AUGMENTATION
from fer_jax.data import resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.inference.predictor import predict_images, predict_rows
from fer_jax.params.trainable import state_bytes
from fer_jax.params.tree import leaves_by_path, select
from fer_jax.runtime import sharding as meshes
from fer_jax.training.optimizer import scale_by_keras_adam
from fer_jax.training.program import DataShape, TrainProgram
from fer_jax.training.state import create_model
from fer_jax.training.step import TrainMetrics

STEPS_PER_EPOCH = 4
FROZEN = ("classifier/**: train", "backbones/**: freeze")


class Training:
    """A hybrid of two tiny backbones in training by a table; `start` and `state` are its first and latest states."""

    def __init__(self, config, backbones, rows):
        config.train.parameters = rows
        self.config = config
        self.program = TrainProgram.build(config, DataShape(64, (48, 48), 7), meshes.make_mesh(), backbones)
        self.mesh, self.spec, self.table = self.program.mesh, self.program.spec, self.program.table
        replicated = meshes.replicated(self.mesh)
        params, batch_stats = create_model(self.spec, config.seed)
        # Statistics of their own, so that normalising by those of the batch would show.
        batch_stats = jax.tree.map(lambda leaf: leaf + 0.25, batch_stats)
        self.state = self.program.state_of(params, batch_stats)
        self.start = jax.device_get(self.state)
        self.faces = synthetic_faces(16, 7, 7, seed=0).train
        self.data = resident.to_device(self.faces, replicated)
        self.order = jax.device_put(np.tile(np.arange(16, dtype=np.int32), (STEPS_PER_EPOCH, 1)), replicated)
        self.metrics = jax.device_put(TrainMetrics.empty(), replicated)

    def step_function(self, epoch):
        return self.program.step(epoch)

    def run(self, steps, epoch=1):
        step = self.step_function(epoch)
        for _ in range(steps):
            self.state, self.metrics = step(self.state, self.metrics, self.data, self.order)
        return self

    def flops(self):
        inputs = self.state, self.metrics, self.data, self.order
        return self.step_function(1).lower(*inputs).compile().cost_analysis()["flops"]


@pytest.fixture(scope="module")
def backbones(tiny_backbone, mini_backbone):
    return tiny_backbone, mini_backbone


@pytest.fixture
def plain_config(make_tiny_config):
    """Without augmentation and dropout. Tests share the programs of its steps through the compile cache."""
    config = make_tiny_config()
    config.model.dropout = 0.0
    config.augment.update(dataclasses.asdict(NO_AUGMENTATION))
    return config


TINY_TRAINS = ("backbones/mini/**: freeze", "**: train")


def moved(before, after):
    """The paths of the leaves that are not the same bit for bit."""
    before, after = leaves_by_path(before), leaves_by_path(jax.device_get(after))
    assert before.keys() == after.keys()
    return {path for path in before if before[path].tobytes() != after[path].tobytes()}


def assert_frozen(training, prefix=("backbones",)):
    """Fails unless nothing below `prefix` has moved, and every other parameter has."""
    n = len(prefix)
    assert not {path for path in moved(training.start.batch_stats, training.state.batch_stats) if path[:n] == prefix}
    found = moved(training.start.params, training.state.params)
    assert found == {path for path in training.table.row_of if path[:n] != prefix}


@pytest.fixture(scope="module")
def frozen_hybrid(make_tiny_config, backbones):
    return Training(make_tiny_config(), backbones, FROZEN).run(50)


def test_frozen_leaves_and_statistics_are_the_same_bits_after_50_steps(frozen_hybrid):
    assert_frozen(frozen_hybrid)


def test_one_backbone_may_train_and_the_other_not(plain_config, backbones):
    training = Training(plain_config, backbones, TINY_TRAINS).run(2)
    assert_frozen(training, ("backbones", "mini"))
    statistics = moved(training.start.batch_stats, training.state.batch_stats)
    assert statistics == {path for path in leaves_by_path(training.start.batch_stats) if path[1] == "tiny"}
    # A table that trains more than it should does not pass.
    with pytest.raises(AssertionError):
        assert_frozen(training)


def test_optimizer_state_is_that_of_the_trained_parameters_alone(frozen_hybrid):
    trained = select(frozen_hybrid.start.params, lambda path: path[0] == "classifier")
    # Two moments, and Adam's and the schedule's step counts.
    assert state_bytes(frozen_hybrid.state.opt_state) <= 2 * state_bytes(trained) + 2 * 4


def test_frozen_step_learns_the_classifier_on_the_features_of_evaluation(plain_config, backbones):
    """Against a step written out: features in evaluation mode, then Adam on the classifier alone."""
    training = Training(plain_config, backbones, FROZEN).run(3)
    start = jax.tree.map(jnp.asarray, training.start)
    graphdef = training.program.graphdef
    images = jax.image.resize(training.faces.images.astype(jnp.float32), (16, 32, 32), "linear", antialias=False)
    features = jax.jit(lambda images: nnx.merge(graphdef, start.params, start.batch_stats).features(images))(images)

    def loss(classifier):
        model = nnx.merge(graphdef, start.params | {"classifier": classifier}, start.batch_stats)
        logits = model.classifier(features)
        return optax.softmax_cross_entropy_with_integer_labels(logits, training.data.labels).mean()

    adam = optax.chain(scale_by_keras_adam(0.9, 0.999, 1e-7), optax.scale_by_learning_rate(1e-3))
    classifier = start.params["classifier"]
    state = adam.init(classifier)
    for _ in range(3):
        gradients = jax.grad(loss)(classifier)
        updates, state = adam.update(gradients, state)
        classifier = optax.apply_updates(classifier, updates)
    found = training.state.params["classifier"]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), found, classifier)
    # The norms of the last step, over what trains alone.
    norms = {"gradient_norm": gradients, "update_norm": updates, "parameter_norm": classifier}
    for name, tree in norms.items():
        expected = np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(tree)))
        assert float(training.metrics.compute()[name]) == pytest.approx(expected, rel=1e-3)


def test_frozen_step_costs_a_forward_pass_and_the_classifier(plain_config, backbones):
    """In FLOPs of the compiled programs; a step that differentiates one of the backbones is far beyond the bound."""
    training = Training(plain_config, backbones, FROZEN)
    graphdef = training.program.graphdef
    images_to_logits = functools.partial(predict_images, graphdef=graphdef, input_size=32)
    forward = functools.partial(predict_rows, images_to_logits, sharding=meshes.split_batch(training.mesh))
    state = training.state
    arguments = state.params, state.batch_stats, jnp.asarray(training.faces.images), training.order[0]
    forward_flops = jax.jit(forward).lower(*arguments).compile().cost_analysis()["flops"]
    # Two more matrix products for a gradient, and Adam takes some 15 operations a parameter.
    classifier = sum(leaf.size for leaf in jax.tree.leaves(state.params["classifier"]))
    bound = 1.15 * (forward_flops + (2 * 2 * 16 + 15) * classifier)
    assert training.flops() <= bound
    assert Training(plain_config, backbones, TINY_TRAINS).flops() > 1.5 * bound


STAGED = ("classifier/**: train", "backbones/mini/**: train at 0.1 from epoch 2", "backbones/tiny/**: freeze")


@pytest.fixture(scope="module")
def staged(make_tiny_config, backbones):
    """The states before, after the first epoch, and after one step of the second."""
    config = make_tiny_config()
    config.optimizer.update(schedule="cosine", weight_decay=0.1)
    config.train.ema_decay = 0.25
    training = Training(config, backbones, STAGED).run(STEPS_PER_EPOCH)
    first_epoch = jax.device_get(training.state)
    return training, first_epoch, jax.device_get(training.run(1, epoch=2).state)


def adam_of(state, label):
    """The state of Adam of the parameters with this label."""
    return state.opt_state[-1].inner_states[label].inner_state[0]


def test_group_is_frozen_until_its_epoch(staged):
    training, first_epoch, second = staged
    start = training.start
    for before, after in (
        (start.params, first_epoch.params),
        (start.batch_stats, first_epoch.batch_stats),
        (start.average, first_epoch.average),
    ):
        assert not {path for path in moved(before, after) if "backbones" in path}
    assert moved(start.params, first_epoch.params)
    mini = {path for path in training.table.row_of if path[:2] == ("backbones", "mini")}
    assert mini <= moved(first_epoch.params, second.params)
    assert moved(first_epoch.batch_stats, second.batch_stats) == {
        path for path in leaves_by_path(start.batch_stats) if path[1] == "mini"
    }
    states = (start, first_epoch, second)
    assert [int(adam_of(state, "rate 0.1 from epoch 2").count) for state in states] == [0, 0, 1]
    assert [int(adam_of(state, "rate 1.0 from epoch 1").count) for state in states] == [0, 4, 5]


def test_late_group_starts_like_adam_at_the_rate_of_its_epoch(staged):
    """Adam's first step is g / (|g| + eps / sqrt(0.001)); decay acts on kernels; a cosine of 12 steps, at step 4."""
    _, first_epoch, second = staged
    rate = 0.1 * 1e-3 * (1 + np.cos(np.pi * 4 / 12)) / 2
    moments = leaves_by_path(adam_of(second, "rate 0.1 from epoch 2").mu)
    moments = {path: moment for path, moment in moments.items() if path[:2] == ("backbones", "mini")}
    before, after = leaves_by_path(first_epoch.params), leaves_by_path(second.params)
    assert len(moments) > 10
    for path, moment in moments.items():
        gradient = moment / 0.1
        decay = 0.1 * before[path] if path[-1] == "kernel" else 0.0
        expected = before[path] - rate * (gradient / (np.abs(gradient) + 1e-7 / np.sqrt(0.001)) + decay)
        np.testing.assert_allclose(after[path], expected, atol=3e-8, rtol=3e-7, err_msg=str(path))


def test_averages_are_those_of_the_sequence_of_models(staged, backbones):
    """Parameters and statistics, recomputed in NumPy from the models after each step; frozen ones have none."""
    training = Training(staged[0].config, backbones, STAGED)
    expected = leaves_by_path(training.start.average)
    assert {path[:3] for path in expected} == {
        ("params", "backbones", "mini"),
        ("params", "classifier", "hidden"),
        ("params", "classifier", "logits"),
        ("batch_stats", "backbones", "mini"),
    }
    step = training.step_function(epoch=2)
    for t in range(4):
        training.state, training.metrics = step(training.state, training.metrics, training.data, training.order)
        state = jax.device_get(training.state)
        model = leaves_by_path({"params": state.params, "batch_stats": state.batch_stats})
        # 0.1, 2/11 and then 0.25: the third and the fourth step have reached the decay that is asked for.
        decay = min(0.25, (1 + t) / (10 + t))
        expected = {path: decay * old + (1 - decay) * model[path] for path, old in expected.items()}
    found = leaves_by_path(state.average)
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-5, atol=1e-7, err_msg=str(path))
    used = leaves_by_path(state.model())
    assert all((used[path] is found[path]) if path in found else (used[path] is model[path]) for path in used)
    again = type(state).from_parts(state.model(), state.progress())
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, again, state)
