"""Estimates of scaling against numbers worked out by hand, and the tables of the document against the command."""

import math

import pytest

from fer_jax.compile_check.scaling import (
    CYCLES_PER_SECOND,
    NETWORKS,
    SLICES,
    CompiledNetwork,
    all_reduce_seconds,
    chip_seconds,
    run_estimate,
    sections,
)
from fer_jax.errors import InputError

# A millisecond a step with one image, ten with 11; ten sums of 50 MB together.
EXAMPLE = CompiledNetwork(
    cycles={1: 1e-3 * CYCLES_PER_SECOND, 11: 1e-2 * CYCLES_PER_SECOND}, all_reduces=10, all_reduce_bytes=50e6
)


@pytest.mark.parametrize(("batch", "milliseconds"), [(1, 1), (6, 5.5), (11, 10), (22, 20)])
def test_step_lies_between_the_compiled_batches(batch, milliseconds):
    assert chip_seconds(EXAMPLE, batch) == pytest.approx(1e-3 * milliseconds)


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
    run = run_estimate(EXAMPLE, 4, 44)
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
        run_estimate(EXAMPLE, chips, batch)


def test_document_has_the_tables_of_the_command(repository):
    document = (repository / "docs" / "scaling.md").read_text()
    for title, table in sections(NETWORKS["mobilenet_v2"]).items():
        assert table in document, f"{title}: python scripts/scaling.py prints another table"


def test_figures_are_those_of_the_page_about_speed(repository):
    lines = (repository / "docs" / "performance.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| the compiler's estimate, million cycles a step"))
    estimates = [1e-6 * NETWORKS[name].cycles[128] for name in ("mobilenet_v2", "efficientnet_b0")]
    assert [float(cell) for cell in row.split("|")[2:4]] == pytest.approx(estimates, abs=0.05)
