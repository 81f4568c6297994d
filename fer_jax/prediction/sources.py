"""What a user names to be predicted: files, folders, globs, lists, cameras, and files and folders in a bucket."""

import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from fer_jax.data.image_files import IMAGE_SUFFIXES
from fer_jax.errors import InputError
from fer_jax.runtime.user_path import user_place
from fer_jax.storage.bucket import AnyPath, BucketPath, is_bucket
from fer_jax.storage.copies import local_copy

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".ogv",
    ".ts",
    ".3gp",
)
"""The names of videos end in one of these, in any letter case."""

STANDARD_INPUT = "-"

_ELSEWHERE = "choose another folder for the drawings"


@dataclasses.dataclass(frozen=True)
class Source:
    """One thing to predict: `kind` is `picture`, `video` or `camera`; `name` its path, or the camera's number.

    `error` says why there is nothing to read, such as a name that is none. `copy` is the file to read where `name` is
    in a bucket.
    """

    name: str
    kind: str
    error: str = ""
    copy: str = ""

    @property
    def file(self) -> str:
        """The path of the file to read."""
        return self.copy or self.name


def find_sources(arguments: Iterable[str], listed: TextIO, leave_out: AnyPath | None = None) -> Iterator[Source]:
    """Yield what `arguments` name, in their order; files of folders and globs in the order of their names.

    An argument is a file, a folder (with all below it but the folder `leave_out`), a glob (`**` for any folders), a
    file or folder in a bucket, the number of a camera where no file has that name, or `-`: then each line of `listed`
    is a path.
    """
    for argument in arguments:
        if argument == STANDARD_INPUT:
            for line in listed:
                if line := line.rstrip("\n"):
                    yield from _named(line, leave_out)
        else:
            yield from _named(argument, leave_out)


def _named(argument: str, leave_out: AnyPath | None) -> Iterator[Source]:
    if is_bucket(argument):
        yield from _in_bucket(argument, leave_out)
        return
    try:
        path = Path(argument).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no home, a null byte
        yield Source(argument, "picture", f"cannot be looked up ({getattr(error, 'strerror', None) or error})")
        return
    if is_folder:
        yield from _inside(path, leave_out)
    elif exists:
        yield _file(path)
    elif argument.isascii() and argument.isdigit():
        yield Source(argument, "camera")
    elif glob.has_magic(argument):
        found = sorted(name for name in glob.iglob(str(path), recursive=True) if os.path.isfile(name))
        if not found:
            yield Source(argument, "picture", "no file has a name of this form")
        yield from (_file(Path(name)) for name in found)
    else:
        yield Source(argument, "picture", "no such file or folder")


def _in_bucket(argument: str, leave_out: AnyPath | None) -> Iterator[Source]:
    """What lies there, by its name there, read from a copy on this machine."""
    try:
        place = BucketPath.parse(argument, f"{argument}:")
        copy = local_copy(place)
    except InputError as error:
        magic = "; a glob is none in a bucket, give the folder" if glob.has_magic(argument) else ""
        yield Source(argument, "picture", f"{str(error).partition(': ')[2] or error}{magic}")
        return
    is_below = f"{leave_out}".startswith(f"{place}/")
    for source in _inside(copy, None) if copy.is_dir() else [_file(copy)]:
        name = place if source.name == str(copy) else place / Path(source.name).relative_to(copy).as_posix()
        if not (is_below and f"{name}".startswith(f"{leave_out}/")):
            yield Source(str(name), source.kind, source.error, source.name)


def _inside(folder: Path, leave_out: AnyPath | None) -> Iterator[Source]:
    """The pictures and videos below `folder`, also behind links to files; hidden ones are left out."""
    found, left_out = False, leave_out and leave_out.resolve()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != left_out
        )
        for name in sorted(files):
            if name.lower().endswith((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)) and not name.startswith("."):
                found = True
                yield _file(Path(parent, name))
    if not found:
        yield Source(str(folder), "picture", "no picture or video in this folder")


def _file(path: Path) -> Source:
    return Source(str(path), "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture")


def check_apart(arguments: Iterable[str], drawings: AnyPath) -> None:
    """Raise `InputError` if pictures of `arguments` lie in the folder `drawings`: their drawings would replace them."""
    for argument in arguments:
        if is_bucket(argument):
            place = BucketPath.parse(argument, f"{argument}:")
            is_file = place.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
            holds_it = drawings == (place.parent if is_file else place)
        else:
            # Of a glob, the folder before its last part.
            path = Path(argument).expanduser()
            holds_it = drawings.resolve() == (path if path.is_dir() else path.parent).resolve()
        if argument != STANDARD_INPUT and holds_it:
            raise InputError(
                f"--draw={drawings}: holds the input {argument}, which a drawing could replace; {_ELSEWHERE}"
            )


def check_apart_from(source: Source, drawing: AnyPath) -> None:
    """Raise `InputError` if the file of `source` lies where its drawing is to be."""
    is_there = is_bucket(source.name)
    place = BucketPath.parse(source.name, f"{source.name}:") if is_there else Path(source.name).resolve()
    if source.kind != "camera" and place.parent == drawing.resolve().parent:
        raise InputError(f"--draw={drawing.parent}: holds the input {source.name}; {_ELSEWHERE}")


def check_arguments(arguments: list[str]) -> None:
    """Raise `InputError` unless there is something to predict, and standard input is named at most once.

    So too where something is in a bucket that cannot be read at all, without the package or credentials for it.
    """
    if not arguments:
        raise InputError("nothing to predict; give pictures, folders, videos, - for a list, or the number of a camera")
    if arguments.count(STANDARD_INPUT) > 1:
        raise InputError("- is given twice; the list on standard input can be read once")
    for argument in arguments:
        if is_bucket(argument):
            user_place(argument, f"{argument}:")
