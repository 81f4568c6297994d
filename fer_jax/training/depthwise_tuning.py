"""What `config.model.depthwise_lowering=auto` is on a GPU: decided by a short measurement, then kept.

Which lowering of a depthwise convolution is faster on a GPU differs with the device, the shape and the direction, so
each shape of the network is measured at the start of a run, with the images of a step that one device gets. The
choices are kept twice. In the user's cache folder, by all that they depend on, so that another run need not measure.
And in the folder of the run, because the lowerings round differently: a run that is stopped and goes on must have the
same ones to end with the same bits, whatever became of the cache. Its checkpoints have them too; there a GPU evaluates
with the lowering of the forward pass that it was trained with, and any other device with its own.

On CPU and TPU nothing is measured: what `auto` is there is fixed in `fer_jax.models.convolutions.depthwise`.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict
from platformdirs import user_cache_path

import fer_jax
from fer_jax.errors import InputError
from fer_jax.models.backbone import BackboneSpec
from fer_jax.models.convolutions.depthwise import DIRECTIONS, Choices, DepthwiseShape, by_direction, is_lowering
from fer_jax.models.convolutions.timing import depthwise_shapes, lowering_seconds
from fer_jax.runtime import files, processes

RECORD = "depthwise.json"
"""The file with the choices in the folder of a run."""

KEY = "depthwise_choices"
"""Where the record of a checkpoint has them."""

_CACHE = "depthwise_lowerings.json"
# Guesses, as long as no GPU has run this: few, since lowerings that differ by little may be mistaken for each other.
_ROUNDS, _CALLS = 3, 10
# Six programs are compiled for each shape; a start that takes longer than this is worth no lowering.
_BUDGET_SECONDS = 180.0
_DAMAGED = "it is damaged, bring it back from a backup"

Measure = Callable[[DepthwiseShape, str], Mapping[str, float]]
"""Seconds by lowering of a shape in one of `DIRECTIONS`."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The choices, and one line on how they came about; both empty where there was nothing to choose."""

    choices: Choices = ()
    message: str = ""


def is_measured(config: ConfigDict, mesh: jax.sharding.Mesh) -> bool:
    """Whether a measurement has to say what the lowering of `config` is on the devices of `mesh`."""
    return config.model.depthwise_lowering == "auto" and mesh.devices.flat[0].platform == "gpu"


def tune(config: ConfigDict, backbones: Sequence[BackboneSpec], mesh: jax.sharding.Mesh) -> Tuning:
    """The choices for `backbones` on this machine: from the user's cache, or measured and then kept there."""
    if not is_measured(config, mesh):
        return Tuning()
    batch_size, dtype = config.train.batch_size // mesh.size, config.model.dtype

    def measure(shape, direction):
        return lowering_seconds(shape, direction, batch_size, dtype, rounds=_ROUNDS, calls=_CALLS)

    device = mesh.devices.flat[0].device_kind
    shapes = tuple(depthwise_shapes(backbones, config.model.input_size))
    cache = user_cache_path("fer_jax") / _CACHE
    return choose(shapes, batch_size, dtype, device, cache, measure)


def tune_run(config: ConfigDict, backbones: Sequence[BackboneSpec], mesh: jax.sharding.Mesh, workdir: Path) -> Tuning:
    """The choices for a run, the same in all its processes and whenever it goes on: `tune`, once, then its record.

    Process 0 measures on its first device, or reads the record, and the others learn from it.

    Raises `InputError` if the record in `workdir` is damaged.
    """
    if not is_measured(config, mesh):
        return Tuning()
    place, messages = workdir / RECORD, []

    def decide() -> str:
        if place.exists():
            choices = _read_record(place)
            messages.append(f"depthwise convolutions: {_in_words(choices)}, as when this run began")
        else:
            tuning = tune(config, backbones, mesh)
            choices = tuning.choices
            messages.append(tuning.message)
            files.write_text(place, json.dumps(to_json(choices), indent=2) + "\n")
        return json.dumps(to_json(choices))

    decided = processes.text_from_main(decide, "has the lowerings of the depthwise convolutions")
    return Tuning(from_json(json.loads(decided), str(place)), "".join(messages))


