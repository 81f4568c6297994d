"""What a sweep runs: a Python file whose `get_sweep` yields, for each run, what changes in the config."""

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_jax.config.loading import load_config
from fer_jax.errors import InputError, first_line, shown

SEED = "seed"
"""The key whose values make no other experiment: runs that differ in it alone are averaged."""

_LONGEST_NAME = 120


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run: its name, which is that of its folder, and what it changes in the config, by key."""

    name: str
    overrides: Mapping[str, object]

    def arguments(self) -> list[str]:
        """Return its overrides as the command `train` takes them."""
        return [f"--config.{key}={value}" for key, value in self.overrides.items()]

    def without_seed(self) -> str:
        """Return what it has in common with the same experiment of other seeds, in words."""
        return ", ".join(f"{key}={value}" for key, value in self.overrides.items() if key != SEED) or "as the config is"


def read_spec(path: Path, arguments: Sequence[str]) -> tuple[Trial, ...]:
    """Return the runs that the file's `get_sweep()` yields, each a dictionary such as `{"seed": 1}`.

    `arguments` are those for all runs, `--config` and `--config.KEY=VALUE`; a run's own come after them.

    Raises `InputError` for a file that does not run, that yields something else, or the same twice, and for a key or a
    value that the config cannot have.
    """
    module = types.ModuleType("sweep")
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), module.__dict__)
        found = list(module.get_sweep())
    except (MemoryError, InputError):
        raise
    except Exception as error:  # whatever a user's file raises
        raise InputError(
            f"{path}: {type(error).__name__}: {first_line(error)}; expected a Python file whose get_sweep() yields a "
            "dictionary for each run, such as {'seed': 1}"
        ) from error
    if not found or not all(
        isinstance(given, Mapping) and all(isinstance(key, str) for key in given) for given in found
    ):
        raise InputError(
            f"{path}: get_sweep() gave {shown(found)}, expected a dictionary for each run, such as {{'seed': 1}}"
        )
    names = _names(found)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(f"{path}: get_sweep() yields {dict(found[index])} twice")
    trials = tuple(Trial(name, dict(given)) for name, given in zip(names, found, strict=True))
    for trial in trials:
        load_config([*arguments, *trial.arguments()])
    return trials


def _names(found: Sequence[Mapping[str, object]]) -> list[str]:
    """A folder's name for each run: the last parts of its keys, where they tell them apart, with its values."""
    keys = {key for given in found for key in given}
    last = [key.rpartition(".")[2] for key in keys]
    short = {key: key.rpartition(".")[2] if last.count(key.rpartition(".")[2]) == 1 else key for key in keys}
    texts = [",".join(f"{short[key]}={value}" for key, value in given.items()) or "base" for given in found]
    names = [re.sub(r"[^A-Za-z0-9._=,+-]+", "_", text) for text in texts]
    if len(set(names)) < len(set(texts)) or max(map(len, names)) > _LONGEST_NAME:
        names = [f"{texts.index(text):03}-{name[:_LONGEST_NAME]}" for text, name in zip(texts, names, strict=True)]
    return names
