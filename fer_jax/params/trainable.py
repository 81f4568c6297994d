"""What trains, when and how fast: one ordered table of path patterns, resolved once against the parameters.

A row is `PATTERN: ACTION`. The pattern is matched against a parameter's whole path, such as
`backbones/mobilenet_v2/blocks/3/expand/conv/kernel`, segment by segment: `*`, `?` and `[0-3]` stand for characters
within a segment, `**` for any number of segments. The action is one of

    train                          from the first epoch, at the learning rate of the schedule
    train at 0.1                   at a tenth of it
    train from epoch 5             frozen before epoch 5 (epochs count from 1)
    train at 0.1 from epoch 5      both
    freeze                         never

The first row that matches a parameter decides. A parameter that no row matches and a row that decides nothing are
errors, so that the table is a complete description.

Frozen means what Keras' `trainable=False` means: not differentiated, no optimizer state, no weight decay, no average,
and the module acts as in evaluation. The modules do the latter (`fer_jax.models.fernet.freeze_modules`): a batch
normalisation whose parameters are all frozen normalises by its running statistics and does not update them, and a block
whose parameters are all frozen never drops its branch.

The last is where Keras differs: there `trainable=False` changes the call of batch normalisation alone, so that `fit`
goes on to skip blocks of a frozen EfficientNetB0 (at its own rates, up to 0.2), and a classifier on top of it trains on
features that no evaluation gives. Here a frozen network is one function in training and evaluation, which is what lets
its features be computed once and kept (`train.cached_views`).
"""

import dataclasses
import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fer_jax.errors import InputError
from fer_jax.params.tree import Path, from_paths, leaves_by_path

KEY = "config.train.parameters"
EVERYTHING = ("**: train",)
"""The table by which all parameters train from the first epoch."""

_ROW = re.compile(
    r"(?P<pattern>\S+?):\s+(?:(?P<freeze>freeze)|train(?: at (?P<rate>\S+))?(?: from epoch (?P<from>\d+))?)"
)


@dataclasses.dataclass(frozen=True, order=True)
class Group:
    """Parameters that train in the same way: their factor on the learning rate, and their first epoch, from 1."""

    rate: float
    first_epoch: int

    @property
    def label(self) -> str:
        """The label of its parameters in `TrainableTable.labels`."""
        return f"rate {self.rate!r} from epoch {self.first_epoch}"


FROZEN = "frozen"
"""The label of parameters that never train."""


