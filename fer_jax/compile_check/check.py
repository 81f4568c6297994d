"""The training step of a config, compiled for TPUs that need not be here: what it costs, and what must not be in it."""

import dataclasses
import time

import jax
from ml_collections import ConfigDict

from fer_jax.compile_check import hlo
from fer_jax.compile_check.cost import ProgramCost, Roofline, largest_batch, program_cost, roofline
from fer_jax.compile_check.devices import Peak, published_peak
from fer_jax.compile_check.input_program import lower_input
from fer_jax.compile_check.seeds import lower_seeds_step
from fer_jax.errors import InputError, first_line
from fer_jax.training.program import FER2013_SHAPE, TrainProgram

EXPECTED_COLLECTIVES = ("all-reduce",)
"""Data parallelism sums: gradients, batch statistics and metrics. Nothing else has to cross between chips."""


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A compiled training step, for one chip of the mesh.

    `cost` is the compiler's own, whose bytes count vector memory as well; `hbm_bytes` are those of main memory alone
    (see `hlo.main_memory_bytes`) and `cycles` what the compiler expects the step to take. `input_flops`
    and `input_hbm_bytes` are those of making the network's input in a program of its own, once for each seed: an upper
    bound for the step, which need not write it to memory.
    `collectives` are those of the compiled program, `gathers` those of the program as it was written, where the batch
    is the global one. `data_copies` is how often a step copies all training images, and `cycle_shares` where the
    compiler expects the time to go (see `hlo.cycle_shares`). `compile_seconds` is wall time, of the step.
    `batch_per_chip` are the images of each of `seeds`, which take the step together.
    """

    chips: int
    device_kind: str
    seeds: int
    batch_per_chip: int
    dtype: str
    peak: Peak
    cost: ProgramCost
    hbm_bytes: int
    cycles: int
    input_flops: float
    input_hbm_bytes: int
    collectives: list[hlo.Collective]
    gathers: list[hlo.Gather]
    data_copies: int
    cycle_shares: dict[str, float]
    compile_seconds: float

    @property
    def roofline(self) -> Roofline:
        return roofline(dataclasses.replace(self.cost, num_bytes=self.hbm_bytes), self.peak, self.dtype)

    @property
    def images_per_chip(self) -> int:
        """The images that a chip takes in a step, of all seeds together."""
        return self.seeds * self.batch_per_chip

    @property
    def images_per_second_per_chip(self) -> float:
        """An upper bound: what the compute and the memory of a chip allow, were both used without pause."""
        return self.images_per_chip / self.roofline.seconds

    @property
    def largest_batch_per_chip(self) -> int:
        """An estimate from this compilation alone, on the low side: all temporaries count as growing with the batch."""
        peaks = {0: self.cost.fixed_bytes, self.batch_per_chip: self.cost.peak_bytes}
        return largest_batch(peaks, self.peak.own_memory_bytes)


def compile_step(config: ConfigDict, mesh: jax.sharding.Mesh, batch_per_chip: int, seeds: int = 1) -> CompiledStep:
    """Compile the step of `train.py`, or one of several seeds together, for a mesh of TPU chips: minutes.

    Raises:
      InputError: before compiling, for chips without published limits or a gather other than the fetch of the batch;
        afterwards, where the step does not fit into a chip's memory.
    """
    device_kind = mesh.devices.flat[0].device_kind
    peak = published_peak(device_kind)
    if peak is None:
        raise InputError(f"{device_kind}: no published limits in fer_jax.compile_check.devices.PEAKS; add them there")
    config = config.copy_and_resolve_references()
    config.train.batch_size = batch_per_chip * mesh.size
    program = TrainProgram.build(config, FER2013_SHAPE, mesh)
    lowered = program.lower() if seeds == 1 else lower_seeds_step(program, seeds)
    gathers = hlo.gathers(lowered.as_text(dialect="hlo", debug_info=True))
    check_gathers(gathers, (config.train.batch_size,) if seeds == 1 else (seeds, config.train.batch_size))
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(_does_not_fit(batch_per_chip, peak, first_line(error))) from None
    seconds = time.perf_counter() - start
    cost = program_cost(compiled)
    if cost.peak_bytes > peak.own_memory_bytes:
        raise InputError(_does_not_fit(batch_per_chip, peak, f"it needs {cost.peak_bytes / 2**30:.2f} GiB"))
    text = compiled.as_text() or ""
    input_alone = lower_input(program).compile()
    return CompiledStep(
        chips=mesh.size,
        device_kind=device_kind,
        seeds=seeds,
        batch_per_chip=batch_per_chip,
        dtype=config.model.dtype,
        peak=peak,
        cost=cost,
        hbm_bytes=hlo.main_memory_bytes(text),
        cycles=hlo.estimated_cycles(text),
        input_flops=seeds * program_cost(input_alone).flops,
        input_hbm_bytes=seeds * hlo.main_memory_bytes(input_alone.as_text() or ""),
        collectives=hlo.collectives(text),
        gathers=gathers,
        data_copies=hlo.copies(text, program.resident_shapes()[0].pixels.shape),
        cycle_shares=hlo.cycle_shares(text),
        compile_seconds=seconds,
    )


def check_gathers(gathers: list[hlo.Gather], batch_shape: tuple[int, ...]) -> None:
    """Raise `InputError` for a gather that does more than pick the examples of the batch out of the resident data."""
    others = [gather for gather in gathers if not gather.fetches_batch(batch_shape)]
    if others:
        first = others[0]
        raise InputError(
            f"the training step holds {len(others)} gather(s) beside the fetch of the batch, such as one of "
            f"{list(first.slice_sizes)} slices to {list(first.shape)} from {first.op_name}; a TPU takes their elements "
            "one by one: write it as arithmetic, as fer_jax/augment/affine.py does"
        )


def check_collectives(collectives: list[hlo.Collective]) -> None:
    """Raise `InputError` for a collective that data parallelism has no need of."""
    others = [collective for collective in collectives if collective.opcode not in EXPECTED_COLLECTIVES]
    if others:
        largest = max(others, key=lambda collective: collective.num_bytes)
        raise InputError(
            f"the training step holds {len(others)} unexpected collective(s), the largest a {largest.opcode} of "
            f"{largest.num_bytes / 1e6:.2f} MB from {largest.op_name}; expected {', '.join(EXPECTED_COLLECTIVES)} "
            "alone: look for an array that should be split over the batch, or replicated, and is not"
        )


def _does_not_fit(batch_per_chip: int, peak: Peak, found: str) -> str:
    return (
        f"the training step does not fit: a batch of {batch_per_chip} a chip on {peak.name} with "
        f"{peak.own_memory_bytes / 2**30:.0f} GiB ({found}); give a smaller --batch-per-chip or "
        "--config.model.input_size, or --config.model.dtype=bfloat16"
    )


def report(step: CompiledStep) -> str:
    """Return the figures of a compiled step as lines of text."""
    cost, bounds, images = step.cost, step.roofline, step.images_per_chip
    batch = f"batch {step.batch_per_chip} a chip ({step.batch_per_chip * step.chips} in all)"
    lines = [
        f"{step.chips} x {step.device_kind}, {batch}{f' of each of {step.seeds} seeds' if step.seeds > 1 else ''}, "
        f"{step.dtype}; compiled in {step.compile_seconds:.0f} s",
        f"  compute        {cost.flops / images / 1e9:9.3f} GFLOP an image   {1e3 * bounds.compute_seconds:8.2f} ms a "
        f"step at {step.peak.flops[step.dtype] / 1e12:.0f} TFLOP/s",
        f"  HBM traffic    {step.hbm_bytes / images / 1e6:9.1f} MB an image      {1e3 * bounds.memory_seconds:8.2f} ms "
        f"a step at {step.peak.bytes_per_second / 1e9:.0f} GB/s",
        f"  XLA's count    {cost.num_bytes / images / 1e6:9.1f} MB an image, vector memory and every fetch into it "
        "included",
        f"  its input      {step.input_flops / images / 1e9:9.3f} GFLOP and {step.input_hbm_bytes / images / 1e6:.1f} "
        f"MB of HBM traffic an image, at most {100 * step.input_flops / cost.flops:.2f} % and "
        f"{100 * step.input_hbm_bytes / step.hbm_bytes:.2f} % of the step: fetch, augment, resize, normalise by "
        "themselves",
        f"  peak HBM       {cost.peak_bytes / 2**30:9.2f} GiB of {step.peak.own_memory_bytes / 2**30:.0f}, donated "
        "buffers counted once",
        f"  largest batch  {step.largest_batch_per_chip:9d} a chip, about: were all temporaries to grow with the batch",
        f"  bound by {bounds.bound_by}: at most {step.images_per_second_per_chip:.0f} images a second a chip",
    ]
    for opcode, group in hlo.by_opcode(step.collectives).items():
        sizes = sorted((collective.num_bytes for collective in group), reverse=True)
        lines.append(
            f"  {opcode}: {len(group)}, {sum(sizes) / 1e6:.2f} MB in all; the largest "
            + ", ".join(f"{size / 1e6:.3f}" for size in sizes[:4])
            + " MB"
        )
    if not step.collectives:
        lines.append("  no collectives")
    fetches = ", ".join(f"{list(gather.shape)}" for gather in step.gathers)
    lines.append(f"  gathers: the fetch of the batch alone ({fetches})")
    if step.data_copies:
        lines.append(f"  all training images are copied {step.data_copies} time(s) at every step, into another layout")
    if step.cycle_shares:
        lines.append(f"  where the compiler expects the time to go, {step.cycles / 1e6:.1f} million cycles a step:")
        largest = list(step.cycle_shares.items())[:8]
        lines += [f"    {100 * share:5.1f} %  {place}" for place, share in largest]
    return "\n".join(lines)
