"""A folder of checkpoints, on a disk or in a bucket. Orbax reads and writes files of this machine in both cases.

On a disk a checkpoint is written under a temporary name and then renamed. A bucket cannot rename: there each object of
a checkpoint gets its final name at once, the checksums last, and a checkpoint is whole when they are there.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fer_jax.runs.checksums import FILE_NAME as CHECKSUMS
from fer_jax.runs.checksums import write_checksums
from fer_jax.storage.bucket import (
    AnyPath,
    BucketPath,
    StoredObject,
    at_once,
    download_folder,
    remove,
    upload_folder,
)

KEPT = 2
"""How many checkpoints stay: one before the newest, should that turn out to be damaged."""


class CheckpointFolder(Protocol):
    """What `fer_jax.runs.checkpoint` asks of a place for checkpoints, each below it by the number of its step.

    Attributes:
      staging: the folder of this machine that Orbax writes into.
      shared: whether the processes that train together all write into `staging`; otherwise only the main one does.
    """

    staging: Path
    shared: bool

    def steps(self) -> list[int]:
        """Return the steps of the whole checkpoints, oldest first."""

    def files_of(self, step: int) -> Path:
        """Return the folder of this machine with the files of a checkpoint."""

    def move(self, step: int, place: AnyPath) -> None:
        """Move a checkpoint to `place`, where nothing is."""

    def begin(self) -> None:
        """Clear away what commands that were torn off have left unfinished."""

    def finish(self, written: Path, step: int) -> None:
        """Make a checkpoint whole, whose files Orbax has written into `written`."""


def checkpoint_folder(folder: AnyPath, before_commit: Callable[[], None] = lambda: None) -> CheckpointFolder:
    """Return the folder of checkpoints at `folder`; in a bucket `before_commit` is called before one becomes whole."""
    # Each moves checkpoints to places of its own kind only.
    found = _InBucket(folder, before_commit) if isinstance(folder, BucketPath) else _OnDisk(folder)
    return found  # type: ignore[return-value]


def step_of(name: str) -> int | None:
    """Return the step that the name of a checkpoint says; None for another name."""
    # Orbax would take names such as "²" and "07" for steps too.
    return int(name) if name.isascii() and name.isdigit() and name == str(int(name)) else None


class _OnDisk:
    def __init__(self, folder: Path):
        self._folder = folder
        self.staging = folder.absolute()
        self.shared = True

    def steps(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if path.is_dir()]
        return sorted(step for name in names if (step := step_of(name)) is not None)

    def files_of(self, step: int) -> Path:
        return self._folder / str(step)

    def move(self, step: int, place: Path) -> None:
        place.parent.mkdir(exist_ok=True)
        (self._folder / str(step)).rename(place)

    def begin(self) -> None:
        pass  # Orbax knows its own temporary names

    def finish(self, written: Path, step: int) -> None:
        write_checksums(written)


class _InBucket:
    """Checkpoints in a bucket, copied from and to a temporary folder, which lives as long as this object."""

    def __init__(self, folder: BucketPath, before_commit: Callable[[], None]):
        self._folder = folder
        self._before_commit = before_commit
        self._scratch: Path | None = None
        self._read: set[int] = set()
        self.shared = False

    @property
    def staging(self) -> Path:
        place = self._temporary() / "written"
        place.mkdir(exist_ok=True)
        return place

    def steps(self) -> list[int]:
        return sorted(step for step, objects in self._found().items() if _is_whole(objects))

    def files_of(self, step: int) -> Path:
        place = self._temporary() / "read" / str(step)
        if step not in self._read:
            download_folder(self._folder / str(step), place)
            self._read.add(step)
        return place

    def move(self, step: int, place: BucketPath) -> None:
        objects = self._found()[step]
        source = self._folder / str(step)
        at_once(lambda found: (source / found.name).copy_to(place / found.name), objects)
        remove(source, objects, first=(CHECKSUMS,))

    def begin(self) -> None:
        for step, objects in self._found().items():
            if not _is_whole(objects):
                remove(self._folder / str(step), objects)

    def finish(self, written: Path, step: int) -> None:
        write_checksums(written)
        # What says that this process may still write, and what a command that resumes from here has to find.
        self._before_commit()
        found = self._found()
        self._remove(step, found)
        upload_folder(written, self._folder / str(step), leave_out=(CHECKSUMS,))
        self._before_commit()
        (self._folder / str(step) / CHECKSUMS).upload(written / CHECKSUMS)
        for old in sorted(found.keys() - {step})[: 1 - KEPT]:
            self._remove(old, found)

    def _temporary(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="fer_jax_checkpoints_"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def _remove(self, step: int, found: dict[int, list[StoredObject]]) -> None:
        if step in found:
            remove(self._folder / str(step), found[step], first=(CHECKSUMS,))

    def _found(self) -> dict[int, list[StoredObject]]:
        """The objects of each checkpoint, by path below it."""
        steps: dict[int, list[StoredObject]] = {}
        for found in self._folder.objects():
            name, _, rest = found.name.partition("/")
            step = step_of(name)
            if step is not None and rest:
                steps.setdefault(step, []).append(StoredObject(rest, found.size, found.generation))
        return steps


def _is_whole(objects: list[StoredObject]) -> bool:
    return any(found.name == CHECKSUMS for found in objects)
