"""State dicts of PyTorch models, as safetensors or as PyTorch saves them."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.errors import InputError
from fer_jax.pretrained.source_file import Layers, SourceFile


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
    except Exception as error:  # torch raises many kinds for files that it cannot read
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{path}: damaged, or more than a state dict (whole pickled models are not read): {reason}"
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
