"""An export proves itself before it gets its name, and says what is wrong with a file that it cannot read."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

import fer_jax
from fer_jax.deployment import request
from fer_jax.deployment.export import drawn_images, export_model, images_of_source
from fer_jax.deployment.onnx_graph import onnx_model
from fer_jax.deployment.onnx_model import OnnxModel
from fer_jax.deployment.proof import ProofImages, prove
from fer_jax.deployment.request import check_request
from fer_jax.deployment.stablehlo import StablehloModel
from fer_jax.errors import InputError
from fer_jax.prediction.classifiers import load_classifier

OPENERS = {"onnx": OnnxModel, "stablehlo": StablehloModel}


@pytest.mark.parametrize("kind", OPENERS)
def test_export_predicts_as_its_run_does(exported, trained, faces, kind):
    path, proof = exported[kind]
    model = OPENERS[kind](path)
    images = faces.test.images
    expected = trained.probabilities(images)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(model.predict(images), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(images[:1]), expected[:1], atol=1e-5)
    assert model.predict(images[:0]).shape == (0, 7)
    assert model.class_names == trained.class_names
    assert model.metadata.config["model"]["input_size"] == 32
    assert "whole" in model.metadata.source["checkpoint"]
    assert json.loads(path.with_name(f"{path.name}.proof.json").read_text()) == proof
    assert proof["accuracy_of_file"] == np.mean(expected.argmax(1) == faces.test.labels)
    assert (proof["number_of_images"], proof["top1_agreement"]) == (17, 1)
    assert proof["max_absolute_difference"] < 1e-5


@pytest.mark.parametrize("kind", OPENERS)
def test_faces_are_judged_by_an_exported_file(exported, trained, faces, kind):
    images = faces.test.images[:5]
    classifier = load_classifier(str(exported[kind][0]), batch_size=8)
    assert (classifier.class_names, classifier.image_shape) == (trained.class_names, (48, 48))
    np.testing.assert_allclose(classifier.predict(images), trained.probabilities(images), atol=1e-5)


def test_onnx_file_predicts_without_jax(exported, trained, faces, tmp_path):
    """In a fresh process, in which importing JAX and what training needs fails."""
    Image.fromarray(faces.test.images[0]).save(tmp_path / "face.png")
    program = (
        "import sys; sys.modules |= dict.fromkeys(('jax', 'jaxlib', 'flax', 'optax', 'orbax', 'onnx')); "
        "from fer_jax.commands.predict import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "face.png", "--faces=whole", f"--model={exported['onnx'][0]}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = list(json.loads(done.stdout)["probabilities"].values())
    np.testing.assert_allclose(found, trained.probabilities(faces.test.images[0])[0], atol=1e-4)


def test_exported_file_is_no_checkpoint(exported):
    with pytest.raises(InputError, match=r"model\.onnx: is a file; expected a run's folder"):
        fer_jax.load(exported["onnx"][0])


def test_temperature_of_the_run_is_inside(trained, faces, tmp_path, monkeypatch):
    from fer_jax.runs.temperature import StoredTemperature

    fitted = StoredTemperature(temperature=2.0, fitted_on="validation", images=30)
    monkeypatch.setattr(trained, "stored_temperature", lambda: fitted)
    images = faces.test.images
    export_model(trained, "onnx", tmp_path / "warm.onnx", ProofImages(images, None, "faces"))
    model = OnnxModel(tmp_path / "warm.onnx")
    warm = trained.probabilities(images) ** 0.5
    np.testing.assert_allclose(model.predict(images), warm / warm.sum(1, keepdims=True), atol=1e-5)
    assert model.metadata.temperature == 2
    assert model.metadata.source["temperature fitted on"] == "validation, 30 images"


def test_changed_weight_fails_the_proof_and_leaves_the_earlier_file(trained, tmp_path, monkeypatch):
    def wrong(network, metadata, storage):
        model = onnx_model(network, metadata, storage)
        kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "tiny/blocks/1/project/kernel")
        values = onnx.numpy_helper.to_array(kernel).copy()
        values[0, 0] += 0.5
        kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
        return model

    monkeypatch.setattr("fer_jax.deployment.onnx_graph.onnx_model", wrong)
    sample = drawn_images(trained.image_shape)
    out = tmp_path / "model.onnx"
    with pytest.raises(InputError, match=r"differs from the network by up to .* nothing was written"):
        export_model(trained, "onnx", out, sample)
    assert not list(tmp_path.iterdir())
    out.write_bytes(b"earlier")
    with pytest.raises(InputError, match="nothing was written"):
        export_model(trained, "onnx", out, sample)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_file_that_does_not_run_fails_the_proof(make_network, tmp_path):
    network = make_network()
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot be run in a fresh process \(.*INVALID_PROTOBUF"):
        prove(tmp_path / "model.onnx", "onnx", "float32", network, drawn_images((20, 20)))


def _rewrite(path, target, change):
    """Copy an export to `target` with `change` applied to its metadata, strings by key."""
    if path.suffix == ".onnx":
        model = onnx.load(path)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        change(properties)
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, target)
        return
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
        properties = json.loads(archive.read("metadata.json"))
        change(properties)
        copy.writestr("program.jax_export", archive.read("program.jax_export"))
        copy.writestr("metadata.json", json.dumps(properties))


@pytest.mark.parametrize("kind", OPENERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.update(format_version="2"), "is an export of version 2, this fer_jax reads version 1"),
        (lambda found: found.pop("format_version"), "has no format_version"),
        (lambda found: found.update(class_names="[happy"), "class_names in its metadata is '.happy', expected JSON"),
        (lambda found: found.pop("class_names"), "missing required field `class_names`"),
        (lambda found: found.update(input_size="[0, 48]"), r"`\$.input_size"),
    ],
)
def test_other_metadata_is_one_line(exported, tmp_path, kind, change, message):
    path = exported[kind][0]
    target = tmp_path / path.name
    _rewrite(path, target, change)
    with pytest.raises(InputError, match=message) as caught:
        OPENERS[kind](target)
    assert str(caught.value).startswith(str(target))


@pytest.mark.parametrize("kind", OPENERS)
def test_damaged_file_is_one_line(exported, tmp_path, kind):
    whole = exported[kind][0].read_bytes()
    target = tmp_path / f"model.{kind}"
    other = next(path for path, _ in exported.values() if path.suffix != target.suffix)
    contents = (b"", b"a text file\n", whole[: len(whole) // 2], whole[:-100], other.read_bytes())
    for content in contents:
        target.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as") as caught:
            OPENERS[kind](target)
        assert str(caught.value).startswith(str(target))
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="no such file"):
            OPENERS[kind](place)


def test_damaged_weight_of_an_archive_is_noticed(exported, tmp_path):
    content = bytearray(exported["stablehlo"][0].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.stablehlo").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a StableHLO export"):
        StablehloModel(tmp_path / "model.stablehlo")


@pytest.mark.parametrize(
    ("kind", "name", "storage", "message"),
    [
        ("onnx", "model.stablehlo", "float32", "expected a name that ends in .onnx"),
        ("stablehlo", "model", "float32", "expected a name that ends in .stablehlo"),
        ("stablehlo", "model.stablehlo", "float16", "only --format=onnx has it"),
        ("onnx", "folder.onnx", "float32", "is a folder"),
        ("onnx", "file/model.onnx", "float32", "cannot be written"),
    ],
)
def test_request_is_checked_before_the_model_is_read(tmp_path, kind, name, storage, message):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        check_request(kind, tmp_path / name, storage)


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(request.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package onnx; pip install 'fer_jax\[onnx\]'"):
        check_request("onnx", tmp_path / "model.onnx", "float32")


def test_images_of_the_proof(trained):
    drawn = drawn_images((30, 30, 3))
    assert (drawn.images.shape, drawn.images.dtype, drawn.labels) == ((512, 30, 30, 3), np.uint8, None)
    labelled = images_of_source("synthetic:64", "test", trained)
    assert (labelled.images.shape, labelled.labels.shape) == ((16, 48, 48), (16,))
    with pytest.raises(InputError, match="no such file or folder"):
        images_of_source("nowhere", "test", trained)
