"""Configs: what they resolve to, and what is refused."""

import json
import shutil

import pytest

from fer_jax.config import loading as configs
from fer_jax.config.defaults import check_config, default_config
from fer_jax.config.loading import differences, from_json, load_config, to_json
from fer_jax.errors import InputError

NAMES = (
    "efficientnet_b0",
    "efficientnet_b0_frozen",
    "efficientnet_lite0",
    "hybrid_efficientnet_b0_frozen",
    "hybrid_fer_frozen",
    "hybrid_imagenet_finetuned",
    "hybrid_imagenet_frozen",
    "hybrid_mobilenet_v2_frozen",
    "mobilenet_v2",
    "mobilenet_v2_frozen",
    "quickstart",
    "strong/efficientnet_b0",
    "strong/hybrid",
    "strong/mobilenet_v2",
)


def load(repository, name, *overrides):
    return load_config([f"--config={repository}/configs/{name}.py", *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_config_is_the_golden_one(repository, name):
    """A change of a default is a change of every experiment: it has to be made here as well."""
    golden = (repository / "tests" / "golden" / f"{name}.json").read_text()
    assert to_json(load(repository, name)) == golden


def test_every_config_has_a_golden_one(repository):
    folder = repository / "configs"
    assert {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.py")} == set(NAMES)


def test_defaults_are_table_1_of_the_paper():
    config = default_config()
    table_1 = {
        "model.input_size": 200,
        "train.batch_size": 32,
        "train.epochs": 100,
        "model.dropout": 0.2,
        "optimizer.learning_rate": 0.001,
        "model.hidden_units": (4096, 1024),
    }
    flat = configs.flatten(config)
    assert {key: flat[key] for key in table_1} == table_1


def test_overrides_are_typed(repository):
    config = load(
        repository,
        "mobilenet_v2",
        "--config.optimizer.learning_rate=1",
        "--config.model.hidden_units=(8,)",
        "--config.data.validation_fraction=0.1",
        "--config.augment.horizontal_flip=false",
        "--config.model.backbones=('efficientnet_b0', 'mobilenet_v2')",
        "--config.train.parameters=('classifier/**: train', 'backbones/**: train at 0.1 from epoch 5')",
        "--config.backbone_checkpoints.efficientnet_b0=runs/b0",
    )
    assert config.optimizer.learning_rate == 1.0
    assert config.model.hidden_units == (8,)
    assert config.data.validation_fraction == 0.1
    assert config.augment.horizontal_flip is False
    assert config.model.backbones == ("efficientnet_b0", "mobilenet_v2")
    assert config.train.parameters == ("classifier/**: train", "backbones/**: train at 0.1 from epoch 5")
    assert config.backbone_checkpoints.efficientnet_b0 == "runs/b0"


@pytest.mark.parametrize(
    ("key", "given"),
    [("data.validation_fraction", "0.1"), ("data.image_size", "64"), ("train.class_weights", "balanced")],
)
def test_none_may_be_given_and_the_last_of_a_key_counts(repository, key, given):
    def value(*values):
        config = load(repository, "mobilenet_v2", *(f"--config.{key}={value}" for value in values))
        return configs.flatten(config)[key]

    assert str(value("None", given)) == given
    assert value(given, "None") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("balanced", "balanced"),
        ("(1,8.5,1,1,1,1,1)", (1, 8.5, 1, 1, 1, 1, 1)),
        ("disgust:8.5,fear:2", "disgust:8.5,fear:2"),
        ("{'disgust': 8.5}", {"disgust": 8.5}),
    ],
)
def test_class_weights_come_back_from_json_in_every_form(repository, text, value):
    config = load(repository, "mobilenet_v2", f"--config.train.class_weights={text}")
    assert configs.flatten(config)["train.class_weights"] == value
    assert differences(from_json(to_json(config)), config) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.optimizer.learning_rat=1", "did you mean config.optimizer.learning_rate?"),
        ("--config.optimiser.learning_rate=1", "did you mean config.optimizer.learning_rate?"),
        ("--config.learning_rate=1", "did you mean config.optimizer.learning_rate?"),
        (
            "--config.batch_size=8",
            "config.batch_size is not a key; did you mean config.eval.batch_size or config.train.batch_size?",
        ),
        (
            "--config.model.num_classes=8",
            "is not a key; the number of classes comes from the data (config.data.classes)",
        ),
        (
            "--config.train.early_stopping=5",
            "give the epochs to wait for a better one by config.train.early_stopping_p",
        ),
        ("--config.train.patience=5", "is not a key; give the epochs to wait for a better one"),
        ("--config.optimizer.lr=1", "is not a key; did you mean config.optimizer.learning_rate?"),
        (
            "--config.optimizer=sgd",
            "is not a key but a section; give one of its keys: config.optimizer.grad",
        ),
        ("--config.train.class_weight=balanced", "did you mean config.train.class_weights?"),
        (
            "--config.train.class_weights=heavy",
            "config.train.class_weights='heavy': expected None, balanced, a positive",
        ),
        ("--config.train.class_weights=(1,-1)", "config.train.class_weights=(1, -1): expected None, balanced"),
        ("--config.train.class_weights=1", "config.train.class_weights=1: expected None, balanced"),
        ("--config.train.class_weights=disgust:", "config.train.class_weights='disgust:': expected None, balanced"),
        ("--config.model.learning_rate=1", "did you mean config.optimizer.learning_rate?"),
        ("--config.train.epochs=ten", "config.train.epochs=ten"),
        ("--config.train.epochs=1.5", "config.train.epochs=1.5"),
        ("--config.train.epochs=0", "config.train.epochs=0: expected a number at least 1"),
        ("--config.augment.horizontal_flip=perhaps", "perhaps"),
        ("--config.model.dropout=1", "config.model.dropout=1.0: expected a number at least 0 and below 1"),
        ("--config.optimizer.learning_rate=0", "expected a number above 0"),
        ("--config.optimizer.learning_rate=nan", "expected a number above 0"),
        ("--config.optimizer.schedule=linear", "expected one of constant, cosine"),
        ("--config.optimizer.warmup_epochs=100", "fewer than the 100 epochs"),
        ("--config.model.backbones=('resnet',)", "names out of efficientnet_b0, "),
        ("--config.model.backbones=('mobilenet_v2','mobilenet_v2')", "different names"),
        ("--config.model.backbones=()", "one or more"),
        ("--config.model.hidden_units=(0,)", "integers of at least 1"),
        ("--config.model.input_size=16", "at least 32"),
        (
            "--config.model.depthwise_lowering=fast",
            "config.model.depthwise_lowering='fast': expected auto, native, shift_and_add, or three of the latter two "
            "joined by commas, for forward, input gradient and kernel gradient",
        ),
        ("--config.model.depthwise_lowering=native,native", "depthwise_lowering='native,native': expected auto"),
        ("--config.model.depthwise_lowering=auto,auto,auto", "depthwise_lowering='auto,auto,auto': expected auto"),
        ("--config.augment.rotation_range=90", "config.augment.rotation_range"),
        ("--config.data.validation_fraction=1", "above 0 and below 1"),
        ("--config.augment.random_erasing=2", "config.augment.random_erasing: found 2.0, expected a probability"),
        ("--config.train.ema_decay=1", "config.train.ema_decay=1.0: expected a number at least 0 and below 1"),
        ("--config.train.cached_views=-1", "config.train.cached_views=-1: expected a number at least 0"),
        ("--config.train.mixup_alpha=-1", "config.train.mixup_alpha=-1.0: expected a number at least 0"),
        ("--config.train.parameters=('**: thaw',)", "row '**: thaw' cannot be read; expected 'PATTERN: freeze'"),
        ("--config.train.parameters=('**: train from epoch 101',)", "the run has epochs 1 to 100"),
        ("--config.backbone_checkpoints.resnet=runs/x", "config.backbone_checkpoints.resnet is not a key"),
        ("--config.data.image_size=4", "config.data.image_size=4: expected None or a number from 8 to 1024"),
        ("--config.data.classes=mine", "expected one of auto, folders"),
        ("--config.data.input=disk", "expected one of auto, resident, streaming"),
        ("--config.data.workers=-1", "a number at least 0"),
        ("--config.train=3", "config.train"),
        ("--learning_rate=3", "learning_rate"),
        ("stray", "stray"),
    ],
)
def test_bad_override_is_one_clear_line(repository, override, message):
    with pytest.raises(InputError) as error:
        load(repository, "efficientnet_b0", override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["train.teacher", "optimizer.nesterov", "train.epochs_of_warmup", "resume"])
