"""Bounds of scaling against numbers worked out by hand, and the tables of the document against the command."""

import math

import pytest

from fer_jax.benchmarking.scaling import (
    NETWORKS,
    SLICES,
    CompiledNetwork,
    all_reduce_seconds,
    chip_seconds,
    run_bound,
    sections,
)
from fer_jax.errors import InputError

# 819 MB a step with one image, 8.19 GB with 11; ten sums of 50 MB together.
EXAMPLE = CompiledNetwork(
    flops={1: 1e9, 11: 11e9}, num_bytes={1: 819e6, 11: 8190e6}, all_reduces=10, all_reduce_bytes=50e6
)


@pytest.mark.parametrize(("batch", "milliseconds"), [(1, 1), (6, 5.5), (11, 10), (22, 20)])
def test_step_lies_between_the_compiled_batches(batch, milliseconds):
    assert chip_seconds(EXAMPLE, batch) == pytest.approx(1e-3 * milliseconds)


def test_step_that_computes_more_than_it_moves_is_bound_by_that():
    network = CompiledNetwork({1: 197e9}, {1: 1.0}, 0, 0.0)
    assert chip_seconds(network, 1) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("chips", "milliseconds"),
    [
        (1, 0),
        # Two links of 50 GB/s, and two hops: 2 * 3/4 * 50 MB / 100 GB/s + 10 * 2 us.
        (4, 0.75 + 0.02),
        # Corners have two links, and the farthest chip is 6 hops away.
        (16, 2 * 15 / 16 * 0.5 + 0.06),
        # The whole pod is closed to rings: four links, and at most 8 + 8 hops.
        (256, 2 * 255 / 256 * 0.25 + 0.16),
    ],
)
def test_sums_take_their_bytes_and_their_way(chips, milliseconds):
    assert all_reduce_seconds(EXAMPLE, chips) == pytest.approx(1e-3 * milliseconds)


def test_run_adds_its_parts():
    run = run_bound(EXAMPLE, 4, 44)
    assert run.steps == 652
    assert run.step_seconds == pytest.approx(10.77e-3)
    # 15 batches of 256 images, 64 a chip, a third of a step of 64/11 * 10 ms.
    assert run.evaluation_seconds == pytest.approx(15 * 64 / 11 * 10e-3 / 3)
    assert run.run_seconds == pytest.approx(100 * (28709 / 44 * 10.77e-3 + run.evaluation_seconds))
    assert run.chip_hours == pytest.approx(4 * run.run_seconds / 3600)


def test_slices_have_their_chips():
    assert all(math.prod(sides) == chips for chips, sides in SLICES.items())


@pytest.mark.parametrize(
    ("chips", "batch", "message"),
    [(3, 32, "no v5e slice"), (8, 36, "multiple of 8"), (8, 4, "multiple of 8"), (256, 32768, "28709 images")],
)
def test_impossible_runs_are_refused(chips, batch, message):
    with pytest.raises(InputError, match=message):
        run_bound(EXAMPLE, chips, batch)


def test_document_has_the_tables_of_the_command(repository):
    document = (repository / "docs" / "scaling.md").read_text()
    for title, table in sections(NETWORKS["mobilenet_v2"]).items():
        assert table in document, f"{title}: python scripts/scaling.py prints another table"


def test_figures_are_those_of_the_page_about_speed(repository):
    lines = (repository / "docs" / "performance.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| so at most, images a second a chip"))
    bounds = [128 / chip_seconds(NETWORKS[name], 128) for name in ("mobilenet_v2", "efficientnet_b0")]
    stated = [float(cell.replace(",", "")) for cell in row.split("|")[2:4]]
    assert bounds == pytest.approx(stated, rel=0.001)
