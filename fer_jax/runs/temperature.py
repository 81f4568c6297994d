"""The temperature of a checkpoint, kept in its run's folder: fitted once, used by every later report and prediction.

`temperature.json` maps each checkpoint to its `StoredTemperature`. A checkpoint is named by its place and by the
checksums of its files, so that a number never serves other weights.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Annotated

import msgspec

from fer_jax.errors import InputError
from fer_jax.runs.checksums import FILE_NAME as CHECKSUMS
from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath
from fer_jax.storage.patience import BucketError

if TYPE_CHECKING:
    from fer_jax.runs.checkpoint import SavedModel

FILE_NAME = "temperature.json"


class StoredTemperature(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted temperature, and where it comes from: the split in words, and its number of images."""

    temperature: Annotated[float, msgspec.Meta(gt=0)]
    fitted_on: str
    images: Annotated[int, msgspec.Meta(ge=1)]


def temperature_file(saved: "SavedModel") -> AnyPath:
    """Return the place of the file: the run's folder, or that of a checkpoint which lies in none."""
    folder = saved.folder
    return (folder.parent.parent if folder.parent.name == "checkpoints" else folder) / FILE_NAME


def read_temperature(saved: "SavedModel") -> StoredTemperature | None:
    """Return what was stored for exactly this checkpoint, or None; `InputError` if the file is damaged."""
    place = temperature_file(saved)
    try:
        found = msgspec.json.decode(place.read_bytes(), type=dict[str, StoredTemperature])
    except FileNotFoundError:
        return None
    except BucketError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place}: cannot be read ({error}); remove it, and evaluate the validation split to fit it again"
        ) from error
    return found.get(_name(saved))


def store_temperature(saved: "SavedModel", found: StoredTemperature) -> AnyPath:
    """Write `found` for this checkpoint beside those of others, atomically; return the file.

    Raises `OSError` where the folder cannot be written, and `InputError` if the file there is damaged.
    """
    place = temperature_file(saved)
    read_temperature(saved)
    stored = json.loads(place.read_bytes()) if place.is_file() else {}
    stored[_name(saved)] = msgspec.to_builtins(found)
    files.write_text(place, json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
    return place


def _name(saved: "SavedModel") -> str:
    checkpoint = saved.folder / str(saved.step)
    digest = hashlib.sha256((checkpoint / CHECKSUMS).read_bytes()).hexdigest()
    return f"{saved.folder.name}/{saved.step} {digest[:16]}"
