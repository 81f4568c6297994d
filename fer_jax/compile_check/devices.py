"""How fast a device can be at best: published peaks of accelerators, and a measurement where none is published."""

import dataclasses
import re
import time

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Peak:
    """The limits of one device.

    Attributes:
      name: the device, or how its limits were found.
      flops: floating-point operations a second by dtype of the operands, as JAX multiplies them by default.
      bytes_per_second: of the device's main memory.
      memory_bytes: size of that memory; None where it is the host's.
    """

    name: str
    flops: dict[str, float]
    bytes_per_second: float
    memory_bytes: int | None = None

    @property
    def own_memory_bytes(self) -> int:
        """`memory_bytes` of a device that has a memory of its own."""
        assert self.memory_bytes is not None, f"{self.name} shares the memory of its host"
        return self.memory_bytes


def _tpu(name: str, teraflops: float, gigabytes_per_second: float, gibibytes: float) -> Peak:
    # By default a TPU rounds the operands of a float32 product to bfloat16: one peak for both.
    flops = dict.fromkeys(("bfloat16", "float32"), teraflops * 1e12)
    return Peak(name, flops, gigabytes_per_second * 1e9, int(gibibytes * 2**30))


def _gpu(name: str, bfloat16: float, float32: float, gigabytes_per_second: float, gigabytes: float) -> Peak:
    flops = {"bfloat16": bfloat16 * 1e12, "float32": float32 * 1e12}
    return Peak(name, flops, gigabytes_per_second * 1e9, int(gigabytes * 1e9))


PEAKS = {
    r"TPU v4": _tpu("TPU v4", 275, 1200, 32),
    r"TPU v5 lite|TPU v5e": _tpu("TPU v5e", 197, 819, 16),
    r"TPU v5p?": _tpu("TPU v5p", 459, 2765, 95),
    r"TPU v6 lite|TPU v6e": _tpu("TPU v6e", 918, 1638, 32),
    r"NVIDIA A100.*80GB.*": _gpu("A100 80 GB", 312, 156, 2039, 80),
    r"NVIDIA A100.*": _gpu("A100 40 GB", 312, 156, 1555, 40),
    r"NVIDIA H100 PCIe": _gpu("H100 PCIe", 756, 378, 2000, 80),
    r"NVIDIA H100.*": _gpu("H100 SXM", 989, 494, 3350, 80),
    r"NVIDIA H200.*": _gpu("H200 SXM", 989, 494, 4800, 141),
    r"NVIDIA GeForce RTX 4090": _gpu("RTX 4090", 165.2, 82.6, 1008, 24),
}
"""Peaks of one device by its `device_kind` in JAX (a regular expression; the first that matches counts).

TPU: cloud.google.com/tpu/docs, the pages "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e", a chip (bfloat16).
A100, H100, H200: NVIDIA's data sheets, dense (half of the figure "with sparsity"); float32 is that of TF32, which XLA
uses for float32 products. RTX 4090: "NVIDIA Ada GPU Architecture" white paper, appendix A, with FP32 accumulation.
"""


def published_peak(device_kind: str) -> Peak | None:
    """Return the entry of `PEAKS` for a device's `device_kind`, or None."""
    return next((peak for pattern, peak in PEAKS.items() if re.fullmatch(pattern, device_kind)), None)


def measured_peak(dtype: str, *, size: int = 2048, copy_bytes: int = 2**28, repeats: int = 7) -> Peak:
    """Measure the limits of the first device by a large square matrix product and a large copy, the best of each.

    Args:
      dtype: of the matrices.
      size: rows and columns of the matrices.
      copy_bytes: size of the array that is copied; every byte is read and written, and both count.
      repeats: how often each is run; the best run counts, for a limit is what nothing disturbed.
    """
    matrix = jnp.ones((size, size), dtype)
    array = jnp.ones(copy_bytes // 4, jnp.float32)
    # An addition, since XLA may hand on the buffer of a plain copy.
    flops = 2 * size**3 / _best_seconds(jax.jit(jnp.matmul), (matrix, matrix), repeats)
    rate = 2 * array.nbytes / _best_seconds(jax.jit(lambda x: x + 1), (array,), repeats)
    return Peak("measured: matrix product and copy", {dtype: flops}, rate)


def device_peak(dtype: str) -> Peak:
    """Return the published limits of the first device, or measured ones where there are none, as for a CPU."""
    return published_peak(jax.devices()[0].device_kind) or measured_peak(dtype)


def _best_seconds(function, arguments: tuple, repeats: int) -> float:
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)
