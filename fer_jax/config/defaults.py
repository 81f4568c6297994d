"""The configuration of a run: the paper's Table 1 as typed, locked defaults, and the checks on what users change."""

import dataclasses
import math
from collections.abc import Sequence

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fer_jax.augment.affine import Augmentation
from fer_jax.data.class_folders import CLASSES
from fer_jax.data.resident import INPUTS
from fer_jax.errors import InputError
from fer_jax.models.convolutions.depthwise import LOWERING_FORMS, is_lowering
from fer_jax.models.fernet import BACKBONES, POOLINGS
from fer_jax.params.trainable import EVERYTHING, parse_rows

_PUBLISHED_BACKBONES = tuple(BACKBONES)


def default_config() -> ConfigDict:
    """Table 1 of the paper for EfficientNetB0, with this project's options at rest.

    The paper does not state the augmentation's ranges, the pooling, nor the decay of the running statistics; the
    ranges are common choices, the pooling and the decay are the defaults of Keras.
    """
    config = ConfigDict()
    config.seed = 0
    config.init = "keras"
    # Folders of runs, or of checkpoints, that backbones start from in place of `init`.
    config.backbone_checkpoints = ConfigDict({name: placeholder(str) for name in _PUBLISHED_BACKBONES})

    config.data = ConfigDict()
    # The fraction of `train` that becomes `validation` in an image folder that has none.
    config.data.validation_fraction = placeholder(float)
    # How an image folder is read (fer_jax.data.folder_reader.FolderOptions).
    config.data.image_size = placeholder(int)
    config.data.classes = "auto"
    config.data.input = "auto"
    # Processes that decode the images of a streamed input; 0: threads of the training process.
    config.data.workers = 0

    config.augment = ConfigDict(dataclasses.asdict(Augmentation()))

    config.model = ConfigDict()
    config.model.backbones = ("efficientnet_b0",)
    config.model.input_size = 200
    config.model.pooling = "avg"
    config.model.hidden_units = (4096, 1024)
    config.model.dropout = 0.2
    config.model.drop_path = 0.2
    config.model.batch_norm_momentum = 0.99
    config.model.depthwise_lowering = "auto"
    config.model.dtype = "float32"
    # Computes each block again in the backward pass, for batches that would not fit otherwise.
    config.model.rematerialise = False

    config.train = ConfigDict()
    config.train.batch_size = 32
    config.train.epochs = 100
    # What trains, when and how fast: the rows of `fer_jax.params.trainable`.
    config.train.parameters = EVERYTHING
    # 0: every step augments and runs the backbones anew, as in the paper. K: frozen backbones see K views of an image
    # before the first step, and their features are kept (fer_jax.training.cached_features).
    config.train.cached_views = 0
    config.train.label_smoothing = 0.0
    config.train.mixup_alpha = 0.0
    config.train.ema_decay = 0.0
    config.train.log_every_steps = 50
    # 0: at the end of each epoch, and on a signal, alone. For machines that vanish without one, and long epochs.
    config.train.checkpoint_every_steps = 0
    # Without any progress for so long, a run ends with an error; 0: never.
    config.train.watchdog_minutes = 30.0

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.weight_decay = 0.0
    config.optimizer.gradient_clip_norm = 0.0

    config.eval = ConfigDict()
    config.eval.batch_size = 256
    config.eval.flip = False
    # Reports the accuracy on the test split after each epoch, for the paper's protocol; it selects nothing.
    config.eval.test_each_epoch = False
    return config.lock()


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What a key may hold, in words, and the test of it."""

    expected: str
    holds: object


def _one_of(choices: Sequence[str]) -> _Rule:
    return _Rule("one of " + ", ".join(choices), lambda value: value in choices)


def _number(low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = False) -> _Rule:
    def holds(value):
        above = value > low if low_open else value >= low
        below = value < high if high_open else value <= high
        return above and below and -math.inf < value < math.inf

    bounds = f"{'above' if low_open else 'at least'} {low:g}"
    if high != math.inf:
        bounds += f" and {'below' if high_open else 'at most'} {high:g}"
    return _Rule(f"a number {bounds}", holds)


def _tuple_of(expected: str, holds) -> _Rule:
    return _Rule(expected, lambda values: all(holds(value) for value in values))


_RULES = {
    "seed": _number(0, 2**32 - 1),
    "init": _Rule("keras, torchvision, timm:NAME, scratch, checkpoints, or the path of a converted file", bool),
    "data.validation_fraction": _Rule(
        "None or a number above 0 and below 1", lambda value: value is None or 0 < value < 1
    ),
    "data.image_size": _Rule("None or a number from 8 to 1024", lambda value: value is None or 8 <= value <= 1024),
    "data.classes": _one_of(CLASSES),
    "data.input": _one_of(INPUTS),
    "data.workers": _number(0, 256),
    "model.backbones": _Rule(
        "one or more different names out of " + ", ".join(BACKBONES),
        lambda names: names and all(name in tuple(BACKBONES) for name in names) and len(set(names)) == len(names),
    ),
    "model.input_size": _number(32, 1024),
    "model.pooling": _one_of(tuple(POOLINGS)),
    "model.hidden_units": _tuple_of(
        "integers of at least 1, such as (4096, 1024)", lambda units: type(units) is int and units >= 1
    ),
    "model.dropout": _number(0, 1, high_open=True),
    "model.drop_path": _number(0, 1, high_open=True),
    "model.batch_norm_momentum": _number(0, 1, high_open=True),
    "model.depthwise_lowering": _Rule(LOWERING_FORMS, lambda value: value == "auto" or is_lowering(value)),
    "model.dtype": _one_of(("float32", "bfloat16")),
    "train.batch_size": _number(1),
    "train.epochs": _number(1),
    "train.cached_views": _number(0),
    "train.label_smoothing": _number(0, 1, high_open=True),
    "train.mixup_alpha": _number(0),
    "train.ema_decay": _number(0, 1, high_open=True),
    "train.log_every_steps": _number(1),
    "train.checkpoint_every_steps": _number(0),
    "train.watchdog_minutes": _number(0),
    "optimizer.learning_rate": _number(0, low_open=True),
    "optimizer.schedule": _one_of(("constant", "cosine")),
    "optimizer.warmup_epochs": _number(0),
    "optimizer.weight_decay": _number(0),
    "optimizer.gradient_clip_norm": _number(0),
    "eval.batch_size": _number(1),
}


def flatten(config: ConfigDict) -> dict:
    """All values of a config by dotted key, in sorted order."""
    flat = {}
    for key, value in sorted(config.items()):
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": v for inner, v in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def check_config(config: ConfigDict) -> None:
    """Raises `InputError`, naming the key, what it holds and what it may hold, unless every value is possible."""
    flat = flatten(config)
    for key, rule in _RULES.items():
        try:
            holds = rule.holds(flat[key])
        except TypeError:  # a value of another type, where the default is None or a tuple
            holds = False
        if not holds:
            raise InputError(f"config.{key}={flat[key]!r}: expected {rule.expected}")
    Augmentation(**config.augment)
    parse_rows(config.train.parameters, config.train.epochs)
    if config.optimizer.warmup_epochs >= config.train.epochs:
        raise InputError(
            f"config.optimizer.warmup_epochs={config.optimizer.warmup_epochs:g}: expected fewer than the "
            f"{config.train.epochs} epochs of config.train.epochs"
        )
