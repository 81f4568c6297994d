"""Reading a file of weights by what its first bytes say it is."""

from pathlib import Path

from fer_jax.errors import InputError
from fer_jax.pretrained import keras_h5, torch_state
from fer_jax.pretrained.source_file import SourceFile


def read_source_file(path: Path) -> SourceFile:
    """Read Keras `.h5` and `.weights.h5`, and state dicts as `.safetensors` or as PyTorch saves them.

    The content decides, not the name. Raises `InputError` for a file that is missing, damaged or none of these, and
    for a PyTorch file where PyTorch is not installed.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return keras_h5.read(path)
    if start[8:9] == b"{":
        return torch_state.read_safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return torch_state.read_torch(path)
    if start.lstrip().startswith(b"<"):
        raise InputError(f"{path}: a web page, expected a file of weights; download the file itself")
    raise InputError(
        f"{path}: begins with {start[:8]!r}, expected HDF5 (.h5), safetensors or a PyTorch file (.pth); "
        "it may be damaged, download it again"
    )
