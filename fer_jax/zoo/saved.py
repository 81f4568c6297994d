"""Open a trained model, wherever it lies: in a run's folder, in a file, or in the package."""

from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.errors import InputError
from fer_jax.runtime.user_path import input_path, user_place
from fer_jax.storage.bucket import BucketPath
from fer_jax.zoo import shipped
from fer_jax.zoo.model_file import ModelFile, read_model_file

if TYPE_CHECKING:
    from fer_jax.runs.checkpoint import SavedModel


def open_saved(path: str | Path | BucketPath) -> "SavedModel | ModelFile":
    """Open what `path` names: a run's folder or a checkpoint in it, a shipped model as `zoo:NAME`, or a model's file.

    Raises `InputError` if there is no such model, or if it is damaged.
    """
    if str(path).startswith(shipped.PREFIX):
        return read_model_file(shipped.shipped_file(str(path)))
    expected = "expected a run's folder, a .safetensors file, or zoo:NAME"
    place = user_place(path, f"{path}:", f"; {expected}")
    if place.suffix == ".safetensors":
        return read_model_file(input_path(place, f"{path}:"))
    if place.is_file():
        use = " (an exported file is for fer-jax predict)" if place.suffix in (".onnx", ".stablehlo") else ""
        raise InputError(f"{place}: is a file; {expected}{use}")
    # Orbax takes a second to import: a model in one file does without.
    from fer_jax.runs.checkpoint import find_model

    return find_model(path)
