"""What compile_check counted for the training step of a network, as a JSON file that `scripts/scaling.py` reads."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from fer_jax.compile_check.check import CompiledStep
from fer_jax.errors import InputError
from fer_jax.storage import files

_SETTING = ("topology", "input_size", "dtype")
_COUNTS = ("cycles", "all_reduces", "all_reduce_bytes")


@dataclasses.dataclass(frozen=True)
class CompiledNetwork:
    """What compile_check counted for the training step of a network.

    Attributes:
      cycles: that the compiler expects one chip to take for a step, by batch a chip.
      all_reduces: sums over the chips in a step.
      all_reduce_bytes: of them together.
    """

    cycles: Mapping[int, float]
    all_reduces: int
    all_reduce_bytes: float


def write_counts(path: Path, step: CompiledStep, config: ConfigDict, topology: str, command: str) -> None:
    """Write the counts of `step`, which `command` compiled of `config` for `topology`, by the name of its network."""
    sums = [collective.num_bytes for collective in step.collectives if collective.opcode == "all-reduce"]
    counts = {
        "command": command,
        "topology": topology,
        "input_size": config.model.input_size,
        "dtype": config.model.dtype,
        "seeds": step.seeds,
        "cycles": {str(step.batch_per_chip): step.cycles},
        "hbm_bytes": {str(step.batch_per_chip): step.hbm_bytes},
        "temporary_bytes": {str(step.batch_per_chip): step.cost.temporary_bytes},
        "all_reduces": len(sums),
        "all_reduce_bytes": sum(sums),
    }
    files.write_text(path, json.dumps({"+".join(config.model.backbones): counts}, indent=2) + "\n")


def read_counts(paths: Iterable[Path]) -> dict[str, CompiledNetwork]:
    """Read the files of `write_counts`, and join what they have of each network: its batches.

    The sums over the chips are those of the largest batch.

    Raises:
      InputError: for a file that cannot be read or is no file of compile_check, for a chip other than v5e, for a step
        of several seeds, and for files of one network that differ in topology, input size or dtype.
    """
    joined: dict[str, dict] = {}
    for path in paths:
        for name, counts in _read(path).items():
            earlier = joined.setdefault(name, counts)
            for key in _SETTING:
                if earlier[key] != counts[key]:
                    raise InputError(
                        f"{path}: {name}: {key} is {counts[key]!r}, expected {earlier[key]!r} as in the file before; "
                        "give files of one setting"
                    )
            last = max(earlier, counts, key=lambda one: max(one["cycles"]))
            joined[name] = {**last, "cycles": earlier["cycles"] | counts["cycles"]}
    return {name: CompiledNetwork(*(counts[key] for key in _COUNTS)) for name, counts in joined.items()}


def _read(path: Path) -> dict[str, dict]:
    """Return the counts in a file by network, with whole numbers for the batches."""
    advice = "write it by `scripts/compile_check.py --out`"
    try:
        networks = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {advice}") from error
    try:
        read = {
            name: {key: counts[key] for key in _SETTING}
            | {
                "cycles": {int(batch): float(cycles) for batch, cycles in counts["cycles"].items()},
                # Files written before there were several seeds do not say it.
                "seeds": int(counts.get("seeds", 1)),
                "all_reduces": int(counts["all_reduces"]),
                "all_reduce_bytes": float(counts["all_reduce_bytes"]),
            }
            for name, counts in networks.items()
        }
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: expected {', '.join((*_SETTING, *_COUNTS))} of each network ({type(error).__name__}: {error}); "
            f"{advice}"
        ) from error
    for name, counts in read.items():
        if not counts["cycles"]:
            raise InputError(f"{path}: {name}: cycles is empty, expected one batch or more; {advice}")
        if not str(counts["topology"]).startswith("v5e:"):
            raise InputError(
                f"{path}: {name}: topology is {counts['topology']!r}, expected v5e, whose links and clock the estimate "
                "knows; compile with --topology=v5e:2x2"
            )
        if counts["seeds"] != 1:
            raise InputError(
                f"{path}: {name}: seeds is {counts['seeds']}, expected the step of 1, whose runs the estimate is for; "
                "compile without --seeds"
            )
    return read
