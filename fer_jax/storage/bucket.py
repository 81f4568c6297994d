"""Places in a bucket of Google Cloud Storage, with those methods of `pathlib.Path` that an object store can keep."""

import concurrent.futures
import dataclasses
import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from fer_jax.errors import InputError
from fer_jax.storage.patience import MissingObject, client, request

_GS = re.compile(r"\s*gs:/+", re.IGNORECASE)
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_LONGEST_KEY = 1024
# Requests at a time in the whole process: latency is what a small object costs, and the client keeps ten connections.
_AT_ONCE = 8
_slots = threading.BoundedSemaphore(_AT_ONCE)
_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class StoredObject:
    """An object below a place: its path from there, its size in bytes, and its generation."""

    name: str
    size: int
    generation: int


@dataclasses.dataclass(frozen=True, order=True)
class BucketPath:
    """`gs://BUCKET/KEY`. Nothing is a folder: a place is one if there are objects below it.

    It is no `os.PathLike`, so that code for local files alone fails at once and makes no folder `gs:`. What is written
    replaces an object as a whole, and is seen at once or not at all. Every method that looks at the storage makes one
    request, or one for each object, and raises as `fer_jax.storage.patience.request`.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str, what: str, advice: str = "") -> "BucketPath":
        """Return the place that `text` names; `InputError` that begins with `what` if no bucket can have it."""
        bucket, _, key = text.strip().partition(":")[2].lstrip("/").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise InputError(
                f"{what} names no bucket, expected gs://BUCKET/FOLDER with a bucket of 3 or more lower-case letters, "
                f"digits, dashes, dots and underscores{advice}"
            )
        parts = [part for part in key.split("/") if part not in ("", ".")]
        if ".." in parts or not key.isprintable():
            raise InputError(f"{what} has .. or an unprintable character in it, expected gs://BUCKET/FOLDER{advice}")
        if len("/".join(parts).encode()) > _LONGEST_KEY - 200:
            raise InputError(f"{what} is too long for the name of an object{advice}")
        return cls(bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str | PurePosixPath) -> "BucketPath":
        return BucketPath(self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath("/", self.key)

    @property
    def name(self) -> str:
        """The last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The suffix of the last part."""
        return self._pure.suffix

    @property
    def parent(self) -> "BucketPath":
        """The place above."""
        return BucketPath(self.bucket, str(self._pure.parent).strip("/"))

    def with_name(self, name: str) -> "BucketPath":
        """Return the place beside this one."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> "BucketPath":
        """Return the place beside this one with another suffix."""
        return self.parent / self._pure.with_suffix(suffix).name

    def resolve(self) -> "BucketPath":
        """Return itself: there are no links."""
        return self

    def absolute(self) -> "BucketPath":
        """Return itself."""
        return self

    # ---- One object.

    def is_file(self) -> bool:
        """Return whether there is an object of this name."""
        try:
            self.generation()
        except MissingObject:
            return False
        return True

    def generation(self) -> int:
        """Return the generation of the object, another number after each write."""
        blob = self._blob()
        request(self, lambda timeout: blob.reload(timeout=timeout, retry=None))
        return int(blob.generation)

    def read_bytes(self, *, once: bool = False) -> bytes:
        """Return the content, whose checksum the client compares."""
        return request(self, lambda timeout: self._blob().download_as_bytes(timeout=timeout, retry=None), once=once)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the content as text."""
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, content: bytes, *, if_generation: int | None = None, once: bool = False) -> int:
        """Replace the object and return its generation.

        With `if_generation` only if the object has this generation, 0 for none at all: `ConditionFailed` otherwise,
        also where an answer was lost and the request repeated.
        """

        def write(timeout: tuple[float, float]) -> int:
            blob = self._blob()
            blob.upload_from_string(
                content,
                content_type="application/octet-stream",
                if_generation_match=if_generation,
                checksum="crc32c",
                timeout=timeout,
                retry=None,
            )
            return int(blob.generation)

        return request(self, write, once=once)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Replace the object by `text`."""
        return self.write_bytes(text.encode(encoding))

    def upload(self, file: Path) -> None:
        """Replace the object by the content of a local file."""

        def write(timeout: tuple[float, float]) -> None:
            self._blob().upload_from_filename(str(file), checksum="crc32c", timeout=timeout, retry=None)

        request(self, write)

    def download(self, file: Path) -> None:
        """Write the content into a local file, whose folder is made if missing."""
        file.parent.mkdir(parents=True, exist_ok=True)
        request(self, lambda timeout: self._blob().download_to_filename(str(file), timeout=timeout, retry=None))

    def copy_to(self, place: "BucketPath") -> None:
        """Copy the object to `place` in the same bucket, by the service itself."""

        def copy(timeout: tuple[float, float]) -> None:
            bucket = client().bucket(self.bucket)
            bucket.copy_blob(bucket.blob(self.key), bucket, place.key, timeout=timeout, retry=None)

        request(self, copy)

    def unlink(self, missing_ok: bool = False, *, if_generation: int | None = None, once: bool = False) -> None:
        """Delete the object; with `if_generation` as in `write_bytes`."""
        try:
            request(
                self,
                lambda timeout: self._blob().delete(if_generation_match=if_generation, timeout=timeout, retry=None),
                once=once,
            )
        except MissingObject:
            if not missing_ok:
                raise

    def _blob(self):
        return client().bucket(self.bucket).blob(self.key)

    # ---- Whatever is below.

    def exists(self) -> bool:
        """Return whether there is an object of this name, or any below it."""
        return self.is_dir() or self.is_file()

    def is_dir(self) -> bool:
        """Return whether there is any object below; `MissingObject` if there is no such bucket."""
        return bool(self._list(max_results=1)[0])

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: what is written below makes the folder."""

    def iterdir(self) -> Iterator["BucketPath"]:
        """Yield what lies one level below, objects and folders."""
        blobs, folders = self._list(delimiter="/")
        names = {blob.name for blob in blobs} | {folder.rstrip("/") for folder in folders}
        yield from (BucketPath(self.bucket, name) for name in sorted(names) if name.rstrip("/") != self.key)

    def objects(self) -> list[StoredObject]:
        """Return all objects below, at any depth, by name."""
        start = len(self._prefix)
        return [
            StoredObject(blob.name[start:], int(blob.size or 0), int(blob.generation))
            for blob in self._list()[0]
            if not blob.name.endswith("/")  # what stands for an empty folder in some browsers
        ]

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _list(self, **options) -> tuple[list, list[str]]:
        """The objects below, and with a delimiter the folders too."""

        def ask(timeout: tuple[float, float]) -> tuple[list, list[str]]:
            found = client().list_blobs(self.bucket, prefix=self._prefix, timeout=timeout, retry=None, **options)
            return list(found), sorted(found.prefixes)

        try:
            return request(self, ask)
        except MissingObject as error:
            raise MissingObject(
                f"{self}: there is no bucket {self.bucket}; create it by `gcloud storage buckets create "
                f"gs://{self.bucket}`, or give the name of another one"
            ) from error


AnyPath = Path | BucketPath
"""A place on a disk or in a bucket."""


def is_bucket(text: object) -> bool:
    """Return whether `text` begins with `gs://`, or `gs:/` as `Path` makes of it."""
    return bool(_GS.match(str(text)))


def at_once(action: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Call `action` for each of `items`, several at a time; raise the first error once all have ended."""

    def one(item: _Item) -> None:
        with _slots:
            action(item)

    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        for future in [pool.submit(one, item) for item in items]:
            future.result()


