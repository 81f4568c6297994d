"""What a compiled program asks of the network and of memory, and what it gathers: read from the text of its HLO."""

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
_OPERANDS = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(r"\b[a-z]\w*\[[\d,]*\](?:\{[^}]*\})?")
# A memory space other than the main one, such as the vector memory of a TPU.
_OTHER_MEMORY = re.compile(r"S\(\d+\)")
# They name what lies somewhere already, or end what another instruction began.
_MOVE_NOTHING = frozenset(
    {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id"}
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between devices: its opcode, the bytes of its result, and the line of the source that asked."""

    opcode: str
    num_bytes: int
    op_name: str


@dataclasses.dataclass(frozen=True)
class Gather:
    """A gather: the shape of its result, the sizes of the slices that it takes, and the line of source that asked."""

    shape: tuple[int, ...]
    slice_sizes: tuple[int, ...]
    op_name: str

    def fetches_batch(self, batch_shape: tuple[int, ...]) -> bool:
        """Return whether this picks one piece of a table for each example of a batch, and nothing more.

        The result then holds a slice for each example, [n] or [seeds, n], each from one index along the table's first
        axis.
        """
        return (
            self.slice_sizes[:1] == (1,)
            and self.shape[: len(batch_shape)] == batch_shape
            and math.prod(self.shape[len(batch_shape) :]) == math.prod(self.slice_sizes)
        )


def collectives(hlo: str) -> list[Collective]:
    """Return the collectives of a compiled program, each once, in the order of the text.

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
    """Return the gathers of a program in the order of the text."""
    found = []
    for line in hlo.splitlines():
        match = _INSTRUCTION.match(line)
        if match and match["opcode"] == "gather":
            shape, slice_sizes = _SHAPE.search(match["type"]), _SLICE_SIZES.search(line)
            assert shape, f"a gather in another form than XLA writes it: {line}"
            assert slice_sizes, f"a gather in another form than XLA writes it: {line}"
            found.append(Gather(_integers(shape[3]), _integers(slice_sizes[1]), _op_name(line)))
    return found


def copies(hlo: str, shape: tuple[int, ...]) -> int:
    """Count the instructions of a compiled program that only copy an array of `shape`, as into another layout."""
    dimensions = ",".join(map(str, shape))
    matches = (_INSTRUCTION.match(line) for line in hlo.splitlines())
    return sum(1 for m in matches if m and m["opcode"] == "copy" and f"[{dimensions}]" in m["type"])


def main_memory_bytes(hlo: str) -> int:
    """Return what one run of a compiled TPU program reads from and writes to main memory (HBM), in bytes.

    Counted by where the compiler placed each array: an instruction reads its operands and writes its result, and those
    that lie in the chip's vector memory do not count. Arrays that are fetched into vector memory count once, where the
    fetch begins. (XLA's own count takes all memory for main memory, and counts a fetch several times.) Instructions
    inside loops count once, however often the loop runs; the training step has none.
    """
    types, total = {}, 0
    for line in _entry(hlo):
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        types[match["name"]] = match["type"]
        opcode = match["opcode"]
        if opcode in _MOVE_NOTHING or opcode.endswith("-done") or 'custom_call_target="ConcatBitcast"' in line:
            continue
        operands = [types[name] for name in _OPERANDS.findall(_arguments(line[match.end() :])) if name in types]
        if opcode in ("copy-start", "slice-start"):
            # (destination, source, context) or ((source), destination, context): as much of both as is moved.
            ends = _ARRAY.findall(match["type"])[:2]
            total += min(map(type_bytes, ends)) * sum(not _OTHER_MEMORY.search(end) for end in ends)
        else:
            total += sum(_main_memory_bytes_of(type_) for type_ in (match["type"], *operands))
    return total


def _main_memory_bytes_of(type_: str) -> int:
    return sum(type_bytes(array) for array in _ARRAY.findall(type_) if not _OTHER_MEMORY.search(array))


def _arguments(rest: str) -> str:
    """Return what an instruction is applied to: the text up to the parenthesis that closes its arguments."""
    depth = 1
    for place, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return rest[:place]
    return rest


def _entry(hlo: str) -> list[str]:
    """Return the lines of the computation that the program begins with."""
    lines = hlo.splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith("ENTRY ")), len(lines))
    end = next((number for number in range(begin, len(lines)) if lines[number].startswith("}")), len(lines))
    return lines[begin + 1 : end]


def estimated_cycles(hlo: str) -> int:
    """Return the cycles that the TPU compiler expects the program to take; 0 where it leaves no estimates."""
    return sum(map(int, _CYCLES.findall(hlo)))


def cycle_shares(hlo: str) -> dict[str, float]:
    """Return the fractions of all cycles that the TPU compiler expects by position in the source, largest first.

    Empty where the compiler leaves no estimates in the program, as on other platforms.
    """
    cycles: dict[str, float] = {}
    for line in hlo.splitlines():
        if match := _CYCLES.search(line):
            name = _op_name(line)
            cycles[name] = cycles.get(name, 0) + int(match[1])
    total = sum(cycles.values())
    return {name: cycles[name] / total for name in sorted(cycles, key=cycles.__getitem__, reverse=True)}


def type_bytes(text: str) -> int:
    """Return the bytes of an HLO type such as `f32[128,7]{1,0}`, or of a tuple of such types."""
    total = 0
    for kind, bits, dimensions in _SHAPE.findall(text):
        elements = math.prod(_integers(dimensions))
        total += elements if kind == "pred" else -(-elements * int(bits) // 8)
    return total


def by_opcode(found: Sequence[Collective]) -> dict[str, list[Collective]]:
    """Return the collectives of each opcode, in the order of `COLLECTIVES`."""
    groups = {opcode: [c for c in found if c.opcode == opcode] for opcode in COLLECTIVES}
    return {opcode: group for opcode, group in groups.items() if group}


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _op_name(line: str) -> str:
    match = _OP_NAME.search(line)
    return match[1] if match else "unknown"
