"""Configs from a command line and from JSON, checked, and what two of them differ in."""

import difflib
import json
import traceback
import types
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from fer_jax.config.defaults import check_config, default_config, flatten, keys
from fer_jax.config.shipped import config_file, shipped_names
from fer_jax.errors import InputError
from fer_jax.runtime.user_path import refuse_elsewhere, user_place
from fer_jax.storage.bucket import is_bucket


def _unlike_default(config: ConfigDict) -> str | None:
    """Return what makes a config's keys or types differ from the defaults', or None."""
    flat, default = flatten(config), flatten(default_config())
    for key in flat:
        if key not in default:
            return f"config.{key} is not a key{_nearest(key, default)}"
    return _lacking(flat, default)


def _lacking(flat: dict, default: dict) -> str | None:
    """Return what `flat` lacks of the keys and types of `default`, or None."""
    for key, value in default.items():
        if key not in flat:
            return f"config.{key} is missing; start from fer_jax.config.defaults.default_config()"
        if value is not None and type(flat[key]) is not type(value):
            return f"config.{key}={flat[key]!r}: expected {_KINDS[type(value)]}"
    return None


_KINDS = {int: "an integer", float: "a number", str: "a string", bool: "True or False", tuple: "a tuple"}


def _nearest(key: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown key: its meaning elsewhere, keys of its name, or the one of a near spelling."""
    if inner := [name for name in known if name.startswith(f"{key}.")]:
        return f" but a section; give one of its keys: {', '.join(f'config.{name}' for name in inner)}"
    if hint := _KNOWN_ELSEWHERE.get(key.rpartition(".")[2]):
        return f"; {hint}"
    names = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    names = names or difflib.get_close_matches(key, known, n=1, cutoff=_NEAR)
    return f"; did you mean {' or '.join(f'config.{name}' for name in names)}?" if names else ""


_KNOWN_ELSEWHERE = {
    "num_classes": "the number of classes comes from the data (config.data.classes)",
    "early_stopping": "give the epochs to wait for a better one by config.train.early_stopping_patience",
    "patience": "give the epochs to wait for a better one by config.train.early_stopping_patience",
    "lr": "did you mean config.optimizer.learning_rate?",
    "optimizer": "give its name by config.optimizer.name",
    "image_size": "did you mean config.model.input_size, or of a folder's images config.data.image_size?",
}
"""Names that other trainers use, or that mean several things here, and what to give."""

_NEAR = 0.85
"""The least similarity of a typing error: at less, sections have more in common than the names within them."""


def load_config(arguments: Sequence[str]) -> ConfigDict:
    """Return the config of a command line such as `["--config=quickstart", "--config.train.epochs=2"]`.

    `--config` names a file or a shipped config, see `config_file`.

    Raises `InputError` for a file that is missing or broken (with the line of it that raised), an unknown key (with the
    nearest valid name), a value of the wrong type, and an impossible value.
    """
    paths = [a.removeprefix("--config=") for a in arguments if a.startswith("--config=")]
    if not paths:
        raise InputError(f"no config; give --config=FILE.py or --config=NAME, one of {', '.join(shipped_names())}")
    files = [config_file(path) for path in paths]
    known = flatten(default_config())
    for key in (a.removeprefix("--config.").partition("=")[0] for a in arguments if a.startswith("--config.")):
        if key not in known:
            raise InputError(f"config.{key} is not a key{_nearest(key, known)}")
    config = _run_config_file(str(files[-1]))
    if problem := _unlike_default(config):
        raise InputError(problem)
    rest = _override(config, [a for a in arguments if not a.startswith("--config=")])
    if rest:
        raise InputError(f"unknown argument {rest[0]!r}")
    if problem := _unlike_default(config):
        raise InputError(problem)
    check_config(config)
    _check_places(config)
    return config


def _check_places(config: ConfigDict) -> None:
    """Refuse a place on another machine before any work; what is there is looked up where it is needed."""
    places = {f"backbone_checkpoints.{name}": place for name, place in config.backbone_checkpoints.items()}
    places |= {"init": config.init, "init_from": config.init_from}
    places |= {"data.votes": config.data.votes, "data.twins": config.data.twins}
    for key, value in places.items():
        for place in (value or "").split(","):
            if is_bucket(place):
                user_place(place, f"config.{key}={value}")
            else:
                refuse_elsewhere(place, f"config.{key}={value}")


def _run_config_file(path: str) -> ConfigDict:
    """Return what `get_config` of a user's file returns, locked; whatever the file raises becomes an `InputError`."""
    name = f"config file {path}"
    module = types.ModuleType("config_file")
    module.__file__ = path
    try:
        # Not imported, which would leave a compiled copy beside the file.
        exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), module.__dict__)
        config = module.get_config()
    except (MemoryError, InputError):
        raise
    except Exception as error:  # Only the user's own code runs here.
        line = _line_in(error, path)
        where = f"{name}, line {line}" if line else name
        raise InputError(f"{where}: {type(error).__name__}: {_last_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"{name}: get_config() returns {type(config).__name__}, expected the config that it made")
    return config.lock()


def _line_in(error: Exception, path: str) -> int | None:
    """Return the last line of the file at `path` that ran before `error`, or that could not be compiled."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == path]
    return lines[-1] if lines else None


def _override(config: ConfigDict, arguments: Sequence[str]) -> list[str]:
    """Set in `config` what `--config.KEY=VALUE` say, by the types that it has; return what is no such argument."""
    # Where None is possible, the type of a flag would not take the word for it. The last argument of a key counts.
    optional = {key for key, declared in keys().items() if declared.kind}
    argv = [""]
    for argument in arguments:
        key, _, value = argument.removeprefix("--config.").partition("=")
        if key in optional and value == "None":
            config.update_from_flattened_dict({key: None})
            argv = [earlier for earlier in argv if not earlier.startswith(f"--config.{key}=")]
        else:
            argv.append(argument)
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        return values(argv)[1:]
    except flags.Error as error:
        raise InputError(str(error).partition("\n")[0].removeprefix("flag --")) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def to_json(config: ConfigDict) -> str:
    """Return the config as stable, indented JSON: the form of the golden files and of `config.json` of a run."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ConfigDict:
    """Return the inverse of `to_json`, locked; JSON has no tuples, so lists become tuples.

    A key that the text lacks has its default: the text is older than the key, whose default changes nothing.

    Raises `InputError` for a text that is damaged, or holds a value that `load_config` would refuse.
    """

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(inner) for key, inner in value.items()}
        return tuple(value) if isinstance(value, list) else value

    def complete(saved: dict, default: dict) -> dict:
        sections = {key: complete(saved.get(key, {}), value) for key, value in default.items() if type(value) is dict}
        return {**default, **saved, **sections}

    default = flatten(default_config())
    try:
        config = ConfigDict(complete(tuples(json.loads(text)), default_config().to_dict()))
        flat = flatten(config)
    # What JSON and ConfigDict raise for a text that is no config.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"the saved config is damaged ({type(error).__name__}: {_last_line(error)})") from error
    if problem := _lacking(flat, default):
        raise InputError(problem)
    check_config(config)
    return config.lock()


def differences(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Return one line for each key whose value differs: `key: value in config, value in other`."""
    ours, theirs = flatten(config), flatten(other)
    return [
        f"{key}: {ours.get(key)!r} and {theirs.get(key)!r}"
        for key in sorted(ours | theirs)
        if ours.get(key) != theirs.get(key)
    ]
