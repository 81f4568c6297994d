"""Estimates of scaling against numbers worked out by hand, and the tables of the document against the command."""

import json
import math

import pytest

from fer_jax.compile_check import hlo
from fer_jax.compile_check.check import CompiledStep
from fer_jax.compile_check.cost import ProgramCost
from fer_jax.compile_check.counts import CompiledNetwork, read_counts, write_counts
from fer_jax.compile_check.devices import Peak
from fer_jax.compile_check.scaling import (
    CYCLES_PER_SECOND,
    SLICES,
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


@pytest.fixture
def published(repository):
    """The counts that docs/scaling.md is made from."""
    return read_counts([repository / "docs" / "results" / "compile_check_v5e.json"])


def test_document_has_the_tables_of_the_command(repository, published):
    document = (repository / "docs" / "scaling.md").read_text()
    for title, table in sections(published["mobilenet_v2"]).items():
        assert table in document, f"{title}: python scripts/scaling.py prints another table"


def test_figures_are_those_of_the_page_about_speed(repository, published):
    lines = (repository / "docs" / "performance.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| the compiler's estimate, million cycles a step"))
    estimates = [1e-6 * published[name].cycles[128] for name in ("mobilenet_v2", "efficientnet_b0")]
    assert [float(cell) for cell in row.split("|")[2:4]] == pytest.approx(estimates, abs=0.05)


def _write(path, config, batch, cycles, sums, topology="v5e:2x2"):
    """The file of a step whose other figures are made up."""
    peak = Peak("made up", {"float32": 1e12}, bytes_per_second=1e11, memory_bytes=2**30)
    collectives = [*(hlo.Collective("all-reduce", n, "sum") for n in sums), hlo.Collective("all-gather", 999, "other")]
    step = CompiledStep(
        chips=4,
        device_kind="TPU v5 lite",
        seeds=1,
        batch_per_chip=batch,
        dtype="float32",
        peak=peak,
        cost=ProgramCost(1.0, 1.0, fixed_bytes=1, temporary_bytes=1),
        hbm_bytes=1,
        cycles=cycles,
        input_flops=1.0,
        input_hbm_bytes=1,
        collectives=collectives,
        gathers=[],
        data_copies=0,
        cycle_shares={},
        compile_seconds=1.0,
    )
    write_counts(path, step, config, topology, "the command")
    return path


def test_files_of_several_batches_are_one_network(make_tiny_config, tmp_path):
    config = make_tiny_config()
    few = _write(tmp_path / "8.json", config, 8, 700, (4000, 50))
    many = _write(tmp_path / "128.json", config, 128, 5000, (4000, 50, 6))
    expected = CompiledNetwork(cycles={8: 700, 128: 5000}, all_reduces=3, all_reduce_bytes=4056)
    assert read_counts([few, many]) == read_counts([many, few]) == {"tiny": expected}
    assert json.loads(few.read_text())["tiny"]["command"] == "the command"


def test_files_that_do_not_fit_are_refused(make_tiny_config, tmp_path):
    config = make_tiny_config()
    first = _write(tmp_path / "first.json", config, 8, 700, (4000,))
    config.model.input_size += 16
    second = _write(tmp_path / "second.json", config, 128, 5000, (4000,))
    with pytest.raises(InputError, match=r"second\.json: tiny: input_size is 48, expected 32"):
        read_counts([first, second])
    with pytest.raises(InputError, match=r"topology is 'v4:2x2x1', expected v5e"):
        read_counts([_write(tmp_path / "v4.json", config, 8, 700, (4000,), topology="v4:2x2x1")])
    for text, message in (
        ("{", "cannot be read as JSON"),
        ("[]", "expected topology"),
        ('{"tiny": {}}', r"expected .*KeyError"),
        (first.read_text().replace('"8": 700', ""), "cycles is empty"),
    ):
        (tmp_path / "damaged.json").write_text(text)
        with pytest.raises(InputError, match=rf"damaged\.json: .*{message}.*compile_check\.py --out"):
            read_counts([tmp_path / "damaged.json"])
    (tmp_path / "seeds.json").write_text(first.read_text().replace('"seeds": 1', '"seeds": 4'))
    with pytest.raises(InputError, match=r"seeds\.json: tiny: seeds is 4, expected the step of 1.*without --seeds"):
        read_counts([tmp_path / "seeds.json"])
    with pytest.raises(InputError, match=r"absent\.json: cannot be read"):
        read_counts([tmp_path / "absent.json"])
