"""What commands read from a bucket and write into one, beside the folder of a run."""

import json
import os
import sys

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from fer_jax.commands import compare_runs, convert_weights, evaluate
from fer_jax.config.loading import load_config
from fer_jax.data.csv_cache import default_cache_dir
from fer_jax.data.dataset import SPLITS
from fer_jax.data.fer2013 import USAGE_OF_SPLIT
from fer_jax.data.sources import load
from fer_jax.errors import InputError
from fer_jax.pretrained import convert
from fer_jax.pretrained.initial import initial_backbones
from fer_jax.pretrained.weights import Weights
from fer_jax.runs.checkpoint import find_model
from fer_jax.runtime.user_path import input_path
from fer_jax.storage import copies
from fer_jax.storage.bucket import upload_folder
from fer_jax.storage.copies import local_copy
from fer_jax.testing import TINY
from fer_jax.warm_start import starting_backbones


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def csv(server, faces):
    """The data of `bucket_run` as a csv in the bucket."""
    lines = ["emotion,pixels,Usage"]
    for name in SPLITS:
        split = faces.split(name)
        for image, label in zip(split.images, split.labels, strict=True):
            lines.append(f"{label},{' '.join(map(str, image.ravel()))},{USAGE_OF_SPLIT[name]}")
    place = server.folder() / "faces.csv"
    place.write_text("\n".join(lines) + "\n")
    return place


def test_csv_is_copied_once_for_each_generation(server, csv, faces):
    for _ in range(2):
        assert load(str(csv)).fingerprint() == faces.fingerprint()
    server.forget()
    load(csv)
    assert not any("alt=media" in line for line in server.requests())
    csv.write_text("emotion,pixels,Usage\n")
    with pytest.raises(InputError, match=r"faces\.csv"):
        load(csv)
    assert len(list((default_cache_dir() / "buckets").iterdir())) == 2


def test_copy_that_is_not_complete_is_none(server, csv, monkeypatch):
    monkeypatch.setenv("FER_JAX_BUCKET_PATIENCE", "1")
    server.fault("error", "alt=media")
    with pytest.raises(InputError, match=rf"^{csv}: no answer from the storage"):
        load(csv)
    assert list((default_cache_dir() / "buckets").iterdir()) == []
    with pytest.raises(InputError, match=r"^gs://fer-runs/nothing: no such object or folder$"):
        load("gs://fer-runs/nothing")


def test_folder_of_images(server, tmp_path):
    rng = np.random.default_rng(0)
    for split in SPLITS:
        for name in ("happy", "sad"):
            folder = tmp_path / "faces" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 255, (48, 48), np.uint8)).save(folder / "1.png")
    place = server.folder() / "faces"
    upload_folder(tmp_path / "faces", place)
    found, expected = load(str(place)), load(tmp_path / "faces")
    assert (found.source, found.fingerprint()) == (expected.source, expected.fingerprint())


def test_weights_to_start_from(server, bucket_run, make_tiny_config, repository):
    run, _ = bucket_run
    config = make_tiny_config()
    config.init = "checkpoints"
    config.backbone_checkpoints = {"tiny": str(run)}
    (backbone,) = starting_backbones(config, find_model(run).record.description.data.fingerprint)
    assert f"checkpoint {run}/checkpoints/best/" in backbone.origin
    weights = server.folder() / "tiny.safetensors"
    weights.write_bytes(b"mine")
    assert input_path(str(weights), "it").read_bytes() == b"mine"
    with pytest.raises(InputError, match=r"tiny\.safetensors"):  # it is none
        initial_backbones(str(weights), ["tiny"])
    quickstart = f"--config={repository / 'configs' / 'quickstart.py'}"
    assert load_config([quickstart, f"--config.init={weights}"]).init == str(weights)
    for key in ("init", "backbone_checkpoints.mobilenet_v2"):
        with pytest.raises(InputError, match=rf"^config\.{key}=gs://x names no bucket"):
            load_config([quickstart, f"--config.{key}=gs://x"])