def choose(
    shapes: Sequence[DepthwiseShape],
    batch_size: int,
    dtype: str,
    device_kind: str,
    cache: Path,
    measure: Measure,
    *,
    budget_seconds: float = _BUDGET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """The faster lowering of each shape in each direction, as `cache` knows it or else as `measure` finds it.

    Args:
      shapes: to choose for. Once `budget_seconds` are over, those not yet known stay native, and are not kept.
      batch_size: the images that one device gets.
      dtype: of the images and kernels.
      device_kind: as JAX names it.
      cache: the file that keeps the choices. Damaged, it counts as empty; where it cannot be written, it is left.
      measure: a direction that it cannot run, as for want of memory, stays native.
      budget_seconds: see `shapes`.
      clock: gives seconds.
    """
    setting = f"{device_kind}; JAX {jax.__version__}; fer_jax {fer_jax.__version__}; {dtype}; batch {batch_size}"
    keys = {shape: f"{setting}; {shape}, {shape.padding}" for shape in shapes}
    known = _read_cache(cache)
    chosen = {shape: known[key] for shape, key in keys.items() if is_lowering(known.get(key))}
    found, start = {}, clock()
    for shape in shapes:
        if shape not in chosen and clock() - start < budget_seconds:
            found[shape] = ",".join(_measured(shape, direction, measure) for direction in DIRECTIONS)
    if found:
        # Read again, for what other runs have found meanwhile.
        kept = _read_cache(cache) | {keys[shape]: lowering for shape, lowering in found.items()}
        # A home that cannot be written costs the next run a measurement, no more.
        with contextlib.suppress(OSError):
            files.write_text(cache, json.dumps(kept, indent=2, sort_keys=True) + "\n")
    choices = tuple((chosen | found).items())
    left_over = len(shapes) - len(choices)
    message = (
        f"depthwise convolutions on {device_kind}: {_in_words(choices)}; {len(found)} shapes measured in "
        f"{clock() - start:.0f} s, {len(chosen)} known from {cache}"
    )
    return Tuning(choices, f"{message}, {left_over} left native for want of time" if left_over else message)


def fastest(seconds: Mapping[str, float]) -> str:
    """The lowering with the fewest `seconds`, the first of equals."""
    return min(seconds, key=seconds.get)


def to_json(choices: Choices) -> list[dict]:
    """The choices as JSON: for each shape its fields and its `lowering`."""
    return [dataclasses.asdict(shape) | {"lowering": lowering} for shape, lowering in choices]


def from_json(value: object, where: str) -> Choices:
    """The inverse of `to_json`; raises `InputError`, which begins with `where`, for what it cannot have given."""
    fields = {field.name: field.type for field in dataclasses.fields(DepthwiseShape)} | {"lowering": str}
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list of lowerings; {_DAMAGED}")
    for row in value:
        if not isinstance(row, dict) or {name: type(found) for name, found in row.items()} != fields:
            raise InputError(f"{where}: expected {', '.join(fields)} in each row; {_DAMAGED}")
        if not is_lowering(row["lowering"]):
            raise InputError(f"{where}: lowering is {row['lowering'][:60]!r}, expected three names; {_DAMAGED}")
    names = [name for name in fields if name != "lowering"]
    return tuple((DepthwiseShape(*(row[name] for name in names)), row["lowering"]) for row in value)


def _measured(shape: DepthwiseShape, direction: str, measure: Measure) -> str:
    try:
        return fastest(measure(shape, direction))
    except jax.errors.JaxRuntimeError:
        return "native"


def _in_words(choices: Choices) -> str:
    counts = [
        f"{direction} of {sum(by_direction(lowering)[i] == 'shift_and_add' for _, lowering in choices)}"
        for i, direction in enumerate(DIRECTIONS)
    ]
    return f"of {len(choices)} shapes, shift_and_add for the {', '.join(counts)}; native for all else"


def _read_cache(cache: Path) -> dict[str, str]:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _read_record(place: Path) -> Choices:
    try:
        value = json.loads(place.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: cannot be read as JSON ({error}); {_DAMAGED}") from error
    return from_json(value, str(place))
