"""Copies of what lies in a bucket, on this machine: made once for each generation, and read as files from then on."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from fer_jax.storage.bucket import BucketPath, StoredObject, download_folder, listing_digest
from fer_jax.storage.patience import MissingObject


def local_copy(place: BucketPath) -> Path:
    """Return a copy of the object at `place`, or of the folder there, with its name.

    It lies in the user's cache folder (`~/.cache/fer_jax/buckets` on Linux) and is made anew when an object has
    changed. A copy that is not complete never gets its name.

    Raises `MissingObject` if there is neither, and `OSError` if the copy cannot be written.
    """
    objects = place.objects()
    if not objects:
        try:
            objects = [StoredObject("", 0, place.generation())]
        except MissingObject:
            raise MissingObject(f"{place}: no such object or folder") from None
    digest = hashlib.sha256(f"{place}\n{listing_digest(objects)}".encode()).hexdigest()[:32]
    folder = user_cache_path("fer_jax") / "buckets" / digest
    copy = folder / (place.name or place.bucket)
    if not copy.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".copying_", dir=folder.parent))
        try:
            if objects[0].name:
                download_folder(place, beside / copy.name, objects)
            else:
                place.download(beside / copy.name)
            try:
                os.rename(beside, folder)
            except OSError:
                if not copy.exists():  # another process was faster
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return copy
