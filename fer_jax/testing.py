"""What tests share: tiny backbones and configs that name them, one step of a config, and what makes two runs the same.

Not for use by anything but tests, and by the processes that they start.
"""

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config
from fer_jax.data.dataset import SPLITS, Dataset, Split
from fer_jax.data.fer2013 import USAGE_OF_SPLIT
from fer_jax.data.resident import ResidentSplit, to_device
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.models.backbone import BackboneSpec, Preprocessing, Stage
from fer_jax.models.fernet import BACKBONES
from fer_jax.params.trainable import TrainableTable
from fer_jax.runs.metrics_log import read_metrics
from fer_jax.runtime.sharding import make_mesh, replicated
from fer_jax.training.program import DataShape, TrainProgram
from fer_jax.training.state import TrainState
from fer_jax.training.step import TrainMetrics

TINY = BackboneSpec(
    name="tiny",
    stem_channels=8,
    stages=(
        Stage(repeats=1, kernel=3, stride=1, channels=8, expansion=1),
        Stage(repeats=2, kernel=5, stride=2, channels=12, expansion=2),
    ),
    top_channels=24,
    activation="swish",
    squeeze_excite=0.25,
    drop_path=True,
    preprocessing=Preprocessing(mean=(127.5,) * 3, std=(63.75,) * 3),
)
"""Every part of the real networks (gates, drop path, both kernel sizes, strides), compiled in seconds."""

MINI = dataclasses.replace(TINY, name="mini", top_channels=16, activation="relu6")
"""What a hybrid with `TINY` takes beside it."""

TRAIN_ARGUMENTS = (
    "--config=configs/quickstart.py",
    "--config.init_from=None",
    "--config.model.backbones=('tiny',)",
    "--config.model.hidden_units=(16,)",
    "--config.model.input_size=32",
    # Everything that draws random numbers or keeps statistics, and all that a state can hold.
    "--config.model.drop_path=0.2",
    "--config.model.dropout=0.2",
    "--config.train.ema_decay=0.9",
    "--config.train.batch_size=16",
    "--config.train.log_every_steps=3",
    "--config.augment.rotation_range=10.0",
    "--config.augment.width_shift_range=0.1",
    "--data=synthetic:64",
)
"""Arguments of `tests/tiny_train.py` but for the folder: four steps an epoch, from the root of the repository."""


@contextlib.contextmanager
def registered(*specs: BackboneSpec) -> Iterator[None]:
    """Let configs name the backbones `specs` inside the block, also in place of one of the same name."""
    before = dict(BACKBONES)
    BACKBONES.update({spec.name: spec for spec in specs})
    try:
        yield
    finally:
        BACKBONES.clear()
        BACKBONES.update(before)


def make_tiny_config() -> ConfigDict:
    """Return a config of `TINY` that trains in seconds, with augmentation, dropout and drop path on."""
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


def drawn_split(num_images: int, *, colour: bool = False) -> Split:
    """Return drawn faces to train on: 48 x 48 pixels, gray, or tinted where `colour`."""
    split = synthetic_faces(num_images, 8, 8, seed=0).train
    if not colour:
        return split
    tint = np.array([1.0, 0.8, 0.6])
    images = np.asarray(split.images)[..., None]
    return dataclasses.replace(split, images=(images * tint).astype(np.uint8))


def write_votes(path: Path, data: Dataset) -> Path:
    """Write votes on the images of `data` in the form of FER+: eight for the label, two for the one after it."""
    classes = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    columns = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
    lines = {}
    for name in SPLITS:
        for label, row_id in zip(data.split(name).labels.tolist(), data.split(name).row_ids.tolist(), strict=True):
            votes = {classes[label]: 8, classes[(label + 1) % 7]: 2}
            counts = ",".join(str(votes.get(column, 0)) for column in columns)
            lines[row_id] = f"{USAGE_OF_SPLIT[name]},fer{row_id:07}.png,{counts}\n"
    path.write_text(f"Usage,Image name,{','.join(columns)}\n" + "".join(lines[row] for row in sorted(lines)))
    return path


@dataclasses.dataclass(frozen=True)
class StepOfConfig:
    """The jitted training step of a config's first epoch, and what makes its arguments.

    `arguments` returns the state before the first step, empty metrics, the split on the devices and its batches;
    `jax.eval_shape(arguments)` has their shapes without computing any.
    """

    step: jax.stages.Wrapped
    arguments: Callable[[], tuple[TrainState, TrainMetrics, ResidentSplit, jax.Array]]
    table: TrainableTable


def step_of_config(config: ConfigDict, split: Split) -> StepOfConfig:
    """Return the step of `config`, with backbones from scratch and without cached features, on all devices."""
    shape = DataShape(len(split), split.images.shape[1:], NUM_EXPRESSIONS)
    program = TrainProgram.build(config, shape, make_mesh())

    def arguments():
        steps = program.steps_per_epoch
        order = jnp.arange(steps * config.train.batch_size, dtype=jnp.int32).reshape(steps, -1)
        return program.initial_state(), program.no_metrics(), to_device(split, replicated(program.mesh)), order

    return StepOfConfig(program.step(), arguments, program.table)


def load_script(path: Path) -> ModuleType:
    """Import the file at `path`, which lies in no package, anew: what a test changes in it, no other one sees."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_times(entries: list[dict]) -> list[dict]:
    """Return lines of a log or a history without what a clock measured."""
    return [
        {key: value for key, value in entry.items() if key not in ("images_per_second", "seconds")} for entry in entries
    ]


def read_checkpoint(folder: Path, *items: str) -> dict[str, np.ndarray]:
    """Read every array of the newest checkpoint in `folder`, by path."""
    newest = folder / str(max(ocp.utils.checkpoint_steps(folder)))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    # Wherever the arrays lay when they were saved.
    local = functools.partial(jax.ShapeDtypeStruct, sharding=here)
    leaves: dict[str, np.ndarray] = {}
    with ocp.StandardCheckpointer() as checkpointer:
        for item in items:
            shapes = checkpointer.metadata(newest / item).item_metadata.tree
            tree = checkpointer.restore(newest / item, jax.tree.map(lambda leaf: local(leaf.shape, leaf.dtype), shapes))
            leaves |= {
                item + jax.tree_util.keystr(path): np.asarray(leaf)
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }
    return leaves


def assert_same_run(workdir: Path, expected: Path) -> None:
    """Assert that two runs ended alike: every array to the bit, every line of the log but for times, the best epoch."""
    assert without_times(read_metrics(workdir)) == without_times(read_metrics(expected))
    for folder, items in (("last", ("model", "progress")), ("best", ("model",))):
        ours, theirs = (read_checkpoint(run / "checkpoints" / folder, *items) for run in (workdir, expected))
        assert ours.keys() == theirs.keys()
        for path, leaf in theirs.items():
            np.testing.assert_array_equal(ours[path], leaf, err_msg=f"{folder} {path}")
