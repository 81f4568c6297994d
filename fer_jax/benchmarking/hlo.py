"""What a compiled program asks of the network between devices, and what it gathers: read from the text of its HLO."""

import dataclasses
import math
import re
from collections.abc import Sequence

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
"""The opcodes by which devices exchange data."""

# XLA's name of a type begins with a letter and ends in its width in bits; `pred` is stored as a byte.
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT\s+)?%?(?P<name>[\w.-]+) = (?P<type>.+?) (?P<opcode>[a-z][a-z0-9-]*)\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SLICE_SIZES = re.compile(r"slice_sizes=\{([\d,]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between devices: its opcode, the bytes of its result, and the place in the source that asked."""

    opcode: str
    num_bytes: int
    op_name: str


@dataclasses.dataclass(frozen=True)
class Gather:
    """A gather: the shape of its result, the sizes of the slices that it takes, and the place that asked for it."""

    shape: tuple[int, ...]
    slice_sizes: tuple[int, ...]
    op_name: str

    def fetches_batch(self, batch_size: int) -> bool:
        """Whether this picks one piece of a table for each example of a batch, and nothing more.

        The result then holds `batch_size` slices, each from one place along the table's first axis.
        """
        return (
            self.slice_sizes[:1] == (1,)
            and self.shape[:1] == (batch_size,)
            and math.prod(self.shape[1:]) == math.prod(self.slice_sizes)
        )


def collectives(hlo: str) -> list[Collective]:
    """The collectives of a compiled program, each once, in the order of the text.

    One inside a loop counts once, however often the loop runs. An asynchronous one is counted where it ends, where
    its type is that of the result.
    """
    found = []
    for line in hlo.splitlines():
        match = _INSTRUCTION.match(line)
        if match and match["opcode"].removesuffix("-done") in COLLECTIVES:
            opcode = match["opcode"].removesuffix("-done")
            found.append(Collective(opcode, type_bytes(match["type"]), _op_name(line)))
    return found


def gathers(hlo: str) -> list[Gather]:
    """The gathers of a program in the order of the text."""
    found = []
    for line in hlo.splitlines():
        match = _INSTRUCTION.match(line)
        if match and match["opcode"] == "gather":
            shape = _integers(_SHAPE.search(match["type"])[3])
            found.append(Gather(shape, _integers(_SLICE_SIZES.search(line)[1]), _op_name(line)))
    return found


def copies(hlo: str, shape: tuple[int, ...]) -> int:
    """How many instructions of a compiled program do nothing but copy an array of `shape`, as into another layout."""
    dimensions = ",".join(map(str, shape))
    matches = (_INSTRUCTION.match(line) for line in hlo.splitlines())
    return sum(1 for m in matches if m and m["opcode"] == "copy" and f"[{dimensions}]" in m["type"])


def cycle_shares(hlo: str) -> dict[str, float]:
    """Where the TPU compiler expects the time to go: fractions of all cycles by place in the source, largest first.

    Empty where the compiler leaves no estimates in the program, as on other platforms.
    """
    cycles = {}
    for line in hlo.splitlines():
        if match := _CYCLES.search(line):
            name = _op_name(line)
            cycles[name] = cycles.get(name, 0) + int(match[1])
    total = sum(cycles.values())
    return {name: cycles[name] / total for name in sorted(cycles, key=cycles.get, reverse=True)}


def type_bytes(text: str) -> int:
    """Bytes of an HLO type such as `f32[128,7]{1,0}`, or of a tuple of such types."""
    total = 0
    for kind, bits, dimensions in _SHAPE.findall(text):
        elements = math.prod(_integers(dimensions))
        total += elements if kind == "pred" else -(-elements * int(bits) // 8)
    return total


def by_opcode(found: Sequence[Collective]) -> dict[str, list[Collective]]:
    """The collectives of each opcode, in the order of `COLLECTIVES`."""
    groups = {opcode: [c for c in found if c.opcode == opcode] for opcode in COLLECTIVES}
    return {opcode: group for opcode, group in groups.items() if group}


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _op_name(line: str) -> str:
    match = _OP_NAME.search(line)
    return match[1] if match else "unknown"
