"""Paths given by users."""

from pathlib import Path

from fer_jax.errors import InputError


def user_path(text: str, what: str, advice: str = "") -> Path:
    """Return the path that `text` names, with `~` resolved; `exists` and the like do not raise on it.

    Raises `InputError`, which begins with `what` and ends with `advice`, for a name that no file system can look up.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name too long for a file system, a user without a home
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} cannot be looked up ({reason}){advice}") from error
    return path
