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

import pytest
from ml_collections import ConfigDict

from fer_jax.config import default_config
from fer_jax.models.fernet import BACKBONES
from fer_jax.models.inverted_residual import BackboneSpec, Preprocessing, Stage

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


@pytest.fixture
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
