"""How a run scales over the chips of TPU v5e slices, by the compiler's counts; nothing was measured on hardware.

A step takes the cycles that the compiler expects of one chip (`scripts/compile_check.py --out`), and then its sums over
the chips, which take at least their bytes over the links and, each of them, the way across the slice.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fer_jax.compile_check.counts import CompiledNetwork
from fer_jax.data.fer2013 import PUBLISHED_COUNTS
from fer_jax.data.resident import steps_per_epoch
from fer_jax.errors import InputError

FER2013_TRAINING_IMAGES = sum(PUBLISHED_COUNTS["train"])
FER2013_VALIDATION_IMAGES = sum(PUBLISHED_COUNTS["validation"])

SLICES = {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
"""Chips of a v5e slice along its two axes (cloud.google.com/tpu/docs/v5e, "Configurations")."""

LINK_BYTES_PER_SECOND = 1600e9 / 8 / 4
"""One way over one of the four links of a v5e chip: 1600 Gbit/s a chip (the same page, "Interchip Interconnect BW")."""

CYCLES_PER_SECOND = 1.5e9
"""The clock of a v5e chip (jax-ml.github.io/scaling-book, chapter "How to Think About TPUs")."""

HOP_SECONDS = 1e-6
"""The approximate latency from one chip to the next (the same chapter)."""

_CLOSED_SIDE = 16  # Only an axis of this length is a ring on v5e; a shorter one has two ends (the same chapter).
_EVALUATION_BATCH = 256
# The share of the forward pass in a training step: the backward pass has twice its operations.
_FORWARD_SHARE = 1 / 3
EPOCHS = 100
"""Epochs of a run (the paper's Table 1)."""


def chip_seconds(network: CompiledNetwork, batch_per_chip: int) -> float:
    """Return what the compiler expects a step to take on one chip, without the sums over the chips.

    Between two batches that were compiled on the straight line through both; beyond the largest in proportion to it.
    """
    batches = sorted(network.cycles)
    seconds = [network.cycles[batch] / CYCLES_PER_SECOND for batch in batches]
    if batch_per_chip > batches[-1]:
        return seconds[-1] * batch_per_chip / batches[-1]
    return float(np.interp(batch_per_chip, batches, seconds))


def all_reduce_seconds(network: CompiledNetwork, chips: int) -> float:
    """Return the least time of a step's sums over `chips`, one of `SLICES`.

    In a sum of B bytes over n chips each chip sends 2 (n - 1) / n * B (a ring, which no algorithm beats); the chip with
    the fewest links is last. Each sum has to cross the slice, from the farthest chip. They come one after the other,
    since a layer needs its batch statistics before the next can begin.
    """
    sides = [side for side in SLICES[chips] if side > 1]
    links = sum(2 if side == _CLOSED_SIDE else 1 for side in sides)
    if not links:
        return 0.0
    hops = sum(side // 2 if side == _CLOSED_SIDE else side - 1 for side in sides)
    transfer = 2 * (chips - 1) / chips * network.all_reduce_bytes / (links * LINK_BYTES_PER_SECOND)
    return transfer + network.all_reduces * hops * HOP_SECONDS


@dataclasses.dataclass(frozen=True)
class RunEstimate:
    """What a run of FER2013 takes on a slice, about.

    Attributes:
      chips: of the slice.
      batch_size: over all chips.
      steps: whole batches of an epoch, which train.py makes of it.
      chip_seconds: of a step, without the sums over the chips.
      all_reduce_seconds: of a step.
      evaluation_seconds: of PublicTest, once an epoch.
    """

    chips: int
    batch_size: int
    steps: int
    chip_seconds: float
    all_reduce_seconds: float
    evaluation_seconds: float

    @property
    def step_seconds(self) -> float:
        return self.chip_seconds + self.all_reduce_seconds

    @property
    def images_per_second(self) -> float:
        """The speed of training."""
        return self.batch_size / self.step_seconds

    @property
    def run_seconds(self) -> float:
        """The seconds of 100 epochs, the paper's number, without start and compilation.

        All images count, including those that are left over from the whole batches of an epoch: otherwise a batch size
        that leaves many over would look fast.
        """
        return EPOCHS * (FER2013_TRAINING_IMAGES / self.images_per_second + self.evaluation_seconds)

    @property
    def chip_hours(self) -> float:
        """The chip hours of these 100 epochs."""
        return self.run_seconds * self.chips / 3600


def run_estimate(network: CompiledNetwork, chips: int, batch_size: int) -> RunEstimate:
    """Return what a run takes with `batch_size` images a step over all `chips`.

    Raises:
      InputError: for chips that are no slice, and a batch that they cannot split or that no epoch has.
    """
    if chips not in SLICES:
        raise InputError(f"{chips} chips: no v5e slice; expected one of {', '.join(map(str, SLICES))}")
    if batch_size % chips or batch_size < chips:
        raise InputError(f"a batch of {batch_size} cannot be split over {chips} chips; give a multiple of {chips}")
    batches = math.ceil(FER2013_VALIDATION_IMAGES / max(_EVALUATION_BATCH, chips))
    forward = _FORWARD_SHARE * chip_seconds(network, max(1, _EVALUATION_BATCH // chips))
    return RunEstimate(
        chips=chips,
        batch_size=batch_size,
        steps=steps_per_epoch(FER2013_TRAINING_IMAGES, batch_size),
        chip_seconds=chip_seconds(network, batch_size // chips),
        all_reduce_seconds=all_reduce_seconds(network, chips),
        evaluation_seconds=batches * forward,
    )


def table(estimates: Sequence[RunEstimate]) -> str:
    """Return the estimates as a Markdown table; `speed` is beside the first row."""
    rows = [
        (
            f"{estimate.chips}",
            f"{estimate.batch_size:,}",
            f"{estimate.batch_size // estimate.chips:,}",
            f"{estimate.steps:,}",
            f"{1e3 * estimate.chip_seconds:.2f}",
            f"{1e3 * estimate.all_reduce_seconds:.2f}",
            f"{estimate.images_per_second:,.0f}",
            f"{estimate.images_per_second / estimates[0].images_per_second:.1f} x",
            f"{estimate.run_seconds / EPOCHS:.2f}",
            f"{estimate.run_seconds / 60:.1f}",
            f"{estimate.chip_hours:.2f}",
        )
        for estimate in estimates
    ]
    columns = "chips, batch, a chip, steps, chip ms, sums ms, img/s, speed, s an epoch, min a run, chip-hours"
    return _markdown(columns.split(", "), rows)


def sweep_table(network: CompiledNetwork, batch_sizes: Sequence[int]) -> str:
    """Return a Markdown table of runs of one chip each, as many at a time as there are chips."""
    rows = []
    for batch_size in batch_sizes:
        alone = run_estimate(network, 1, batch_size)
        for chips in (1, 8, 256):
            hourly = f"{3600 * chips / alone.run_seconds:,.1f}"
            rows.append(
                (f"{batch_size}", f"{chips}", f"{alone.run_seconds / 60:.1f}", hourly, f"{alone.chip_hours:.2f}")
            )
    return _markdown(["batch", "chips = runs at a time", "min a run", "runs an hour", "chip-hours a run"], rows)


def sections(network: CompiledNetwork) -> dict[str, str]:
    """Return tables by title: a fixed batch a chip, fixed global batches over the chips with an image, and a sweep."""
    weak = [run_estimate(network, chips, 128 * chips) for chips in SLICES if 128 * chips <= FER2013_TRAINING_IMAGES]
    tables = {"128 images a chip": table(weak)}
    for batch_size in (32, 256, 1024):
        strong = [run_estimate(network, chips, batch_size) for chips in SLICES if chips <= batch_size]
        tables[f"{batch_size:,} images in all"] = table(strong)
    tables["Runs of one chip each"] = sweep_table(network, (32, 128))
    return tables


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows))