def test_no_key_is_suggested_for_a_name_that_is_like_none(repository, key):
    with pytest.raises(InputError) as error:
        load(repository, "efficientnet_b0", f"--config.{key}=1")
    assert str(error.value) == f"config.{key} is not a key"


@pytest.mark.parametrize("lowering", ["auto", "native", "shift_and_add", "native,shift_and_add,native"])
def test_lowering_may_be_one_or_one_for_each_direction(repository, lowering):
    config = load(repository, "efficientnet_b0", f"--config.model.depthwise_lowering={lowering}")
    assert config.model.depthwise_lowering == lowering
    assert from_json(to_json(config)).model.depthwise_lowering == lowering


def test_missing_config_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.py"):
        load_config([f"--config={tmp_path}/nowhere.py"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("raise RuntimeError('broken')", "broken"),
        ("def get_config():\n    return 3", "config"),
        ("from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'seed': 0})", "is missing"),
        (
            "from fer_jax.config.defaults import default_config\ndef get_config():\n    config = default_config()\n"
            "    with config.unlocked():\n        config.train.epoch = 3\n    return config",
            "config.train.epoch is not a key; did you mean config.train.epochs?",
        ),
    ],
)
def test_bad_config_file_is_one_clear_line(tmp_path, body, message):
    path = tmp_path / "mine.py"
    path.write_text(body)
    with pytest.raises(InputError) as error:
        load_config([f"--config={path}"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "line", "kind"),
    [
        ("x = 1\nraise RuntimeError('first\\nbroken')", 2, RuntimeError),
        ("import os\n\ndef get_config(:", 3, SyntaxError),
        ("def helper():\n    return {}['absent']\n\ndef get_config():\n    return helper()", 2, KeyError),
        ("import json\ndef get_config():\n    return json.loads('{')", 3, json.JSONDecodeError),
        ("def get_config():\n    return open('absent.txt')", 2, FileNotFoundError),
        ("def get_config():\n    raise ValueError", 2, ValueError),
        ("def get_config():\n    return get_config()", 2, RecursionError),
    ],
)
def test_what_a_config_file_raises_is_chained_and_its_line_named(tmp_path, body, line, kind):
    path = tmp_path / "mine.py"
    path.write_text(body)
    with pytest.raises(InputError) as error:
        load_config([f"--config={path}"])
    assert str(error.value).startswith(f"config file {path}, line {line}: {kind.__name__}: ")
    assert type(error.value.__cause__) is kind