# Rows are compared by identity, because a table may hold the same text twice.
@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One row of the table: its text, its pattern by segments, and the group of its parameters (None: frozen)."""

    text: str
    pattern: tuple[str, ...]
    group: Group | None

    def matches(self, path: Path) -> bool:
        """Return whether the pattern matches the whole path."""
        return _matches(self.pattern, tuple(map(str, path)))


def parse_rows(rows: Sequence[str], epochs: int) -> tuple[Row, ...]:
    """Parse the rows of `config.train.parameters`, for a run of `epochs` epochs.

    Raises `InputError` for a row that cannot be read, a factor that is not a positive number, and an epoch that the
    run does not reach.
    """
    if not rows:
        raise InputError(f"{KEY}=(): expected at least one row, such as '**: train'")
    parsed = []
    for text in rows:
        found = _ROW.fullmatch(text) if isinstance(text, str) else None
        if not found:
            raise InputError(
                f"{KEY}: row {text!r} cannot be read; expected 'PATTERN: freeze', 'PATTERN: train', 'PATTERN: train at "
                "0.1', 'PATTERN: train from epoch 5' or 'PATTERN: train at 0.1 from epoch 5'"
            )
        pattern = tuple(found["pattern"].split("/"))
        group = None if found["freeze"] else Group(_rate(text, found["rate"]), int(found["from"] or 1))
        if group and not 1 <= group.first_epoch <= epochs:
            raise InputError(
                f"{KEY}: row {text!r}: the run has epochs 1 to {epochs} (config.train.epochs); "
                "give one of them, or 'freeze'"
            )
        parsed.append(Row(text, pattern, group))
    return tuple(parsed)


def _rate(text: str, rate: str | None) -> float:
    try:
        value = float(rate or 1)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{KEY}: row {text!r}: {rate!r} is no positive number; expected a factor, such as 'at 0.1'")
    return value


def _matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(pattern[1:], path[1:])


@dataclasses.dataclass(frozen=True)
class TrainableTable:
    """The table resolved: `row_of` has the deciding row of every parameter by its path, `sizes` its element count."""

    rows: tuple[Row, ...]
    row_of: Mapping[Path, Row]
    sizes: Mapping[Path, int]

    def group(self, path: Path) -> Group | None:
        """Return the group of the parameter at `path`; None if it never trains."""
        return self.row_of[path].group

    def ever_trains(self, path: Path) -> bool:
        """Return whether the parameter at `path` trains in some epoch; it then has optimizer state from the start."""
        return self.group(path) is not None

    def trains(self, path: Path, epoch: int) -> bool:
        """Return whether the parameter at `path` trains in `epoch` (from 1)."""
        group = self.group(path)
        return group is not None and group.first_epoch <= epoch

    def labels(self) -> dict:
        """Return the label of every parameter, in nested dicts like the parameters: of its group, or `FROZEN`."""
        groups = {path: self.group(path) for path in self.row_of}
        return from_paths({path: group.label if group else FROZEN for path, group in groups.items()})

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that train in some epoch, sorted."""
        return tuple(sorted({row.group for row in self.row_of.values() if row.group}))

    @property
    def phase_starts(self) -> tuple[int, ...]:
        """The epochs, sorted, at which the set of trained parameters changes; the first is 1."""
        return tuple(sorted({1, *(group.first_epoch for group in self.groups)}))

    def describe(self) -> list[dict[str, Any]]:
        """Return the rows as JSON: `row`, and the number of `tensors` and `parameters` that it decides."""
        counts = {row: [0, 0] for row in self.rows}
        for path, row in self.row_of.items():
            counts[row][0] += 1
            counts[row][1] += self.sizes[path]
        return [{"row": row.text, "tensors": n, "parameters": size} for row, (n, size) in counts.items()]

    def text(self, optimizer_bytes: int) -> str:
        """Format the rows with their counts, the sum of what trains, and the size of the optimizer's state."""
        lines = self.describe()
        trained = [self.sizes[path] for path in self.row_of if self.ever_trains(path)]
        total: dict[str, Any] = {"row": "trained in all", "tensors": len(trained), "parameters": sum(trained)}
        width = max(len(line["row"]) for line in (*lines, total))
        return "\n".join(
            [
                f"{'what trains':<{width}}  {'tensors':>7}  {'parameters':>12}",
                *(f"{x['row']:<{width}}  {x['tensors']:>7,}  {x['parameters']:>12,}" for x in (*lines, total)),
                f"optimizer state: {optimizer_bytes:,} bytes",
            ]
        )


def resolve(rows: Sequence[str], epochs: int, params: Any) -> TrainableTable:
    """Return the table of `rows` for `params`, nested dicts of arrays or shapes, in a run of `epochs` epochs.

    Raises `InputError` as `parse_rows` does, for a parameter that no row matches, for a row that decides nothing, and
    if nothing trains in the first epoch.
    """
    parsed = parse_rows(rows, epochs)
    leaves = leaves_by_path(params)
    row_of = {}
    for path in leaves:
        row = next((row for row in parsed if row.matches(path)), None)
        if row is None:
            raise InputError(
                f"{KEY}: no row matches the parameter {'/'.join(map(str, path))}; "
                "add one, such as '**: freeze' at the end"
            )
        row_of[path] = row
    for row in parsed:
        if row not in row_of.values():
            shadowed = any(row.matches(path) for path in leaves)
            reason = "every parameter that it matches is decided by a row above it" if shadowed else "matches nothing"
            raise InputError(
                f"{KEY}: row {row.text!r}: {reason}; remove it, or correct its pattern (the paths of the parameters "
                f"are like {'/'.join(map(str, next(iter(leaves))))})"
            )
    table = TrainableTable(parsed, row_of, {path: math.prod(leaf.shape) for path, leaf in leaves.items()})
    if not any(table.trains(path, epoch=1) for path in leaves):
        raise InputError(f"{KEY}={tuple(rows)}: nothing trains in epoch 1; let a row say 'train'")
    return table


def state_bytes(tree: Any) -> int:
    """Return the bytes that the arrays of `tree` take on one device that holds them whole."""
    import jax

    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
