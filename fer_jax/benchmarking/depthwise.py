"""The lowerings of the depthwise convolution beside each other, and which one to set for this device."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fer_jax.benchmarking.rounds import interleave
from fer_jax.benchmarking.runners import TrainRunner
from fer_jax.benchmarking.section import Section, Settings
from fer_jax.models.convolutions.depthwise import AUTO
from fer_jax.models.convolutions.lowering import DIRECTIONS, LOWERINGS
from fer_jax.models.convolutions.timing import depthwise_shapes, lowering_seconds
from fer_jax.models.fernet import BACKBONES


def depthwise(settings: Settings) -> Section:
    """Measure each lowering in the whole training step, and in each distinct depthwise convolution of the backbones.

    The rows give milliseconds for the images of one device, direction by direction, and how often the convolution
    occurs in the network. The figures are the sums over the network, and the note names the config value that they
    speak for.
    """
    config = settings.config
    runners = {}
    for lowering in LOWERINGS:
        variant = config.copy_and_resolve_references()
        variant.model.depthwise_lowering = lowering
        runners[f"training step, {lowering}"] = TrainRunner(variant)
    speeds = interleave(runners, rounds=settings.rounds, steps=settings.steps)
    del runners
    batch_size = config.train.batch_size // jax.device_count()
    counted = {"rounds": settings.rounds, "calls": settings.steps}
    rows: list[dict[str, Any]] = []
    backbones = [BACKBONES[name] for name in config.model.backbones]
    for shape, times in depthwise_shapes(backbones, config.model.input_size).items():
        row = {"shape": str(shape), "times": times}
        for direction in DIRECTIONS:
            found = lowering_seconds(shape, direction, batch_size, config.model.dtype, **counted)
            row |= {_column(direction, lowering): 1e3 * seconds for lowering, seconds in found.items()}
        rows.append(row)
    totals = network_milliseconds(rows)
    fastest = ", ".join(f"{direction}: {min(found, key=found.__getitem__)}" for direction, found in totals.items())
    auto = AUTO.get(jax.default_backend(), "native")
    return Section(
        "depthwise",
        f"Depthwise convolutions, batch {config.train.batch_size}",
        speeds,
        figures={
            f"whole network: {_column(direction, lowering)}": milliseconds
            for direction, found in totals.items()
            for lowering, milliseconds in found.items()
        },
        rows=rows,
        note=(
            f"Fastest on this device over the whole network: {fastest}; auto is {auto} in all directions. To set it: "
            f"--config.model.depthwise_lowering={fastest_lowering(totals)}"
        ),
    )


def network_milliseconds(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Sum the rows of `depthwise` over the network, each as often as it occurs: milliseconds by direction, lowering."""
    return {
        direction: {
            lowering: sum(row["times"] * row[_column(direction, lowering)] for row in rows) for lowering in LOWERINGS
        }
        for direction in DIRECTIONS
    }


def fastest_lowering(totals: Mapping[str, Mapping[str, float]]) -> str:
    """Name the value of `config.model.depthwise_lowering` with the least milliseconds in each direction.

    Args:
      totals: as `network_milliseconds` gives them. Of equals, the first of `LOWERINGS` counts as faster.

    Returns:
      One name where all directions agree, else three joined by commas.
    """
    names = [min(LOWERINGS, key=totals[direction].__getitem__) for direction in DIRECTIONS]
    return names[0] if len(set(names)) == 1 else ",".join(names)


def _column(direction: str, lowering: str) -> str:
    return f"{direction}, {lowering} (ms)"