def upload_folder(folder: Path, place: BucketPath, *, leave_out: Sequence[str] = ()) -> None:
    """Write every file below `folder` to `place`, but for those of the paths `leave_out`."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    at_once(lambda name: (place / name).upload(folder / name), [name for name in names if name not in leave_out])


def download_folder(place: BucketPath, folder: Path, objects: Sequence[StoredObject] | None = None) -> None:
    """Write the objects below `place`, all or those listed, as files below `folder`.

    Raises `InputError` for an object whose name would be a file elsewhere.
    """
    objects = place.objects() if objects is None else objects
    for found in objects:
        parts = found.name.split("/")
        if "" in parts or "." in parts or ".." in parts or "\0" in found.name:
            raise InputError(f"{place}: holds the object {found.name!r}, which is no name of a file; remove it")
    at_once(lambda found: (place / found.name).download(folder / found.name), objects)


def remove(place: BucketPath, objects: Iterable[StoredObject], *, first: Sequence[str] = ()) -> None:
    """Delete `objects` of `place`; those named in `first` before all others."""
    names = [found.name for found in objects]
    for name in first:
        if name in names:
            (place / name).unlink(missing_ok=True)
    at_once(lambda name: (place / name).unlink(missing_ok=True), [name for name in names if name not in first])


def listing_digest(objects: Iterable[StoredObject]) -> str:
    """Return a name for exactly these objects in these generations."""
    text = "\n".join(f"{found.name}\0{found.size}\0{found.generation}" for found in objects)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
