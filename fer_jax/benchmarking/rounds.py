"""Measure several programs in turn, round by round, so that other load slows all of them equally."""

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Round:
    """The cost of some steps: images seen, wall seconds, and the CPU seconds of all threads of the process."""

    images: int
    seconds: float
    cpu_seconds: float


Runner = Callable[[int], Round]
"""Runs the given number of steps and returns their cost."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """Images per second over the counted rounds, and CPU time an image (milliseconds, median).

    On a CPU that others use as well, the CPU time is the steadier of the two; on an accelerator it says what is left
    to the host.
    """

    median: float
    low: float
    high: float
    cpu_milliseconds: float
    rounds: int
    steps: int


def timed(step: Callable[[], object], images_per_step: int) -> Runner:
    """Return the runner that calls `step`, which returns when its work is done."""

    def run(steps: int) -> Round:
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        for _ in range(steps):
            step()
        return Round(steps * images_per_step, time.perf_counter() - start, _cpu_seconds() - cpu_start)

    return run


def interleave(runners: Mapping[str, Runner], *, rounds: int, steps: int) -> dict[str, Speed]:
    """Run every runner in turn, for `rounds` rounds of `steps` steps after one warm-up round."""
    found: dict[str, list[Round]] = {name: [] for name in runners}
    for round_ in range(rounds + 1):
        for name, run in runners.items():
            result = run(steps)
            if round_:
                found[name].append(result)
    return {name: _speed(results, steps) for name, results in found.items()}


def _speed(results: list[Round], steps: int) -> Speed:
    speeds = [result.images / result.seconds for result in results]
    cpu = [1e3 * result.cpu_seconds / result.images for result in results]
    return Speed(
        statistics.median(speeds), min(speeds), max(speeds), statistics.median(cpu), rounds=len(results), steps=steps
    )


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
