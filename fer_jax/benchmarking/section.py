"""The arguments and the result of a measurement."""

import dataclasses

from ml_collections import ConfigDict

from fer_jax.benchmarking.rounds import Speed
from fer_jax.compile_check.devices import Peak


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure and how often; `peak` holds the limits of the device, `peer_python` an interpreter or None."""

    config: ConfigDict
    peak: Peak
    rounds: int
    steps: int
    peer_python: str | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """The result of one measurement: speeds taken in turn, figures by name, rows of a table, and what they suggest."""

    what: str
    title: str
    speeds: dict[str, Speed] = dataclasses.field(default_factory=dict)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, float | str]] = dataclasses.field(default_factory=list)
    note: str = ""
