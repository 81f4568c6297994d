"""A model in one file predicts as its checkpoint does, to the rounding of its storage, and damage is one line."""

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.runs.temperature import StoredTemperature
from fer_jax.zoo import shipped
from fer_jax.zoo.model_file import read_model_file, write_model_file
from fer_jax.zoo.storage import STORAGES, Storage, decode, encode

WHOLE = STORAGES[-1]
WARM = StoredTemperature(temperature=1.25, fitted_on="validation of drawn faces", images=30)


@pytest.fixture(scope="module")
def model(whole_run):
    return TrainedModel(whole_run[0])


@pytest.fixture(scope="module")
def write(model, tmp_path_factory):
    """A function that writes the model in a storage and returns the file."""
    folder = tmp_path_factory.mktemp("zoo")

    def write(storage, temperature=None):
        path = folder / f"{storage}.safetensors"
        write_model_file(
            path,
            model._params,
            model._batch_stats,
            record=model.record,
            storage=storage,
            temperature=temperature,
            provenance=model.provenance(),
        )
        return path

    return write


def test_whole_weights_are_the_checkpoint_to_the_bit(model, write, faces):
    found = TrainedModel(write(WHOLE, temperature=WARM))
    jax.tree.map(np.testing.assert_array_equal, found._params, model._params)
    jax.tree.map(np.testing.assert_array_equal, found._batch_stats, model._batch_stats)
    images = faces.validation.images
    np.testing.assert_array_equal(found.probabilities(images), model.probabilities(images))
    assert found.class_names == model.class_names
    assert found.config == model.config
    assert found.run_history() == [entry for entry in model.run_history() if entry["epoch"] <= model.record.epoch]
    assert found.stored_temperature() == WARM


def test_a_temperature_fitted_anew_leaves_the_file_as_it_is(write):
    path = write(WHOLE, temperature=WARM)
    content = path.read_bytes()
    TrainedModel(path).store_temperature(StoredTemperature(temperature=2.0, fitted_on="other data", images=1))
    assert path.read_bytes() == content
    assert [other.name for other in path.parent.iterdir() if other.suffix != ".safetensors"] == []


@pytest.mark.parametrize("storage", STORAGES[:-1], ids=str)
def test_only_kernels_are_rounded(storage, model, write):
    found = read_model_file(write(storage))
    params, statistics = found.restore(model._params, model._batch_stats)
    jax.tree.map(np.testing.assert_array_equal, statistics, model._batch_stats)

    def compare(path, ours, theirs):
        tolerance = 0
        if path[-1].key == "kernel":
            kind = storage.classifier if path[0].key == "classifier" else storage.backbones
            largest = np.abs(theirs).max(axis=tuple(range(theirs.ndim - 1)))
            tolerance = {"float32": 0, "float16": 2**-11 * largest, "int8": largest / 254 * 1.0001}[kind]
        assert (np.abs(np.asarray(ours) - np.asarray(theirs)) <= tolerance + 1e-7).all(), path

    jax.tree_util.tree_map_with_path(compare, params, model._params)


def test_storages_grow_and_small_ones_are_small(write):
    sizes = [write(storage).stat().st_size for storage in STORAGES]
    tensors = {("classifier", "kernel"): np.ones((1000, 8), np.float32), ("kernel",): np.ones((9000,), np.float32)}
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]
    stored = {str(s): sum(t.nbytes for t in encode(tensors, s).values()) for s in STORAGES}
    assert list(stored.values()) == [18000 + 8000 + 32, 34000, 36000 + 8000 + 32, 68000]


def test_a_kernel_beyond_half_precision_stays_whole():
    kernel = np.array([[1e5, 1.0]], np.float32)
    (found,) = encode({("kernel",): kernel}, Storage("float16", "float16")).values()
    np.testing.assert_array_equal(found, kernel)


def test_a_column_of_zeros_has_a_scale():
    kernel = np.array([[0.0, 2.0], [0.0, -1.0]], np.float32)
    found = decode(encode({("classifier", "kernel"): kernel}, Storage("float16", "int8")))
    np.testing.assert_allclose(found["classifier/kernel"], kernel, atol=2 / 254)