@pytest.mark.parametrize("kind", ["MemoryError", "KeyboardInterrupt", "SystemExit"])
def test_what_is_no_fault_of_a_config_file_stays_what_it_is(tmp_path, kind):
    (tmp_path / "mine.py").write_text(f"raise {kind}")
    with pytest.raises(BaseException) as error:  # noqa: PT011
        load_config([f"--config={tmp_path}/mine.py"])
    assert type(error.value).__name__ == kind


def test_a_config_file_without_get_config_is_named(tmp_path):
    (tmp_path / "mine.py").write_text("config = 3")
    with pytest.raises(InputError, match=r"mine\.py: AttributeError: .*get_config"):
        load_config([f"--config={tmp_path}/mine.py"])


@pytest.mark.parametrize("reads", ["check_config", "flatten"])
def test_a_bug_of_our_own_keeps_its_traceback(repository, monkeypatch, reads):
    def broken(*_):
        raise AttributeError("a bug")

    text = to_json(default_config())
    monkeypatch.setattr(configs, reads, broken)
    for read in (lambda: load(repository, "quickstart"), lambda: from_json(text)):
        with pytest.raises(AttributeError, match="a bug"):
            read()


def test_user_config_may_live_anywhere(repository, tmp_path):
    shutil.copy(repository / "configs" / "quickstart.py", tmp_path / "mine.py")
    assert load_config([f"--config={tmp_path}/mine.py"]) == load(repository, "quickstart")


def test_json_gives_back_the_config():
    config = default_config()
    back = from_json(to_json(config))
    assert back.to_dict() == config.to_dict()
    assert back.model.hidden_units == (4096, 1024)
    assert json.loads(to_json(config))["model"]["input_size"] == 200
    with pytest.raises(AttributeError):
        back.unknown = 1


@pytest.mark.parametrize("key", ["train.parameters", "backbone_checkpoints.mobilenet_v2", "seed", "eval"])
def test_json_older_than_a_key_has_its_default(key):
    config = default_config()
    config.train.epochs = 7
    older = json.loads(to_json(config))
    section, _, name = key.rpartition(".")
    del (older[section] if section else older)[name]
    assert from_json(json.dumps(older)).to_dict() == config.to_dict()


@pytest.mark.parametrize("text", ["[]", "{", '{"train": []}', '{"train": 3}', '"train"', "null"])
def test_json_that_is_no_config_is_damaged(text):
    with pytest.raises(InputError, match="the saved config is damaged"):
        from_json(text)


def test_differences_name_the_keys():
    config, other = default_config(), default_config()
    assert differences(config, other) == []
    other.train.epochs = 3
    assert differences(config, other) == ["train.epochs: 100 and 3"]


def test_check_config_passes_the_defaults():
    check_config(default_config())
