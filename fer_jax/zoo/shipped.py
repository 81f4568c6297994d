"""The models that come with the package, by name."""

from pathlib import Path

from fer_jax.errors import InputError, nearest

PREFIX = "zoo:"
"""What the name of a shipped model begins with where a run's folder may stand too."""

MODELS = Path(__file__).parent / "models"
"""NAME.safetensors for each model, and beside it its card, NAME.md."""


def names() -> tuple[str, ...]:
    """Return the names of the shipped models, in alphabetical order."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.safetensors")))


def shipped_file(name: str) -> Path:
    """Return the file of the model that `zoo:NAME` names, with or without its prefix.

    Raises:
      InputError: there is no such model; the message lists those that there are.
    """
    wanted = name.removeprefix(PREFIX)
    known = names()
    if wanted not in known:
        found = f"expected one of {', '.join(PREFIX + other for other in known)}" if known else "none is installed"
        raise InputError(f"{PREFIX}{wanted}: no such model, {found}{nearest(wanted, known)}")
    return MODELS / f"{wanted}.safetensors"


def default_name() -> str:
    """Return what is used where no model is named: `zoo:NAME` of the smallest file.

    Raises:
      InputError: no model comes with this installation.
    """
    if not names():
        raise InputError("no model comes with this installation; name a run's folder or the file of a model")
    return PREFIX + min(MODELS.glob("*.safetensors"), key=lambda path: path.stat().st_size).stem
