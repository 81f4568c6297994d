"""Paths given by users: the one function for every path argument of a command and every config key that is a path."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from fer_jax.errors import InputError
from fer_jax.storage.bucket import AnyPath, BucketPath, is_bucket
from fer_jax.storage.copies import local_copy
from fer_jax.storage.patience import client

# `gs://bucket/run`, and what `Path` makes of it, `gs:/bucket/run`; also `host:/folder`, as scp has it. A folder whose
# own name ends in a colon can be given as ./NAME:/.
_ELSEWHERE = re.compile(r"\s*[^/\s:]{2,}:/")
_FILE_URL = re.compile(r"\s*file:(?://(?:localhost)?/|/(?!/))/*", re.IGNORECASE)


def user_path(text: str | os.PathLike, what: str, advice: str = "") -> Path:
    """Return the path that `text` names, with `~`, `~user` and `file://` resolved.

    `exists` and the like do not raise on it.

    Raises `InputError`, which begins with `what` and ends with `advice`: for a place on another machine (`gs://`,
    `s3://`, `https://`, `host:/`), for no name at all, and for a name that no file system can look up.
    """
    text = os.fspath(text)
    refuse_elsewhere(text, what, advice)
    if not text.strip():
        raise InputError(f"{what} is empty, expected a path{advice}")
    if found := _FILE_URL.match(text):
        text = "/" + unquote(text[found.end() :])
    _check_encoding(text, what, advice)
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name too long for a file system, a user without a home
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} cannot be looked up ({reason}){advice}") from error
    return path


def user_place(text: str | os.PathLike | BucketPath, what: str, advice: str = "") -> AnyPath:
    """Return the path or the place in a bucket (`gs://BUCKET/FOLDER`) that `text` names; look nothing up in a bucket.

    Raises `InputError` as `user_path` does, `s3://` included, and where the package for buckets is missing.
    """
    if isinstance(text, BucketPath):
        return text
    if is_bucket(os.fspath(text)):
        place = BucketPath.parse(os.fspath(text), what, advice)
        client()
        return place
    return user_path(text, what, advice)


def input_path(text: str | os.PathLike | BucketPath, what: str, advice: str = "") -> Path:
    """Return the path of the file or folder that `text` names; for a place in a bucket that of its `local_copy`.

    Raises `InputError` as `user_place` does, and if there is nothing at that place.
    """
    place = user_place(text, what, advice)
    return local_copy(place) if isinstance(place, BucketPath) else place


def refuse_elsewhere(text: str, what: str, advice: str = "") -> None:
    """Raise `InputError`, as `user_path` does, if `text` names a place on another machine; look nothing up."""
    if _ELSEWHERE.match(text) and not _FILE_URL.match(text):
        raise InputError(
            f"{what} is not on a file system of this machine, and only paths are read and written, no URLs: copy or "
            f"mount it, and give its path{advice}"
        )


def _check_encoding(text: str, what: str, advice: str) -> None:
    """Refuse a name whose bytes libraries in C++, which take names as UTF-8, would find or write elsewhere."""
    if "\0" in text:
        raise InputError(f"{what} has a character that no name of a file can have{advice}")
    try:
        same = os.fsencode(text) == text.encode()
    except UnicodeEncodeError:
        same = False
    if not same:
        raise InputError(
            f"{what} is not in UTF-8, or Python takes names for {sys.getfilesystemencoding()} here; set PYTHONUTF8=1 "
            f"in the environment, or rename it{advice}"
        )


class PathArgument(argparse.Action):
    """A path argument of a command: stored as what `user_path` makes of it.

    With `type=str`, the default. A list of paths is stored for `nargs="+"`.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the path or paths of `values`; raise `InputError` that begins with the argument."""
        if isinstance(values, str):
            setattr(namespace, self.dest, self._path(values, option_string))
        elif values is not None:
            # An option may be given again with more of them.
            earlier = (getattr(namespace, self.dest) or []) if option_string else []
            setattr(namespace, self.dest, [*earlier, *(self._path(text, option_string) for text in values)])

    def _path(self, text: str, option: str | None) -> AnyPath | str:
        return user_path(text, f"{option}={text}" if option else f"{self.metavar} {text}:")


class PlaceArgument(PathArgument):
    """As `PathArgument`, for what may lie in a bucket: stored as what `user_place` makes of it."""

    def _path(self, text: str, option: str | None) -> AnyPath | str:
        return user_place(text, f"{option}={text}" if option else f"{self.metavar} {text}:")


class SourceArgument(PlaceArgument):
    """As `PlaceArgument`, for a path or a name such as `synthetic`: checked, and stored as it was given."""

    def _path(self, text: str, option: str | None) -> str:
        super()._path(text, option)
        return text
