"""What a published or saved file of weights holds, whatever its format: named layers of named arrays."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

Layers = dict[str, dict[str, np.ndarray]]
"""Arrays by the name of their layer and their own, both as in the file."""


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """What a file of weights holds.

    `library` is "keras" or "torch". `models` has the layers of the model under "", and those of each model inside it
    under its name. `ordered` says that they come in the order of computation.
    """

    path: Path
    library: str
    models: dict[str, Layers]
    ordered: bool = False


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the digest of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
