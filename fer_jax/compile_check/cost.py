"""What one run of a compiled program costs on each device, by the compiler's own count, and the time that it bounds."""

import dataclasses
from collections.abc import Mapping

import jax

from fer_jax.compile_check.devices import Peak


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """The cost of one run on one device.

    Attributes:
      flops: floating-point operations, a multiplication and an addition counting as two.
      num_bytes: read from and written to main memory by all instructions. On a CPU or GPU XLA counts operands as if
        no cache held them.
      fixed_bytes: of memory in use whatever the batch: arguments, results and the program, donated buffers once. (The
        arguments of the training step are the state and the whole data set.)
      temporary_bytes: of memory in use for what the program keeps between its instructions.
    """

    flops: float
    num_bytes: float
    fixed_bytes: int
    temporary_bytes: int

    @property
    def peak_bytes(self) -> int:
        """The most memory in use."""
        return self.fixed_bytes + self.temporary_bytes


def program_cost(compiled: jax.stages.Compiled) -> ProgramCost:
    """Return the cost that the compiler counts for `compiled`."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    assert cost is not None, "every compiler of this project counts the cost of a program"
    assert memory is not None
    fixed_bytes = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.generated_code_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return ProgramCost(cost["flops"], cost["bytes accessed"], fixed_bytes, memory.temp_size_in_bytes)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The least seconds that a program's operations and its bytes take on a device, each by themselves."""

    compute_seconds: float
    memory_seconds: float

    @property
    def seconds(self) -> float:
        """The least time of the program: that of its scarcer resource."""
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def bound_by(self) -> str:
        """The scarcer resource, `compute` or `memory`."""
        return "compute" if self.compute_seconds >= self.memory_seconds else "memory"


def roofline(cost: ProgramCost, peak: Peak, dtype: str) -> Roofline:
    """Return the bounds of `cost` on a device of limits `peak`, with products in `dtype` (Williams et al. 2009)."""
    return Roofline(cost.flops / peak.flops[dtype], cost.num_bytes / peak.bytes_per_second)


def largest_batch(peak_bytes: Mapping[int, int], memory_bytes: int, multiple: int = 32) -> int:
    """Return an estimate of the largest batch that fits into `memory_bytes`, from the peaks at two batch sizes.

    Memory is taken to be a straight line over the batch through the two points; the result is rounded down to a
    multiple of `multiple`, and 0 where not even that fits. As the point at batch 0 one can take the fixed bytes: then
    temporaries that do not grow with the batch count as if they did, and the estimate is on the low side.
    """
    (low, low_bytes), (high, high_bytes) = sorted(peak_bytes.items())
    slope = (high_bytes - low_bytes) / (high - low)
    return max(0, int(low + (memory_bytes - low_bytes) / slope) // multiple * multiple)
