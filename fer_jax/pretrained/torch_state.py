"""State dicts of PyTorch models, as safetensors or as PyTorch saves them."""

import argparse
import importlib.util
import pathlib
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.errors import InputError, is_exhaustion
from fer_jax.pretrained.source_file import Layers, SourceFile

_DEEPEST = 4
"""Dicts within dicts, in which a training script keeps its weights."""

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
    """Read what `torch.save` wrote: a state dict, or a training script's dict with state dicts in it."""
    require_torch(path)
    import torch

    try:
        # Without weights_only a file may run any code. Of numbers and options, nothing is used.
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A pickle that is damaged raises what its instructions happen to; nothing but torch has run.
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, *_OF_A_PICKLE) as error:
        if is_exhaustion(error):
            raise
        raise InputError(f"{path}: {_not_loaded(error)}") from error
    models = {place: _layers(tensors) for place, tensors in _state_dicts(path, content)}
    if not models:
        raise InputError(
            f"{path}: no state dict in it, only {_kind(content)}; expected names and tensors: save "
            "`model.state_dict()` by torch.save"
        )
    return SourceFile(path, "torch", models)


def _harmless() -> list:
    """Types that training scripts save beside the weights, and that run no code: numbers of NumPy, options, paths."""
    kinds = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8", "?")]
    # The types of NumPy leave out the module that its files name.
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    return [argparse.Namespace, pathlib.PosixPath, np.dtype, scalar, *kinds]


def _not_loaded(error: BaseException) -> str:
    """Say in words of our own why `torch.load` did not read a file."""
    # "Unsupported global: GLOBAL timm.models.efficientnet.EfficientNet was not an allowed global by default."
    found = re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)", str(error))
    if found:
        return (
            f"a whole pickled model or another object ({found[1] or found[2]}), which could run any code and is never "
            "unpickled; where it was made, save `model.state_dict()` by torch.save and give that"
        )
    return "a damaged PyTorch file, download or copy it again"


def _kind(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {', '.join(map(str, list(content)[:3])) or 'nothing'}"
    return f"a {type(content).__name__}"


def _state_dicts(path: Path, content: object, place: str = "") -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The mappings of names to tensors in `content`, by the keys that lead to them."""
    import torch

    if not isinstance(content, Mapping) or place.count("/") >= _DEEPEST:
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield place, {name: _numpy(path, name, value) for name, value in tensors.items()}
    for key, value in content.items():
        yield from _state_dicts(path, value, f"{place}/{key}" if place else str(key))


def _numpy(path: Path, name: str, tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # which NumPy has not
        tensor = tensor.float()
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{path}: {name}: a tensor of {tensor.dtype}, expected plain floats") from error


def _layers(tensors: Mapping[str, np.ndarray]) -> Layers:
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        layer, _, weight = name.rpartition(".")
        # How often PyTorch updated the running statistics: of no use without its own momentum schedule.
        if weight != "num_batches_tracked":
            layers.setdefault(layer, {})[weight] = array
    return layers
