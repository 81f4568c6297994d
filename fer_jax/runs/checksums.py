"""Checksums of the files of a checkpoint: what was written is what is read, or the difference is named.

The storage below Orbax notices a flipped bit in an array, with an error that names no file; one in the record, which is
plain JSON, it does not notice at all.
"""

import hashlib
import json
from pathlib import Path

from fer_jax.storage import files

FILE_NAME = "checksums.json"
"""Its place in the folder of a checkpoint: `{"sha256": {path below the folder: digest in hex}}`."""

# Orbax writes the time of the commit into it after all else, and nothing that is needed to restore.
_EXCEPT = "_CHECKPOINT_METADATA"


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file below `folder` into its `checksums.json`."""
    digests = {str(path.relative_to(folder)): _sha256(path) for path in _files(folder)}
    files.write_text(folder / FILE_NAME, json.dumps({"sha256": digests}, indent=1) + "\n")


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with the files below `folder`, naming the first one; None if they are as written.

    Reads every byte, and nothing that is not below `folder`.
    """
    for path in sorted(folder.rglob("*")):
        # A pipe would wait for ever to be read.
        if path.exists() and not path.is_file() and not path.is_dir():
            return f"{path.relative_to(folder)} is neither a file nor a folder"
    try:
        digests = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))["sha256"]
        items = sorted(digests.items())
    except FileNotFoundError:
        return f"{FILE_NAME} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{FILE_NAME} cannot be read"
    for name, digest in items:
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            return f"{FILE_NAME} names {name[:80]!r}, which is no file of this checkpoint"
        try:
            if _sha256(folder / name) != digest:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (FILE_NAME, _EXCEPT))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
