"""Every key of a config is checked: a value that it may not hold is refused by its name."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from fer_jax.config import defaults
from fer_jax.config.defaults import check_config, default_config, flatten, keys
from fer_jax.config.keys import Key, Rule, number
from fer_jax.errors import InputError

IMPOSSIBLE = {
    "init_from": 3,
    "seed": -1,
    "init": "",
    "backbone_checkpoints.efficientnet_b0": "",
    "backbone_checkpoints.efficientnet_lite0": "",
    "backbone_checkpoints.mobilenet_v2": "",
    "data.validation_fraction": 1.0,
    "data.image_size": 4,
    "data.class_names": "",
    "data.skip_damaged": 1,
    "data.classes": "mine",
    "data.input": "disk",
    "data.workers": 257,
    "data.votes": "",
    "data.vote_labels": "plurality",
    "data.vote_classes": 6,
    "data.drop_twins": "mirrored",
    "data.twins": "",
    "augment.horizontal_flip": "often",
    "augment.rotation_range": 46.0,
    "augment.width_shift_range": 1.0,
    "augment.height_shift_range": -0.1,
    "augment.zoom_range": 1.0,
    "augment.fill_mode": "wrap",
    "augment.random_erasing": 1.1,
    "model.backbones": ("resnet",),
    "model.input_size": 31,
    "model.pooling": "median",
    "model.hidden_units": (0,),
    "model.dropout": 1.0,
    "model.drop_path": -0.1,
    "model.batch_norm_momentum": 1.0,
    "model.depthwise_lowering": "fast",
    "model.dtype": "int8",
    "model.rematerialise": "sometimes",
    "train.batch_size": 0,
    "train.epochs": 0,
    "train.parameters": ("**: thaw",),
    "train.cached_views": -1,
    "train.class_weights": "heavy",
    "train.early_stopping_patience": -1,
    "train.label_smoothing": 1.0,
    "train.mixup_alpha": float("inf"),
    "train.ema_decay": 1.0,
    "train.log_every_steps": 0,
    "train.checkpoint_every_steps": -1,
    "train.watchdog_minutes": float("nan"),
    "optimizer.name": "lion",
    "optimizer.learning_rate": 0.0,
    "optimizer.momentum": 1.0,
    "optimizer.schedule": "linear",
    "optimizer.warmup_epochs": -1.0,
    "optimizer.weight_decay": -0.1,
    "optimizer.gradient_clip_norm": -1.0,
    "eval.batch_size": 0,
    "eval.flip": "left",
    "eval.test_each_epoch": "always",
}


def unchecked_keys() -> list[str]:
    """The keys that take the value of `IMPOSSIBLE`, or have none there, or are refused under another name."""
    found = []
    for name in flatten(default_config()):
        if name not in IMPOSSIBLE:
            found.append(name)
            continue
        config = default_config().to_dict()
        section, _, key = name.rpartition(".")
        (config[section] if section else config)[key] = IMPOSSIBLE[name]
        try:
            check_config(ConfigDict(config))
            found.append(name)
        except InputError as error:
            if f"config.{name}" not in str(error):
                found.append(name)
    return found


def test_every_key_is_checked():
    assert set(IMPOSSIBLE) == set(flatten(default_config())) == set(keys())
    assert unchecked_keys() == []


def test_a_key_without_a_check_is_found(monkeypatch):
    anything = Rule("anything", lambda value: True)
    for section, name in (("EVAL", "flip"), ("AUGMENT", "zoom_range"), ("RUN", "seed")):
        declared = getattr(defaults, section)
        monkeypatch.setitem(declared, name, dataclasses.replace(declared[name], rule=anything))
    monkeypatch.setitem(defaults.DATA, "younger", Key(3, number(0), "A key that nobody thought of here."))
    assert unchecked_keys() == ["augment.zoom_range", "data.younger", "eval.flip", "seed"]


def test_every_default_may_be_held_and_every_key_has_a_meaning():
    for name, key in keys().items():
        key.check(name, key.default)
        assert key.meaning.endswith("."), name
        assert key.kind is not None or key.default is not None, name


def test_configs_share_no_value_that_can_change():
    one, other = default_config(), default_config()
    one.data.image_size = 64
    one.backbone_checkpoints.mobilenet_v2 = "runs/v2"
    assert other.data.image_size is None
    assert other.backbone_checkpoints.mobilenet_v2 is None


@pytest.mark.parametrize("value", ["48", 48.5, (48,)])
def test_a_value_of_another_type_is_refused_where_the_default_is_none(value):
    with pytest.raises(InputError, match="None or a number from 8 to 1024"):
        keys()["data.image_size"].check("data.image_size", value)
