"""A JAX/Flax trainer for facial expression recognition on FER2013."""

import importlib

__version__ = "0.1.0"

__all__ = ["InputError", "load"]

_WHERE = {"load": "fer_jax.inference.model", "InputError": "fer_jax.errors"}


def __getattr__(name: str):
    # Imported when it is first used: JAX takes a second to import, and a command's --help does not need it.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
