"""Configs from a command line and from JSON, checked, and what two of them differ in."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from fer_jax.config.defaults import check_config, default_config, flatten
from fer_jax.errors import InputError


def _unlike_default(config: ConfigDict) -> str | None:
    """What makes a config's keys or types differ from the defaults', or None."""
    flat, default = flatten(config), flatten(default_config())
    for key in flat:
        if key not in default:
            return f"config.{key} is not a key{_nearest(key, default)}"
    return _lacking(flat, default)


def _lacking(flat: dict, default: dict) -> str | None:
    """What `flat` lacks of the keys and types of `default`, or None."""
    for key, value in default.items():
        if key not in flat:
            return f"config.{key} is missing; start from fer_jax.config.defaults.default_config()"
        if value is not None and type(flat[key]) is not type(value):
            return f"config.{key}={flat[key]!r}: expected {_KINDS[type(value)]}"
    return None


_KINDS = {int: "an integer", float: "a number", str: "a string", bool: "True or False", tuple: "a tuple"}


def _nearest(key: str, known: Sequence[str]) -> str:
    """A hint at the known name that looks most like `key`."""
    names = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not names:
        last = key.rpartition(".")[2]
        names = [name for name in known if name.rpartition(".")[2] == last][:1]
    return f"; did you mean config.{names[0]}?" if names else ""


def load_config(arguments: Sequence[str]) -> ConfigDict:
    """The config of a command line such as `["--config=configs/quickstart.py", "--config.train.epochs=2"]`.

    Raises `InputError` for a file that is missing or broken, an unknown key (with the nearest valid name), a value of
    the wrong type, and an impossible value.
    """
    for path in (a.removeprefix("--config=") for a in arguments if a.startswith("--config=")):
        try:
            found = Path(path).is_file()
        except OSError as error:  # a name too long for a file system
            raise InputError(f"--config={path}: cannot be looked up ({error.strerror})") from error
        if not found:
            raise InputError(f"--config={path}: no such file; the configs of the paper's experiments are in configs/")
    file = next((f"config file {a.partition('=')[2]}" for a in arguments if a.startswith("--config=")), "config file")
    argv = ["", *arguments]
    keys = [a.removeprefix("--config.").partition("=")[0] for a in arguments if a.startswith("--config.")]
    known = flatten(default_config())
    for key in keys:
        if key not in known:
            raise InputError(f"config.{key} is not a key{_nearest(key, known)}")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)
        config = values.config
        if not isinstance(config, ConfigDict):
            raise InputError(f"{file}: no config; give one, such as --config=configs/quickstart.py")
        # A file that could not be loaded raises only where its values are read.
        problem = _unlike_default(config)
    except flags.Error as error:
        raise InputError(str(error).partition("\n")[0].removeprefix("flag --")) from None
    except OSError as error:
        raise InputError(f"{file}: {_last_line(error)}") from None
    except InputError:
        raise
    except Exception as error:  # whatever a user's config file may raise
        raise InputError(f"{file}: {type(error).__name__}: {_last_line(error)}") from None
    if rest[1:]:
        raise InputError(f"unknown argument {rest[1]!r}")
    if problem:
        raise InputError(problem)
    check_config(config)
    return config


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def to_json(config: ConfigDict) -> str:
    """The config as stable, indented JSON: the form of the golden files and of `config.json` in a run's folder."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ConfigDict:
    """The inverse of `to_json`, locked; JSON has no tuples, so lists become tuples.

    Raises `InputError` for a text that is damaged, lacks a key, or holds a value that `load_config` would refuse.
    """

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(inner) for key, inner in value.items()}
        return tuple(value) if isinstance(value, list) else value

    default = flatten(default_config())
    try:
        config = ConfigDict(tuples(json.loads(text)))
        flat = flatten(config)
        if missing := [key for key in default if key not in flat]:
            raise InputError(
                f"the saved config has no {missing[0]}, expected all {len(default)} keys of "
                "fer_jax.config.defaults.default_config(); bring it back from a backup if it is damaged, or use the "
                "version of fer_jax that wrote it"
            )
        if problem := _lacking(flat, default):
            raise InputError(problem)
        check_config(config)
    except InputError:
        raise
    except Exception as error:  # ConfigDict raises many kinds for what is no config
        raise InputError(f"the saved config is damaged ({type(error).__name__}: {_last_line(error)})") from error
    return config.lock()


def differences(config: ConfigDict, other: ConfigDict) -> list[str]:
    """One line for each key whose value differs: `key: value in config, value in other`."""
    ours, theirs = flatten(config), flatten(other)
    return [
        f"{key}: {ours.get(key)!r} and {theirs.get(key)!r}"
        for key in sorted(ours | theirs)
        if ours.get(key) != theirs.get(key)
    ]