def test_evaluation_and_curves(server, bucket_run, csv, monkeypatch, capsys):
    run, _ = bucket_run
    out = server.folder() / "report"
    arguments = [f"--checkpoint={run}", f"--data={csv}", "--split=validation", f"--out={out}", "--no-faces"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()
    assert f"report: {out}/report.md" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_bytes())
    assert report["metrics"]["accuracy"] == pytest.approx(find_model(run).record.best.validation_accuracy)
    found = {path.name for path in out.iterdir()}
    assert {"report.html", "report.md", "predictions.csv", "confusion_matrix.png"} <= found
    (run / "temperature.json").unlink()
    monkeypatch.setattr(sys, "argv", ["compare_runs", str(run), f"--out={out / 'curves.png'}"])
    compare_runs.main()
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "| epoch 3 |" in (out / "curves.md").read_text()


def test_copies_beyond_a_size_are_removed_the_longest_unused_first(server, tmp_path, monkeypatch):
    """Not those that a process has asked for, and what was torn off only when it is old."""
    monkeypatch.setenv("FER_JAX_BUCKET_COPIES", "0.000003")  # 3,000 bytes
    folder, cache = server.folder(), default_cache_dir() / "buckets"
    places = [folder / f"{number}.csv" for number in range(5)]
    for place in places:
        place.write_bytes(b"x" * 1000)
    first = [local_copy(place) for place in places[:4]]
    assert all(copy.exists() for copy in first)  # this process may still read them
    copies._held.clear()  # as other processes, which have ended
    for age, copy in enumerate(first):
        os.utime(copy.parent, (age, age))
    (cache / ".copying_old").mkdir()
    (cache / ".copying_new").mkdir()
    os.utime(cache / ".copying_old", (0, 0))
    assert local_copy(places[0]) == first[0]  # used again
    newest = local_copy(places[4])
    assert [copy.exists() for copy in (*first, newest)] == [True, False, False, True, True]
    assert sorted(path.name for path in cache.iterdir() if path.name.startswith(".")) == [".copying_new"]
    assert local_copy(places[1]).read_bytes() == b"x" * 1000  # copied again
    monkeypatch.setenv("FER_JAX_BUCKET_COPIES", "much")
    with pytest.raises(InputError, match=r"^FER_JAX_BUCKET_COPIES=much: expected a number of gigabytes"):
        local_copy(places[1])


def test_conversion_from_a_bucket_into_one(server, monkeypatch, capsys):
    given, out = server.folder() / "mine.h5", server.folder() / "tiny.safetensors"
    given.write_bytes(b"mine")
    arrays = {("stem", "norm", "scale"): np.ones(3, np.float32)}

    def convert_file(file, arch, flavour):
        assert (file.name, file.read_bytes()) == ("mine.h5", b"mine")
        return Weights(TINY, arrays, {}, "", "mine", "", "")

    monkeypatch.setattr(convert, "convert_file", convert_file)
    arguments = [f"--file={given}", "--arch=mobilenet_v2"]
    convert_weights.main([*arguments, f"--out={out}"])
    assert f"weights: {out}" in capsys.readouterr().out
    assert list(safetensors.numpy.load(out.read_bytes())) == ["backbone/stem/norm/scale"]
    for wrong, message in (
        ([*arguments, "--out=gs://no-such-bucket/w.safetensors"], "there is no bucket no-such-bucket"),
        ([*arguments, "--out=s3://b/w.safetensors"], "--out=s3://b/w.safetensors is not on a file system"),
        ([f"--file={given}.none", "--arch=mobilenet_v2", f"--out={out}"], "mine.h5.none: no such"),
        ([f"--file={given}", "--verify=gs://fer-runs/no.png", f"--out={out}.none"], "no such"),
    ):
        with pytest.raises(SystemExit) as caught:
            convert_weights.main(wrong)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
