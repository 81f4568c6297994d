"""Features computed once: what they are, that training on them is training on images, and what is refused."""

import dataclasses
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from fer_jax.augment.affine import NO_AUGMENTATION
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES
from fer_jax.runs.metrics_log import read_metrics
from fer_jax.runtime import sharding as meshes
from fer_jax.runtime.preemption import Preempted, StopRequests
from fer_jax.train import train
from fer_jax.training.cached_features import cached_input
from fer_jax.training.state import create_model, model_definition

FROZEN = ("classifier/**: train", "backbones/**: freeze")


@pytest.fixture
def make_config(make_tiny_config, mini_backbone):
    """A hybrid of two frozen backbones, every step of which is in the log."""

    def make(**train):
        config = make_tiny_config()
        config.model.backbones = ("tiny", "mini")
        config.train.parameters = FROZEN
        config.train.epochs = 2
        config.train.log_every_steps = 1
        config.train.update(train)
        return config

    return make


def without_randomness(config):
    config.model.dropout = 0.0
    config.augment.update(dataclasses.asdict(NO_AUGMENTATION))
    return config


def losses(workdir):
    return [line["loss"] for line in read_metrics(workdir) if line["kind"] == "train"]


@pytest.fixture
def extracted(make_config, faces):
    """`cached_input` of three augmented views, and the definition and arrays of its model."""
    config = make_config(cached_views=3)
    mesh = meshes.make_mesh()
    spec = model_spec(config, [BACKBONES[name] for name in config.model.backbones], 7)
    params, batch_stats = jax.device_put(create_model(spec, 0), meshes.replicated(mesh))
    graphdef, *_ = model_definition(spec, meshes.replicated(mesh))
    inputs, text = cached_input(config, faces, params, batch_stats, graphdef, mesh, lambda: None)
    return inputs, text, nnx.merge(graphdef, params, batch_stats)


def test_features_are_those_of_the_model_and_views_take_turns(extracted, faces):
    inputs, text, model = extracted
    views, _ = inputs.step_arguments()
    images = jax.image.resize(faces.validation.images.astype(np.float32), (30, 32, 32), "linear", antialias=False)
    np.testing.assert_allclose(inputs.evaluated["validation"], model.features(images), atol=2e-5)
    ids = np.arange(64, dtype=np.int32)
    split = meshes.split_batch(meshes.make_mesh())
    seen = np.stack([views.take(ids, epoch, split).images for epoch in range(4)])
    np.testing.assert_array_equal(seen[3], seen[0])
    np.testing.assert_array_equal(views.take(ids, 0, split).row_ids, faces.train.row_ids)
    # In three epochs an example shows three different views; in the first one examples show different ones.
    assert np.all(np.abs(seen[0] - seen[1]).max(axis=1) > 1e-4)
    all_views = np.asarray(views.features)[:, :64, :40]
    np.testing.assert_array_equal(seen[0], all_views[faces.train.row_ids % 3, ids])
    assert "40 cached features (float32) of 3 views of each of 64 training images, 0.0 MiB shared by 1 devices" in text


def test_training_on_cached_features_is_training_on_images(make_config, faces, tmp_path):
    """Without augmentation and dropout, but for the order of additions."""
    ours = train(without_randomness(make_config(cached_views=2)), faces, tmp_path / "cached")
    theirs = train(without_randomness(make_config()), faces, tmp_path / "uncached")
    np.testing.assert_allclose(losses(tmp_path / "cached")[0], losses(tmp_path / "uncached")[0], rtol=1e-6)
    np.testing.assert_allclose(losses(tmp_path / "cached"), losses(tmp_path / "uncached"), rtol=1e-4)
    for one, other in zip(ours.history, theirs.history, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-4)


def test_one_view_is_that_of_the_first_step(make_config, faces, tmp_path):
    """With augmentation, and the same dropout: the view's keys are those of step 0."""
    train(make_config(cached_views=1, epochs=1), faces, tmp_path / "cached")
    train(make_config(epochs=1), faces, tmp_path / "uncached")
    cached, uncached = losses(tmp_path / "cached"), losses(tmp_path / "uncached")
    np.testing.assert_allclose(cached[0], uncached[0], rtol=1e-6)
    # The later steps augment anew, and the cached ones do not.
    assert not np.allclose(cached[1:], uncached[1:], rtol=1e-5)


def test_run_is_stopped_and_goes_on_and_its_checkpoint_is_a_whole_model(
    make_config, faces, assert_same_run, tmp_path, monkeypatch
):
    whole = train(make_config(cached_views=2), faces, tmp_path / "whole")
    requested, calls = StopRequests.requested, iter(range(1, 100))

    def signalled(self):
        if next(calls) == 6:
            signal.raise_signal(signal.SIGTERM)
        return requested(self)

    with monkeypatch.context() as patch:
        patch.setattr(StopRequests, "requested", signalled)
        with pytest.raises(Preempted):
            train(make_config(cached_views=2), faces, tmp_path / "stopped")
    train(make_config(cached_views=2), faces, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    probabilities = TrainedModel(tmp_path / "whole").probabilities(faces.validation.images)
    assert np.mean(probabilities.argmax(axis=1) == faces.validation.labels) == whole.best.validation_accuracy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.parameters": ("**: train",)}, "backbones/mini/.* trains .*only be cached where no backbone does"),
        (
            {"train.parameters": ("classifier/**: train", "backbones/mini/**: train from epoch 2", "**: freeze")},
            "trains .*from epoch 2",
        ),
        ({"train.mixup_alpha": 0.2}, r"config\.train\.mixup_alpha=0\.2: .*set train\.mixup_alpha to 0"),
        ({"eval.flip": True}, r"config\.eval\.flip=True"),
    ],
)
def test_what_needs_images_is_refused(change, message, make_config, faces, tmp_path):
    config = make_config(cached_views=2)
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        train(config, faces, tmp_path / "run")
    assert not (tmp_path / "run").exists()


_ON_DEVICES = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from fer_jax.runtime import sharding as meshes
from fer_jax.training.cached_features import FeatureViews
mesh = meshes.make_mesh()
assert mesh.size == 4
rng = np.random.default_rng(0)
features = rng.normal(size=(2, 4096, 12)).astype(np.float32)
row_ids = np.arange(4096, dtype=np.int32) * 3 + 1
views = FeatureViews(
    jax.device_put(features, NamedSharding(mesh, P(None, None, "data"))),
    *jax.device_put((row_ids, row_ids), meshes.replicated(mesh)),
    10,
)
take = lambda views, ids: views.take(ids, 5, meshes.split_batch(mesh))
ids = jax.device_put(rng.permutation(4096)[:16].astype(np.int32), meshes.replicated(mesh))
program = jax.jit(take).lower(views, ids).compile()
found = program(views, ids).images
np.testing.assert_array_equal(found, features[(row_ids[ids] + 5) % 2, ids, :10])
# Nobody gathers the table: what moves between devices is no larger than the batch.
print(program.memory_analysis().temp_size_in_bytes)
"""


def test_devices_share_the_features_and_exchange_no_more_than_a_batch(repository):
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    }
    result = subprocess.run(
        [sys.executable, "-c", _ON_DEVICES], cwd=repository, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    one_share = 2 * 4096 * 12 * 4 // 4
    assert int(result.stdout) < one_share
