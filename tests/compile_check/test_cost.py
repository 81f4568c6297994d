"""Costs and bounds against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import pytest

from fer_jax.compile_check.cost import ProgramCost, largest_batch, program_cost, roofline
from fer_jax.compile_check.devices import Peak, measured_peak, published_peak

PEAK = Peak("example", {"bfloat16": 100e12}, bytes_per_second=500e9, memory_bytes=16 * 2**30)


def test_cost_of_a_matrix_product():
    x = jnp.ones((128, 64)), jnp.ones((64, 32))
    cost = program_cost(jax.jit(jnp.matmul).lower(*x).compile())
    assert cost.flops == pytest.approx(2 * 128 * 64 * 32, rel=0.01)
    floats = 128 * 64 + 64 * 32 + 128 * 32
    assert cost.num_bytes == pytest.approx(4 * floats, rel=0.01)
    assert cost.peak_bytes >= 4 * floats


def test_donated_buffers_count_once():
    x = jnp.ones(10_000)
    kept = program_cost(jax.jit(lambda x: x + 1).lower(x).compile())
    donated = program_cost(jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile())
    assert kept.peak_bytes - donated.peak_bytes == 40_000


@pytest.mark.parametrize(
    ("flops", "num_bytes", "seconds", "bound_by"), [(1e12, 1e9, 0.01, "compute"), (1e11, 1e10, 0.02, "memory")]
)
def test_roofline_is_the_scarcer_resource(flops, num_bytes, seconds, bound_by):
    bounds = roofline(ProgramCost(flops, num_bytes, 0, 0), PEAK, "bfloat16")
    assert bounds.seconds == pytest.approx(seconds)
    assert bounds.bound_by == bound_by


def test_largest_batch_lies_on_the_line_through_two_peaks():
    # 100 bytes, and 10 for each image: 190 images fit into 2,000.
    assert largest_batch({128: 1380, 64: 740}, 2000) == 160
    assert largest_batch({0: 100, 64: 740}, 2000, multiple=1) == 190
    assert largest_batch({0: 100, 64: 740}, 350) == 0


@pytest.mark.parametrize(
    ("device_kind", "name"),
    [
        ("TPU v4", "TPU v4"),
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("TPU v6 lite", "TPU v6e"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ],
)
def test_published_peaks_are_found_by_device_kind(device_kind, name):
    assert published_peak(device_kind).name == name


def test_unknown_device_is_measured():
    assert published_peak("cpu") is None
    peak = measured_peak("float32", size=256, copy_bytes=2**20, repeats=2)
    # Between what a microcontroller and a data centre can do: the units are right.
    assert 1e8 < peak.flops["float32"] < 1e16
    assert 1e7 < peak.bytes_per_second < 1e14
