"""What the tests share: a compile cache in a temporary folder, a tiny backbone, and a run trained once."""

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before jax is imported: compiled programs are kept between the tests and the processes that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "fer_jax_test_compile_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config
from fer_jax.data.dataset import Dataset
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.models.backbone import BackboneSpec, Preprocessing, Stage
from fer_jax.models.fernet import BACKBONES
from fer_jax.runs.metrics_log import read_metrics
from fer_jax.train import train

REPOSITORY = Path(__file__).parents[1]
TINY = BackboneSpec(
    name="tiny",
    stem_channels=8,
    stages=(
        Stage(repeats=1, kernel=3, stride=1, channels=8, expansion=1),
        Stage(repeats=2, kernel=3, stride=2, channels=12, expansion=2),
        Stage(repeats=2, kernel=5, stride=2, channels=16, expansion=2),
    ),
    top_channels=24,
    activation="swish",
    squeeze_excite=0.25,
    drop_path=True,
    preprocessing=Preprocessing(mean=(127.5,) * 3, std=(63.75,) * 3),
)
"""Every part of the real networks (gates, drop path, both kernel sizes, strides), compiled in seconds."""

MINI = dataclasses.replace(TINY, name="mini", stages=TINY.stages[:2], top_channels=16, activation="relu6")
"""What a hybrid with `TINY` takes beside it."""


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def tiny_backbone() -> BackboneSpec:
    """Makes `tiny` a backbone that configs can name."""
    BACKBONES[TINY.name] = TINY
    return TINY


@pytest.fixture(scope="session", autouse=True)
def mini_backbone() -> BackboneSpec:
    """Makes `mini` a backbone that configs can name."""
    BACKBONES[MINI.name] = MINI
    return MINI


def tiny_config() -> ConfigDict:
    """A config that trains in seconds, with augmentation, dropout and drop path on."""
    config = default_config()
    config.init = "scratch"
    config.model.backbones = (TINY.name,)
    config.model.input_size = 32
    config.model.hidden_units = (16,)
    config.model.batch_norm_momentum = 0.9
    config.train.batch_size = 16
    config.train.epochs = 3
    config.train.log_every_steps = 3
    config.eval.batch_size = 20
    return config


@pytest.fixture(scope="session")
def make_tiny_config(tiny_backbone) -> Callable[[], ConfigDict]:
    """`tiny_config`, with the backbone that it names made known."""
    return tiny_config


@pytest.fixture(scope="session")
def faces() -> Dataset:
    """Drawn faces, 64 of them to train on: four steps an epoch of `tiny_config`."""
    return synthetic_faces(64, 30, 17, seed=0)


@pytest.fixture(scope="session")
def whole_run(make_tiny_config, faces, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of a run of three epochs that nothing interrupted, and what `train` returned. Not to be changed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, train(make_tiny_config(), faces, workdir)


def without_times(entries: list[dict]) -> list[dict]:
    """Lines of a log or a history, without what a clock measured."""
    return [
        {key: value for key, value in entry.items() if key not in ("images_per_second", "seconds")} for entry in entries
    ]


def read_checkpoint(folder: Path, *items: str) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint in `folder`, by path."""
    import orbax.checkpoint as ocp

    newest = folder / str(max(ocp.utils.checkpoint_steps(folder)))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaves = {}
    with ocp.StandardCheckpointer() as checkpointer:
        for item in items:
            shapes = checkpointer.metadata(newest / item).item_metadata.tree
            # Wherever the arrays lay when they were saved.
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
            tree = checkpointer.restore(newest / item, shapes)
            leaves |= {
                item + jax.tree_util.keystr(path): np.asarray(leaf)
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }
    return leaves


def assert_same_run(workdir: Path, expected: Path) -> None:
    """Two runs ended alike: every array to the bit, every line of the log but for the times, the best epoch."""
    assert without_times(read_metrics(workdir)) == without_times(read_metrics(expected))
    for folder, items in (("last", ("model", "progress")), ("best", ("model",))):
        ours, theirs = (read_checkpoint(place / "checkpoints" / folder, *items) for place in (workdir, expected))
        assert ours.keys() == theirs.keys()
        for path, leaf in theirs.items():
            np.testing.assert_array_equal(ours[path], leaf, err_msg=f"{folder} {path}")


@pytest.fixture(name="assert_same_run", scope="session")
def assert_same_run_fixture() -> Callable[[Path, Path], None]:
    """`assert_same_run`."""
    return assert_same_run


@pytest.fixture(name="read_checkpoint", scope="session")
def read_checkpoint_fixture() -> Callable[..., dict[str, np.ndarray]]:
    """`read_checkpoint`."""
    return read_checkpoint