def test_metadata_tell_class_names_and_no_folder_of_this_machine(model, write, tmp_path):
    with model.config.unlocked():
        config = model.config.to_json()
    record = model.record
    absolute = config.replace('"init": "scratch"', f'"init": "{tmp_path}/weights.safetensors"')
    description = type(record.description)
    fields = {name: getattr(record.description, name) for name in record.description.__struct_fields__}
    described = description(**(fields | {"config": absolute}))
    record = type(record)(**({n: getattr(record, n) for n in record.__struct_fields__} | {"description": described}))
    path = tmp_path / "model.safetensors"
    write_model_file(
        path, model._params, model._batch_stats, record=record, storage=WHOLE, temperature=None, provenance={"seed": 0}
    )
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert tuple(json.loads(metadata["class_names"])) == model.class_names
    assert json.loads(metadata["config"])["init"] == "weights.safetensors"
    assert str(tmp_path) not in json.dumps(metadata)


def rewritten(path, place, change):
    """The file at `path`, its tensors and metadata changed, at `place`."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    change(tensors, metadata)
    place.write_bytes(safetensors.numpy.save(tensors, metadata))
    return place


def test_a_config_written_before_a_key_existed_is_read(write, tmp_path, model):
    def change(tensors, metadata):
        record = json.loads(metadata["record"])
        config = json.loads(record["description"]["config"])
        del config["train"]["mixup_alpha"], config["seed"]
        record["description"]["config"] = json.dumps(config)
        metadata["record"] = json.dumps(record)

    found = read_model_file(rewritten(write(WHOLE), tmp_path / "old.safetensors", change))
    assert found.record.description.parsed_config() == model.config


FIRST = "params/classifier/logits/bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: metadata.update(format="fer_jax backbone"), "format 'fer_jax backbone'"),
        (lambda tensors, metadata: metadata.pop("temperature"), "lack temperature"),
        (lambda tensors, metadata: metadata.update(temperature="{}"), "missing required field"),
        (lambda tensors, metadata: metadata.update(temperature="warm"), "damaged"),
        (lambda tensors, metadata: metadata.update(record="[]"), "damaged"),
        (lambda tensors, metadata: metadata.update(record='{"description": {}}'), "is missing"),
        (lambda tensors, metadata: tensors.pop(FIRST), f"{FIRST} is nothing"),
        (
            lambda tensors, metadata: tensors.update({"params/more": np.zeros(1, np.float32)}),
            "params/more has no place",
        ),
        (lambda tensors, metadata: tensors.update({FIRST: np.zeros(3, np.float32)}), f"{FIRST} is (3,)"),
        (lambda tensors, metadata: tensors.update({FIRST: np.zeros(7, np.float64)}), f"{FIRST} is float64"),
        (lambda tensors, metadata: tensors.update({FIRST: np.zeros(7, np.int8)}), "no scale"),
        (lambda tensors, metadata: tensors.update({FIRST: np.full(7, np.nan, np.float32)}), "not finite"),
    ],
)
def test_a_damaged_file_is_one_line(change, message, write, tmp_path, model):
    place = rewritten(write(WHOLE), tmp_path / "damaged.safetensors", change)
    with pytest.raises(InputError) as error:
        read_model_file(place).restore(model._params, model._batch_stats)
    assert message in str(error.value)
    assert str(place) in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"\xff" * 100])
def test_what_is_no_file_of_weights_is_one_line(content, tmp_path):
    place = tmp_path / "model.safetensors"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged, or no model"):
        TrainedModel(place)


def test_shipped_models_are_found_by_name(write, tmp_path, monkeypatch, model):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    with pytest.raises(InputError, match="zoo:mobilenet_v2: no such model, none is installed"):
        TrainedModel("zoo:mobilenet_v2")
    (tmp_path / "mobilenet_v2.safetensors").write_bytes(write(WHOLE).read_bytes())
    assert shipped.names() == ("mobilenet_v2",)
    assert TrainedModel("zoo:mobilenet_v2").class_names == model.class_names
    with pytest.raises(InputError, match="expected one of zoo:mobilenet_v2; did you mean 'mobilenet_v2'"):
        TrainedModel("zoo:MobileNet")
    with pytest.raises(InputError, match="no such model"):
        TrainedModel("zoo:../mobilenet_v2")
