"""The streamed input: the batches of the resident one, from any step on, whatever reads them."""

import dataclasses
import os
import socket
import subprocess
import sys

import grain
import jax
import numpy as np
import pytest
from PIL import Image

from fer_jax.data import streaming
from fer_jax.data.dataset import Dataset
from fer_jax.data.folder_reader import read_folder
from fer_jax.data.inputs import make_input
from fer_jax.data.options import FolderOptions
from fer_jax.data.resident import epoch_order
from fer_jax.errors import InputError
from fer_jax.runtime import sharding as meshes

N, BATCH = 21, 4
STEPS_PER_EPOCH = N // BATCH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """21 training and 4 validation images in colour, of different sizes, of two classes."""
    root = tmp_path_factory.mktemp("streamed")
    rng = np.random.default_rng(0)
    for split, n in (("train", N), ("validation", 4)):
        for place in range(n):
            file = root / split / ("cat" if place % 3 else "dog") / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16 + place, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
    return root


def read(folder, kind: str) -> Dataset:
    return read_folder(folder, options=FolderOptions(image_size=16, input=kind))


def source(data: Dataset, steps: int = 3 * STEPS_PER_EPOCH, rows=None) -> streaming.BatchSource:
    rows = np.arange(BATCH) if rows is None else rows
    return streaming.training_source(data.train, seed=5, batch_size=BATCH, steps=steps, rows=rows)


def inputs(make_tiny_config, data: Dataset, kind: str):
    config = make_tiny_config()
    shares = np.random.default_rng(1).dirichlet((1, 1), N).astype(np.float32)
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, targets=shares))
    config.data.input = kind
    config.train.batch_size = BATCH
    mesh = meshes.make_mesh()
    shardings = {"replicated": meshes.replicated(mesh), "batch_sharding": meshes.split_batch(mesh)}
    return make_input(config, data, total_steps=3 * STEPS_PER_EPOCH, **shardings)


@pytest.mark.parametrize("first_step", [0, 3, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 1])
def test_both_inputs_give_the_same_batches_from_any_step_on(folder, make_tiny_config, first_step):
    resident_input, says = inputs(make_tiny_config, read(folder, "resident"), "resident")
    assert says.startswith("input: resident (as config.data.input says); images of 16 x 16 RGB pixels")
    streamed_input, says = inputs(make_tiny_config, read(folder, "streaming"), "streaming")
    assert says.startswith("input: streaming (as config.data.input says)")
    with resident_input.steps(first_step) as resident_steps, streamed_input.steps(first_step) as streamed_steps:
        streamed = list(streamed_steps)
        assert len(streamed) == 3 * STEPS_PER_EPOCH - first_step
        for step, (batch,) in enumerate(streamed, first_step):
            train, order = next(resident_steps)
            expected = train.take(order[step % STEPS_PER_EPOCH])
            for name in ("row_ids", "labels", "images", "targets"):
                found = getattr(batch, name)
                assert found.dtype == getattr(expected, name).dtype
                np.testing.assert_array_equal(found, getattr(expected, name), err_msg=f"{name} of step {step}")
            (shapes,) = streamed_input.step_arguments()
            assert shapes.images.shape == batch.images.shape
            assert shapes.targets.shape == batch.targets.shape
            assert shapes.images.sharding == batch.images.sharding


