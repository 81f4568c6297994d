"""Reading a file of weights by what its content says it is."""

from pathlib import Path

from fer_jax.pretrained import file_kind, keras_h5, torch_state
from fer_jax.pretrained.source_file import SourceFile

_READERS = {
    file_kind.HDF5: keras_h5.read,
    file_kind.KERAS_ARCHIVE: keras_h5.read_archive,
    file_kind.SAFETENSORS: torch_state.read_safetensors,
    file_kind.TORCH: torch_state.read_torch,
}


def read_source_file(path: Path) -> SourceFile:
    """Read Keras `.h5`, `.weights.h5` and `.keras`, and state dicts as `.safetensors` or as PyTorch saves them.

    The content decides, not the name. Raises `InputError` for a file that is missing, damaged or none of these, and
    for a PyTorch file where PyTorch is not installed.
    """
    return _READERS[file_kind.kind_of_file(path)](path)
