"""A trained model in one safetensors file, which needs no run's folder: weights, record, temperature, provenance.

Tensors are named by their paths in the network, `params/...` and `batch_stats/...`, stored as `fer_jax.zoo.storage`
says. The metadata are strings:

- `format`;
- `class_names` and `config`, JSON for readers in other languages;
- `record`, the JSON of the checkpoint's `CheckpointRecord`, from which the network is rebuilt;
- `temperature`, the JSON of a `StoredTemperature`, or null;
- `storage`, in words;
- `provenance`, JSON of what a report says of the checkpoint that the file was made from.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from fer_jax.errors import InputError, shown
from fer_jax.params.tree import from_paths, leaves_by_path
from fer_jax.runs.record import CheckpointRecord, as_json, decode_record
from fer_jax.runs.temperature import StoredTemperature
from fer_jax.storage.files import replace_file
from fer_jax.zoo.storage import Storage, decode, encode

FORMAT = "fer_jax model 1"
"""What `format` in the metadata says; the number grows when a reader of today could not use the file."""

_METADATA = ("format", "class_names", "config", "record", "temperature", "storage", "provenance")


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A trained model read from a file; stands where a checkpoint does (`fer_jax.runs.checkpoint.SavedModel`).

    Attributes:
      path: the file.
      record: what the checkpoint that it was made from tells of itself.
      temperature: the one that was fitted for it, or None.
      storage: how the weights are kept, in words.
    """

    path: Path
    record: CheckpointRecord
    temperature: StoredTemperature | None
    storage: str
    arrays: dict[str, np.ndarray] = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """The model, for messages and records, without its folder, which means nothing elsewhere."""
        return f"file {self.path.name}"

    def run_history(self) -> list[dict]:
        """Return the epochs of the run up to this model."""
        return [as_json(entry) for entry in self.record.history]

    def restore(self, params: Any, batch_stats: Any) -> tuple[Any, Any]:
        """Parameters and running statistics, shaped and placed like the arguments (arrays or shapes).

        Raises `InputError` if the file lacks an array, or holds one of another shape or one too many.
        """
        wanted = leaves_by_path({"params": params, "batch_stats": batch_stats})
        keys = {path: "/".join(map(str, path)) for path in wanted}
        if surplus := self.arrays.keys() - set(keys.values()):
            raise InputError(f"{self.path}: {min(surplus)} has no place in the network; get the file anew")
        restored = {}
        for path, leaf in wanted.items():
            array = self.arrays.get(keys[path])
            found = "nothing" if array is None else array.shape
            if found != leaf.shape:
                raise InputError(f"{self.path}: {keys[path]} is {found}, expected {leaf.shape}; get the file anew")
            restored[path] = jax.device_put(array, leaf.sharding)
        tree = from_paths(restored)
        return tree["params"], tree["batch_stats"]


def write_model_file(
    path: Path,
    params: Any,
    batch_stats: Any,
    *,
    record: CheckpointRecord,
    storage: Storage,
    temperature: StoredTemperature | None,
    provenance: Mapping[str, str | int | float],
) -> None:
    """Write a model; names of files in the config lose their folders, which mean nothing elsewhere.

    Raises `InputError` if the file cannot be written.
    """
    leaves = leaves_by_path({"params": params, "batch_stats": batch_stats})
    described = as_json(record)
    config = _without_folders(json.loads(record.description.config))
    described["description"]["config"] = json.dumps(config)
    metadata = {
        "format": FORMAT,
        "class_names": json.dumps(record.description.class_names),
        "config": json.dumps(config),
        "record": json.dumps(described),
        "temperature": json.dumps(None if temperature is None else msgspec.to_builtins(temperature)),
        "storage": str(storage),
        "provenance": json.dumps(dict(provenance)),
    }
    tensors = encode({path: np.asarray(leaf) for path, leaf in leaves.items()}, storage)
    try:
        with replace_file(path) as beside:
            beside.write_bytes(safetensors.numpy.save(tensors, metadata))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_model_file(path: Path) -> ModelFile:
    """Read what `write_model_file` wrote; raise `InputError` for anything else."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise InputError(
                f"{path}: format {shown(metadata.get('format'))}, expected {FORMAT!r}; give a run's folder or zoo:NAME"
            )
        if missing := [key for key in _METADATA if key not in metadata]:
            raise InputError(f"{path}: its metadata lack {', '.join(missing)}; get the file anew")
        arrays = decode(safetensors.numpy.load_file(path))
        temperature = msgspec.json.decode(metadata["temperature"], type=StoredTemperature | None)
        record = json.loads(metadata["record"])
    except InputError:
        raise
    # KeyError: a type that NumPy has not. The others: metadata that are no numbers or JSON of these parts.
    except (OSError, safetensors.SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged, or no model of this project: {error}; get the file anew") from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise InputError(f"{path}: some weights are not finite; get the file anew")
    record = decode_record(record, f"{path}, record")
    return ModelFile(path, record, temperature, metadata["storage"], arrays)


def _without_folders(config: dict) -> dict:
    """`config` with only the names of absolute paths."""
    return {
        key: _without_folders(value)
        if isinstance(value, dict)
        else os.path.basename(value)
        if isinstance(value, str) and os.path.isabs(value)
        else value
        for key, value in config.items()
    }
