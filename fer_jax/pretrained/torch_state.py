"""State dicts of PyTorch models, as safetensors or as PyTorch saves them."""

import importlib.util
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.errors import InputError, first_line, is_exhaustion
from fer_jax.pretrained.source_file import Layers, SourceFile

_OF_A_PICKLE = (AttributeError, ImportError, LookupError, TypeError, struct.error)


def require_torch(path: Path | str) -> None:
    """Raise `InputError` unless PyTorch, which alone reads `path`, is installed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"{path}: a PyTorch file, and PyTorch is not installed; `pip install torch`, "
            "or give the same weights as .safetensors"
        )


def read_safetensors(path: Path) -> SourceFile:
    try:
        tensors = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        raise InputError(f"{path}: damaged or not a safetensors file of float arrays: {error}") from error
    return SourceFile(path, "torch", {"": _layers(tensors)})


def read_torch(path: Path) -> SourceFile:
    require_torch(path)
    import torch

    try:
        # Without weights_only a file may run any code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A pickle that is damaged raises what its instructions happen to; nothing but torch has run.
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, *_OF_A_PICKLE) as error:
        if is_exhaustion(error):
            raise
        raise InputError(
            f"{path}: damaged, or more than a state dict (whole pickled models are not read): {first_line(error)}"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a state dict, names and tensors; save `model.state_dict()` by torch.save")
    return SourceFile(path, "torch", {"": _layers({name: value.numpy() for name, value in state.items()})})


def _layers(tensors: Mapping[str, np.ndarray]) -> Layers:
    layers = {}
    for name, array in tensors.items():
        layer, _, weight = name.rpartition(".")
        # How often PyTorch updated the running statistics: of no use without its own momentum schedule.
        if weight != "num_batches_tracked":
            layers.setdefault(layer, {})[weight] = array
    return layers
