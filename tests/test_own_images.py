"""From a folder of a user's own images and classes to a model and its report, resident and streamed."""

import csv
import importlib
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from fer_jax.data.folder_reader import read_folder
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.options import FolderOptions
from fer_jax.inference.model import TrainedModel
from fer_jax.runs.record import as_json
from fer_jax.train import train

NAMES = ("bird", "cat", "dog")
SIZES = {"train": 48, "validation": 15, "test": 9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Coloured images, not square, whose classes differ in their tint."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, n in SIZES.items():
        for place in range(n):
            pixels = rng.integers(0, 160, (36, 44, 3), dtype=np.uint8)
            pixels[..., place % 3] += 90
            file = root / split / NAMES[place % 3] / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    return root


def read(folder, kind):
    return read_folder(folder, options=FolderOptions(input_size=32, input=kind))


@pytest.fixture(scope="module")
def runs(folder, make_tiny_config, tmp_path_factory):
    """The folders of two runs that differ in their input alone, and what `train` returned for each."""
    found = {}
    for kind in ("resident", "streaming"):
        config = make_tiny_config()
        config.data.input = kind
        workdir = tmp_path_factory.mktemp("own") / kind
        found[kind] = workdir, train(config, read(folder, kind), workdir)
    return found


def test_streamed_training_is_the_resident_one(runs):
    (_, resident), (_, streamed) = runs["resident"], runs["streaming"]
    for expected, found in zip(resident.history, streamed.history, strict=True):
        for key in ("step", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            # The two programs differ where the batch comes from, and may round differently.
            assert getattr(found, key) == pytest.approx(getattr(expected, key), rel=1e-3), key
    parameters = [TrainedModel(workdir / "checkpoints" / "last")._params for workdir, _ in runs.values()]
    for left, right in zip(*map(jax.tree.leaves, parameters), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-3)


def test_streamed_run_goes_on_where_it_was_left(runs, folder, make_tiny_config, tmp_path, monkeypatch):
    config = make_tiny_config()
    config.data.input = "streaming"
    calls = iter([False, True])

    def interrupt(self, line):
        if next(calls):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fer_jax.runtime.terminal.TrainingProgress.epoch_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, read(folder, "streaming"), tmp_path)
    result = train(config, read(folder, "streaming"), tmp_path)
    times = ("images_per_second", "seconds")
    for expected, found in zip(runs["streaming"][1].history, result.history, strict=True):
        assert {k: v for k, v in as_json(found).items() if k not in times} == {
            k: v for k, v in as_json(expected).items() if k not in times
        }


def test_checkpoint_carries_classes_and_image_shape(runs, folder):
    for workdir, _ in runs.values():
        model = TrainedModel(workdir)
        assert model.class_names == NAMES
        assert model.image_shape == (44, 44, 3)
        assert model.probabilities(read(folder, "resident").test.images).shape == (9, 3)


def test_probabilities_of_files_arrays_and_devices_agree(runs, folder, monkeypatch):
    model = TrainedModel(runs["resident"][0])
    images = read(folder, "resident").train.images
    expected = model.probabilities(images)
    np.testing.assert_allclose(model.probabilities(read(folder, "streaming").train.images), expected, atol=1e-6)
    monkeypatch.setattr("fer_jax.inference.model.RESIDENT_LIMIT", 1000)
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-6)


def test_colour_becomes_gray_for_a_model_of_gray_images(runs, folder):
    model = TrainedModel(runs["resident"][0])
    images = read(folder, "resident").test.images
    gray = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    as_gray = model.probabilities(gray)
    assert np.abs(model.probabilities(images) - as_gray).max() > 1e-3
    model.image_shape = (44, 44)
    np.testing.assert_array_equal(model.probabilities(images), as_gray)


def run_command(name, *arguments, monkeypatch):
    module = importlib.import_module(f"fer_jax.commands.{name}")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    module.main()


def test_report_has_the_classes_of_the_folder(runs, folder, repository, tmp_path, monkeypatch, capsys):
    workdir, _ = runs["streaming"]
    arguments = [f"--checkpoint={workdir}", f"--data={folder}", "--split=test", f"--out={tmp_path / 'report'}"]
    run_command("evaluate", *arguments, monkeypatch=monkeypatch)
    assert "on 9 images of test" in capsys.readouterr().out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["metrics"]["class_names"] == list(NAMES)
    assert np.shape(report["metrics"]["confusion_matrix"]) == (3, 3)
    with (tmp_path / "report" / "predictions.csv").open() as file:
        assert {row["label_name"] for row in csv.DictReader(file)} == set(NAMES)


def test_report_scores_twins_by_the_list_of_an_audit(runs, folder, tmp_path, monkeypatch, capsys):
    """A copy of the folder with one more test image, a mirrored one of training."""
    data = shutil.copytree(folder, tmp_path / "photos")
    image = Image.open(data / "train" / "cat" / "1.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(data / "test" / "cat" / "twin.png")
    run_command("audit", data, f"--out={tmp_path / 'audit'}", monkeypatch=monkeypatch)
    report = tmp_path / "report"
    arguments = [f"--checkpoint={runs['resident'][0]}", f"--data={data}", "--split=test", f"--out={report}"]
    run_command("evaluate", *arguments, f"--twins={tmp_path / 'audit' / 'twins.csv'}", monkeypatch=monkeypatch)
    found = json.loads((report / "report.json").read_text())["leak_free"]
    assert [found[group]["n"] for group in ("all", "exact", "near", "rest")] == [10, 0, 1, 9]
    assert "Leak-free score: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("split", "message"),
    [("validation", "no image of the validation split, found test"), ("test", "test/fox: unknown class folder")],
)
def test_evaluation_refuses_what_it_has_no_answer_for(runs, tmp_path, monkeypatch, capsys, split, message):
    for name in ("cat", *(["fox"] if split == "test" else [])):
        file = tmp_path / "other" / "test" / name / "a.png"
        file.parent.mkdir(parents=True)
        Image.new("L", (70, 70)).save(file)
    arguments = [f"--checkpoint={runs['resident'][0]}", f"--data={tmp_path / 'other'}", f"--split={split}"]
    with pytest.raises(SystemExit):
        run_command("evaluate", *arguments, f"--out={tmp_path / 'out'}", monkeypatch=monkeypatch)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_train_command_reads_the_folder_as_its_options_say(folder, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given = []
    overrides = ["--config.data.image_size=40", "--config.data.input=streaming", "--config.data.classes=folders"]
    arguments = [f"--config={repository / 'configs' / 'quickstart.py'}", f"--data={folder}", "--workdir=unused"]

    def train(config, data, workdir, **_):
        given.append(data)

    # What the command sets for its process is not to be set for that of the tests.
    monkeypatch.setattr("fer_jax.runtime.compile_cache.enable_compile_cache", lambda: None)
    monkeypatch.setattr("fer_jax.runtime.malloc.keep_freed_memory", lambda: None)
    monkeypatch.setattr("fer_jax.train.train", train)
    run_command("train", *arguments, *overrides, monkeypatch=monkeypatch)
    assert isinstance(given[0].train.images, ImageFiles)
    assert given[0].image_shape == (40, 40, 3)
    assert given[0].class_names == NAMES
