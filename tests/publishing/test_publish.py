"""A run becomes a file and a card; what the package ships is whole and is what its card says."""

import json
import re
import types

import numpy as np
import pytest

from fer_jax.data.dataset import Dataset, Split
from fer_jax.data.twins import Twins
from fer_jax.errors import InputError
from fer_jax.evaluation.leak_free import leak_free_section
from fer_jax.evaluation.metrics import Predictions
from fer_jax.evaluation.report import write_report
from fer_jax.evaluation.vote_scores import vote_scores_section
from fer_jax.inference.model import TrainedModel
from fer_jax.publishing import storage_choice
from fer_jax.publishing.publish import publish
from fer_jax.zoo import shipped


@pytest.fixture(scope="module")
def model(whole_run):
    return TrainedModel(whole_run[0])


def data_sections(split, probabilities):
    """The first five images have a near twin; all votes are for the class happy."""
    predictions = Predictions(split.row_ids, split.labels, probabilities)
    kinds = np.where(np.arange(len(split)) < 5, 1, -1)
    index = types.SimpleNamespace(twins=Twins((), "list.csv"), kinds=lambda name, inside: kinds)
    counts = np.zeros((len(split), 10), np.int32)
    counts[:, 3] = 10
    return [leak_free_section(predictions, index, "test"), vote_scores_section(predictions, counts, "votes")]


def evaluate_on(data):
    def evaluate(path, report):
        found = TrainedModel(path)
        split = data.test
        write_report(
            report,
            predictions=Predictions(split.row_ids, split.labels, found.probabilities(split.images)),
            class_names=found.class_names,
            images=split.images,
            history=[],
            provenance=found.provenance() | {"evaluated on": f"test, {len(split)} images"},
            include_faces=False,
            temperature=found.stored_temperature(),
            more=data_sections(split, found.probabilities(split.images)),
        )

    return evaluate


@pytest.fixture(scope="module")
def published(model, faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    report = folder / "report"
    options = {"evaluate": evaluate_on(faces), "folder": folder, "report": report, "command": "fer-jax publish"}
    return (*publish(model, "tiny", faces, **options), json.loads((report / "report.json").read_text()))


def test_the_file_predicts_like_the_run_and_has_a_temperature(published, model, faces):
    path, _, _ = published
    found = TrainedModel(path)
    images = faces.validation.images
    difference = np.abs(found.probabilities(images) - model.probabilities(images)).max()
    assert 0 < difference < 0.02
    assert found.stored_temperature().images == len(images)


def test_the_card_has_the_numbers_of_the_report(published):
    path, card, report = published
    text = card.read_text()
    metrics = report["metrics"]
    front, body = text.removeprefix("---\n").split("\n---\n")
    assert f"value: {metrics['accuracy']:.6f}" in front
    assert "license: apache-2.0" in front
    assert f"{100 * metrics['accuracy']:.2f} % (" in body
    assert f"| happy | {metrics['per_class']['happy']['precision']:.3f} |" in body
    assert f"{path.stat().st_size / 1e6:.2f} MB" in body
    assert "0 angry, 1 disgust" in body
    rest = report["leak_free"]["rest"]
    assert f"- leak-free {100 * rest['accuracy']:.2f} % (" in body
    assert f"{rest['correct']} of {rest['n']} right: without the 5 images" in body
    assert "with an exact twin there – of 0, with a near one" in body
    assert f"{100 * report['scores_by_votes']['ferplus_majority_8']['accuracy']:.2f} % (" in body
    assert f"temperature {report['calibration']['temperature']['value']:.3f}" in body
    assert '--config.model.hidden_units="(16,)"' in body
    assert not re.search(r"(?<![\w.])/\w+/", body), "a path of this machine"


def test_the_smallest_storage_that_serves_is_chosen(model, faces, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    options = {"fitted_on": "validation", "provenance": {}}
    (first,) = storage_choice.write_smallest(model, path, faces.validation, **options)
    assert first.storage == storage_choice.STORAGES[0]
    # Nothing serves: then it is the last one, which is whole.
    monkeypatch.setattr(storage_choice, "MOST", -1.0)
    trials = storage_choice.write_smallest(model, path, faces.validation, **options)
    assert [trial.storage for trial in trials] == list(storage_choice.STORAGES)
    assert trials[-1].largest == 0
    assert path.stat().st_size >= trials[-1].num_bytes > trials[0].num_bytes


def without(data, name):
    none = Split(np.zeros((0, 48, 48), np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int32))
    return Dataset(
        **{split: data.split(split) if split != name else none for split in ("train", "validation", "test")},
        source="faces",
    )


@pytest.mark.parametrize(
    ("name", "lacking", "message"),
    [
        ("../x", None, "expected a name"),
        ("X", None, "expected a name"),
        ("x", "validation", "validation"),
        ("x", "test", "test"),
    ],
)
def test_what_cannot_be_published_is_one_line(name, lacking, message, model, faces, tmp_path):
    data = faces if lacking is None else without(faces, lacking)
    with pytest.raises(InputError, match=message):
        publish(model, name, data, evaluate=None, folder=tmp_path, report=None, command="")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_that_fails_leaves_the_earlier_model(model, faces, tmp_path):
    (tmp_path / "x.safetensors").write_text("earlier")

    def fail(path, report):
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="full"):
        publish(model, "x", faces, evaluate=fail, folder=tmp_path, report=None, command="")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.safetensors", "earlier")]


SHIPPED = shipped.names() or [pytest.param("", marks=pytest.mark.skip(reason="no model is shipped yet"))]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_loads_and_has_a_card(name):
    """Without its network being compiled; its score is that of its card by `fer-jax evaluate`."""
    found = TrainedModel(shipped.PREFIX + name)
    card = (shipped.MODELS / f"{name}.md").read_text()
    assert f"# {name}\n" in card
    assert f"{shipped.shipped_file(name).stat().st_size / 1e6:.2f} MB" in card
    assert all(label in card for label in found.class_names)
    assert found.stored_temperature() is not None
    assert shipped.shipped_file(name).stat().st_size < 25e6
