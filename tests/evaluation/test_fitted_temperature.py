"""The temperature of a run: fitted once, stored with its checkpoint, and used again."""

import dataclasses

import pytest

from fer_jax.data.dataset import Split
from fer_jax.errors import InputError
from fer_jax.evaluation.fitted_temperature import temperature_for
from fer_jax.inference.model import TrainedModel
from fer_jax.runs import temperature as stored


@pytest.fixture(scope="module")
def model(whole_run):
    return TrainedModel(whole_run[0])


@pytest.fixture(autouse=True)
def _no_file_left(whole_run):
    yield
    (whole_run[0] / "temperature.json").unlink(missing_ok=True)


def test_fitted_once_stored_and_used_again(model, whole_run, faces, monkeypatch):
    said = []
    first = temperature_for(model, faces, message=said.append)
    assert first.images == 30
    assert len(said) == 1
    monkeypatch.setattr(TrainedModel, "probabilities", lambda *_: pytest.fail("predicted again"))
    assert temperature_for(model, faces) == first
    assert TrainedModel(whole_run[0]).stored_temperature() == first
    # Another checkpoint of the same run has none yet.
    assert TrainedModel(whole_run[0] / "checkpoints" / "last").stored_temperature() is None


def test_other_data_are_not_stored_and_none_without_a_validation_split(model, faces):
    other = dataclasses.replace(faces, train=faces.test)
    assert temperature_for(model, other, message=lambda _: None).images == 30
    assert model.stored_temperature() is None
    nobody = Split(faces.test.images[:0], faces.test.labels[:0], faces.test.row_ids[:0])
    assert temperature_for(model, dataclasses.replace(faces, validation=nobody)) is None


def test_folder_that_cannot_be_written_is_told_and_damage_named(model, whole_run, faces, monkeypatch):
    probabilities = model.probabilities(faces.validation.images)

    def refuse(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(stored.files, "write_text", refuse)
        assert temperature_for(model, faces, probabilities, said.append).images == 30
    assert "temperature.json cannot be written (Permission denied)" in said[0]
    for damage in ('{"a": 1', '{"a": {"temperature": -1, "fitted_on": "x", "images": 1}}'):
        (whole_run[0] / "temperature.json").write_text(damage)
        with pytest.raises(InputError, match=r"temperature\.json: cannot be read"):
            temperature_for(model, faces, probabilities)
