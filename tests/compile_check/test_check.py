"""The check of a compiled step: on this machine's devices with made-up limits, for the suite has no TPU compiler."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.augment import affine
from fer_jax.augment.keys import augmentation_keys
from fer_jax.compile_check import check, hlo, topology
from fer_jax.compile_check.check import CompiledStep, check_collectives, compile_step, report
from fer_jax.compile_check.cost import ProgramCost
from fer_jax.compile_check.devices import PEAKS, Peak
from fer_jax.compile_check.input_program import lower_input
from fer_jax.data import resident
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.runtime.sharding import make_mesh, replicated, split_batch
from fer_jax.training.program import DataShape, TrainProgram

LIMITS = Peak("made up", {"float32": 1e12}, bytes_per_second=1e11, memory_bytes=2**30)


@pytest.fixture
def made_up_limits(monkeypatch):
    monkeypatch.setattr(check, "published_peak", lambda device_kind: LIMITS)


def test_step_is_that_of_the_config(make_tiny_config, made_up_limits):
    config = make_tiny_config()
    step = compile_step(config, make_mesh(), batch_per_chip=8)
    assert step.chips == jax.device_count()
    assert step.cost.flops > 0
    # The data set is an argument of the step, on every device.
    assert step.cost.fixed_bytes > 28709 * 48 * 48
    assert (8 * step.chips, 48 * 48) in [gather.shape for gather in step.gathers]
    assert config.train.batch_size == 16
    # The input of the network is written, three float32 channels of 32 x 32 pixels, and made with less than the step.
    assert 8 * 32 * 32 * 3 * 4 < step.input_hbm_bytes < step.hbm_bytes
    assert 0 < step.input_flops < step.cost.flops
    assert f"batch 8 a chip ({8 * step.chips} in all)" in report(step)


def test_gather_of_pixels_fails_before_compiling(make_tiny_config, made_up_limits, monkeypatch):
    def by_pixel(images, keys, augmentation, output_size):
        places = jnp.linspace(0, 47, output_size).astype(jnp.int32)
        rows = places + jax.random.randint(keys[0], (len(images), 1), 0, 2)
        return jax.vmap(lambda image, rows: image[rows[:, None], places])(images, rows).astype(jnp.float32)

    monkeypatch.setattr(affine, "augment", by_pixel)
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda self: pytest.fail("compiled"))
    with pytest.raises(InputError, match=r"1 gather.* beside the fetch of the batch.*write it as arithmetic"):
        compile_step(make_tiny_config(), make_mesh(), batch_per_chip=8)


def test_step_that_does_not_fit_is_told(make_tiny_config, made_up_limits, monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda self: self)
    large = ProgramCost(1e9, 1e9, fixed_bytes=2**29, temporary_bytes=2**29 + 1)
    monkeypatch.setattr(check, "program_cost", lambda compiled: large)
    with pytest.raises(InputError, match=r"does not fit: a batch of 8 a chip.*smaller --batch-per-chip"):
        compile_step(make_tiny_config(), make_mesh(), batch_per_chip=8)


@pytest.mark.parametrize("seeds", [1, 3])
def test_compiler_out_of_memory_is_told(make_tiny_config, made_up_limits, monkeypatch, seeds):
    def refuse(self):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory. Used 17.3G of 15.75G hbm.\nmore")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    with pytest.raises(InputError, match=r"does not fit.*Used 17\.3G of 15\.75G hbm\.\)"):
        compile_step(make_tiny_config(), make_mesh(), batch_per_chip=8, seeds=seeds)


def test_chip_without_limits_is_refused(make_tiny_config):
    with pytest.raises(InputError, match="no published limits"):
        compile_step(make_tiny_config(), make_mesh(), batch_per_chip=8)


def test_input_alone_is_what_the_network_of_the_step_sees(make_tiny_config):
    program = TrainProgram.build(make_tiny_config(), DataShape(32, (48, 48), 7), make_mesh())
    faces = synthetic_faces(32, 7, 7, seed=0).train
    data = resident.to_device(faces, replicated(program.mesh))
    ids = jax.device_put(np.arange(16, 32, dtype=np.int32), split_batch(program.mesh))
    (found,) = lower_input(program).compile()(data, ids, jnp.int32(3))
    keys = augmentation_keys(0, 3, faces.row_ids[16:])
    images = affine.augment(faces.images[16:], keys, affine.Augmentation(), 32)
    # The preprocessing of the tiny backbone, written out.
    expected = np.repeat((np.asarray(images)[..., None] - 127.5) / 63.75, 3, axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_only_sums_may_cross_between_chips():
    sums = [hlo.Collective("all-reduce", 1000, "jit(step)/sum")]
    check_collectives(sums)
    with pytest.raises(InputError, match=r"1 unexpected.*all-gather of 2\.00 MB from jit\(step\)/params"):
        check_collectives([*sums, hlo.Collective("all-gather", 2_000_000, "jit(step)/params")])


def test_report_gives_the_figures_of_one_chip():
    # 2 GFLOP and 200 MB of HBM traffic an image on a v5e: 1.3 ms and 31.3 ms for 128 images.
    step = CompiledStep(
        chips=4,
        device_kind="TPU v5 lite",
        seeds=1,
        batch_per_chip=128,
        dtype="bfloat16",
        peak=PEAKS[r"TPU v5 lite|TPU v5e"],
        cost=ProgramCost(256e9, 51.2e9, fixed_bytes=2**30, temporary_bytes=2 * 2**30),
        input_flops=2.56e9,
        input_hbm_bytes=512_000_000,
        hbm_bytes=25_600_000_000,
        cycles=51_200_000,
        collectives=[hlo.Collective("all-reduce", n, "sum") for n in (20_000_000, 500_000, 1000)],
        gathers=[],
        data_copies=1,
        cycle_shares={"jit(step)/conv": 0.75, "jit(step)/add": 0.25},
        compile_seconds=100.0,
    )
    assert step.roofline.bound_by == "memory"
    assert step.images_per_second_per_chip == pytest.approx(819e9 / 200e6)
    assert step.largest_batch_per_chip == 960
    text = report(step)
    for figure in ("2.000 GFLOP an image", "1.30 ms", "200.0 MB an image", "31.26 ms", "3.00 GiB of 16", "4095 images"):
        assert figure in text
    assert "XLA's count        400.0 MB an image" in text
    assert "51.2 million cycles a step" in text
    assert "0.020 GFLOP and 4.0 MB of HBM traffic an image, at most 1.00 % and 2.00 % of the step" in text
    assert "all training images are copied 1 time(s) at every step" in text
    assert " 75.0 %  jit(step)/conv" in text
    assert "all-reduce: 3, 20.50 MB in all; the largest 20.000, 0.500, 0.001 MB" in text
    several = dataclasses.replace(step, seeds=4, batch_per_chip=32)
    assert several.images_per_second_per_chip == step.images_per_second_per_chip
    assert "batch 32 a chip (128 in all) of each of 4 seeds" in report(several)
    assert "2.000 GFLOP an image" in report(several)


def test_missing_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install libtpu.*environment of its own"):
        topology.topology_mesh("v5e:2x2")


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "chips"), [("v5e:2x2", 4), ("v4:2x2x1", 4)])
def test_topology_has_its_chips(topology, chips):
    pytest.importorskip("libtpu")
    assert topology.topology_mesh(topology).size == chips


@pytest.mark.slow
def test_unknown_topology_names_known_ones():
    pytest.importorskip("libtpu")
    with pytest.raises(InputError, match=r"v9:2x2.*such as v5e:2x2"):
        topology.topology_mesh("v9:2x2")