def test_order_is_that_of_the_resident_epochs():
    order = streaming.TrainingOrder(seed=5, num_examples=N, batch_size=BATCH)
    for step in (0, 4, 5, 14):
        expected = epoch_order(5, 1 + step // STEPS_PER_EPOCH, N, BATCH)[step % STEPS_PER_EPOCH]
        np.testing.assert_array_equal(order(step), expected)


def test_grain_goes_on_from_its_own_state(folder):
    batches = streaming.dataset(source(read(folder, "streaming")), first_step=4, workers=0)
    grain.experimental.assert_equal_output_after_checkpoint(batches)


def test_grains_assertion_notices_batches_that_depend_on_when_they_are_read(folder):
    rng = np.random.default_rng(0)
    changing = streaming.BatchSource(
        read(folder, "streaming").train, lambda step: rng.integers(0, N, 4), 5, np.arange(4)
    )
    with pytest.raises(AssertionError):
        grain.experimental.assert_equal_output_after_checkpoint(streaming.dataset(changing, first_step=0, workers=0))


def test_each_process_reads_its_own_rows(folder):
    data = read(folder, "streaming")
    whole = source(data)[6]
    for rows in ([0, 1], [2, 3], [0, 3]):
        for part, array in zip(source(data, rows=np.array(rows))[6], whole, strict=True):
            np.testing.assert_array_equal(part, array[rows])


def test_rows_of_a_sharded_batch_reach_their_devices():
    sharding = meshes.split_batch(meshes.make_mesh())
    rows = streaming.local_rows(sharding, 8)
    assert rows.tolist() == list(range(8))
    local = np.arange(24).reshape(8, 3)
    np.testing.assert_array_equal(streaming.to_devices(local, rows, sharding, 8), local)


def test_worker_processes_give_the_same_batches(folder):
    data = read(folder, "streaming")
    stream = streaming.BatchStream(
        source(data), first_step=2, workers=2, sharding=meshes.split_batch(meshes.make_mesh())
    )
    try:
        found = [jax.device_get((batch.images, batch.labels, batch.row_ids)) for batch in stream]
    finally:
        stream.close()
    assert len(found) == 3 * STEPS_PER_EPOCH - 2
    for step, arrays in enumerate(found, 2):
        for array, expected in zip(arrays, source(data)[step], strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_damaged_meanwhile_is_named(folder, tmp_path, workers):
    data = read(folder, "streaming")
    damaged = folder / "train" / "cat" / "7.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-100])
    stream = streaming.BatchStream(
        source(data), first_step=0, workers=workers, sharding=meshes.split_batch(meshes.make_mesh())
    )
    try:
        with pytest.raises(InputError, match=r"^\S+cat/7\.png: not a readable image[^\n]*$"):
            list(stream)
    finally:
        stream.close()
        damaged.write_bytes(content)


def test_all_images_in_their_order(folder):
    data = read(folder, "resident")
    sharding = meshes.split_batch(meshes.make_mesh())
    for images in (data.train.images, read(folder, "streaming").train.images):
        batches = list(streaming.in_order(images, 8, sharding))
        assert [batch.shape for batch in batches] == [(8, 16, 16, 3)] * 3
        found = np.concatenate(batches)
        np.testing.assert_array_equal(found[:N], data.train.images)
        assert not found[N:].any()


def test_a_finished_run_has_no_steps(folder, make_tiny_config):
    streamed_input, _ = inputs(make_tiny_config, read(folder, "streaming"), "streaming")
    with streamed_input.steps(3 * STEPS_PER_EPOCH) as steps:
        assert list(steps) == []


_TWO_PROCESSES = """
import sys
import jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
from fer_jax.data import streaming
from fer_jax.data.fer2013 import Split
from fer_jax.runtime import sharding as meshes
images = np.arange(40, dtype=np.uint8)[:, None, None] + np.zeros((40, 2, 2), np.uint8)
split = Split(images, np.arange(40, dtype=np.int32), np.arange(40, dtype=np.int32))
mesh = meshes.make_mesh()
sharding = meshes.split_batch(mesh)
rows = streaming.local_rows(sharding, 8)
assert len(rows) == 4, rows
source = streaming.training_source(split, seed=0, batch_size=8, steps=3, rows=rows)
stream = streaming.BatchStream(source, first_step=0, workers=0, sharding=sharding)
together = jax.jit(lambda x: x, out_shardings=meshes.replicated(mesh))
for step, batch in enumerate(stream):
    expected = source.order(step)
    assert batch.images.shape == (8, 2, 2)
    assert (np.asarray(together(batch.row_ids)) == expected).all()
    assert (np.asarray(together(batch.images))[:, 0, 0] == expected).all()
found = np.concatenate([np.asarray(together(b)) for b in streaming.in_order(images, 16, sharding)])
assert (found[:40] == images).all()
"""


@pytest.mark.slow
def test_two_processes_make_one_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
    }
    processes = [
        subprocess.Popen([sys.executable, "-c", _TWO_PROCESSES, str(port), str(i)], env=environment) for i in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
