"""What a run and its checkpoints say of themselves: the types, and the one place that reads them back and checks them.

`run.json` holds a `RunDescription`, every checkpoint a `CheckpointRecord`. Files may be damaged, so each type checks
its values however it is made; read from a file, what does not hold is an `InputError` that names the file and the key.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from ml_collections import ConfigDict

from fer_jax.config.loading import from_json
from fer_jax.data.dataset import SPLITS
from fer_jax.errors import InputError, shown
from fer_jax.models.spec import BackboneSpec, Preprocessing
from fer_jax.pretrained.variant import read_variant

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_DAMAGED = "it is damaged, bring it back from a backup"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class BackboneRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A backbone as its weights decided it (see `BackboneSpec.variant`), and where these came from, in words."""

    name: str
    padding: str
    batch_norm_epsilon: float
    preprocessing: Preprocessing
    initial_weights: str

    def __post_init__(self):
        _ = self.spec

    @property
    def spec(self) -> BackboneSpec:
        """The architecture with this padding, epsilon and preprocessing."""
        # As JSON has it.
        preprocessing = {"mean": list(self.preprocessing.mean), "std": list(self.preprocessing.std)}
        return read_variant({**as_json(self), "preprocessing": preprocessing}, self.name)


class ParameterRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `config.train.parameters`, and how many tensors and parameters it decides."""

    row: str
    tensors: Count
    parameters: Count


class DataRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a run: `image_shape` is (size, size) of gray images or (size, size, 3) of RGB, in pixels."""

    source: str
    fingerprint: str
    image_shape: tuple[Count, ...]
    images: dict[str, Count]

    def __post_init__(self):
        size = self.image_shape[:1]
        if not size or self.image_shape not in (2 * size, (*size, *size, 3)):
            raise ValueError(f"image_shape is {list(self.image_shape)}, expected height, the same width, perhaps 3")
        _check_splits("images", self.images)


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a later command changed in the config of a run, from the step after `step` on: `KEY: BEFORE and AFTER`."""

    step: Count
    changed: tuple[str, ...]


class RunDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is a run of.

    `config` is the JSON text of `fer_jax.config.loading.to_json`. `split_roles` says for each role which split plays
    it; `selected_on` is the role that picks the best epoch. The test split has no part in training. `config` is that of
    the latest command, `changes` are those that earlier ones have seen.
    """

    fer_jax: str
    config: str
    class_names: tuple[str, ...]
    split_roles: dict[str, str]
    selected_on: str
    data: DataRecord
    backbones: Annotated[tuple[BackboneRecord, ...], msgspec.Meta(min_length=1)]
    parameters: tuple[ParameterRow, ...] = ()
    changes: tuple[ConfigChange, ...] = ()

    def __post_init__(self):
        if not len(set(self.class_names)) == len(self.class_names) > 1:
            raise ValueError(f"class_names is {shown(self.class_names)}, expected two or more different names")
        if self.selected_on not in SPLITS:
            raise ValueError(f"selected_on is {shown(self.selected_on)}, expected one of {', '.join(SPLITS)}")
        _check_splits("split_roles", self.split_roles)
        from_json(self.config)

    def parsed_config(self) -> ConfigDict:
        """Return the config, locked."""
        return from_json(self.config)


class EpochResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One epoch: means over its images, accuracies as fractions. A mean loss may be infinite or NaN."""

    epoch: Count
    step: Count
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    paper_protocol_test_accuracy: float | None = None
    learning_rate: float
    images_per_second: float
    seconds: float


class CheckpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run up to a checkpoint: `epoch` whole epochs and `epoch_seconds` of the next one, in `step` steps."""

    description: RunDescription
    epoch: Count
    step: Count
    epoch_seconds: float
    best: EpochResult | None
    history: tuple[EpochResult, ...]


class TrainResult(NamedTuple):
    """What `fer_jax.train.train` returns: the run, its best epoch, and every epoch."""

    description: RunDescription
    best: EpochResult
    history: tuple[EpochResult, ...]


def as_json(value: msgspec.Struct) -> dict:
    """Return `value` as what `json.dumps` takes; its numbers that are not finite stay as they are."""
    return msgspec.to_builtins(value)


def encode_description(description: RunDescription) -> str:
    """Return the content of `run.json`."""
    return msgspec.json.format(msgspec.json.encode(description), indent=2).decode() + "\n"


def decode_description(text: bytes, where: str) -> RunDescription:
    """Return the description that a file holds; raise `InputError`, which begins with `where`, if it is damaged."""
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error}); {_DAMAGED}") from error
    return _convert(found, RunDescription, where)


def decode_record(found: object, where: str) -> CheckpointRecord:
    """Return the record in `found`, of JSON; raise `InputError`, which begins with `where`, if it is damaged."""
    return _convert(found, CheckpointRecord, where)


def _convert(found: object, kind: type[_Struct], where: str) -> _Struct:
    try:
        return msgspec.convert(found, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(f"{where}: {_explained(str(error), found)}; {_DAMAGED}") from error


def _explained(said: str, found: object) -> str:
    """What msgspec says of a value (`Expected .., got .. - at `$.key``), with the key first and the value in it."""
    if " - at `$" in said:
        said, _, path = said.rpartition(" - at `$")
    else:
        path = ""
    key = path.strip("`.")
    above = f"{key}: " if key else ""
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", said):
        return f"{above}{missing[1]} is missing"
    if expected := re.fullmatch(r"Expected (.+?)(, got .+)?", said):
        return f"{key or 'its content'} is {shown(_at(found, path))}, expected {expected[1].replace('`', '')}"
    # What a type says of its values itself.
    return above + said.removesuffix("; the file is damaged").removesuffix(f"; {_DAMAGED}")


def _at(found: Any, path: str) -> object:
    """The value at a path of msgspec's, such as `.history[0].step`; as far as the path can be followed."""
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        try:
            found = found[name] if name else found[int(index)]
        except (KeyError, IndexError, TypeError):
            break
    return found


def _check_splits(key: str, found: Mapping[str, object]) -> None:
    if found.keys() != set(SPLITS):
        raise ValueError(f"{key} is {shown(found)}, expected one for each of {', '.join(SPLITS)}")
