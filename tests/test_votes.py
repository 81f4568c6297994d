"""A run on the votes of FER+: what it trains on, what its record says, and that its folder is found again."""

import pytest

from fer_jax.data.configured import as_configured
from fer_jax.data.ferplus import FERPLUS_CLASSES
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.runs.folder import run_description
from fer_jax.testing import write_votes
from fer_jax.train import train


@pytest.fixture
def config(make_tiny_config, faces, tmp_path):
    config = make_tiny_config()
    config.model.hidden_units = ()
    config.model.dropout = 0.0
    config.train.epochs = 1
    config.data.votes = str(write_votes(tmp_path / "votes.csv", faces))
    return config


@pytest.mark.slow
def test_run_on_distributions_of_eight_classes(config, faces, tmp_path):
    result = train(config, faces, tmp_path / "run")
    description = run_description(tmp_path / "run")
    assert description.class_names == FERPLUS_CLASSES
    assert description.data.images == {"train": 64, "validation": 30, "test": 17}
    assert "labels of FER+ votes.csv: in training the shares of 8 classes" in description.data.source
    assert description.data.fingerprint == as_configured(config, faces).fingerprint() != faces.fingerprint()
    assert TrainedModel(tmp_path / "run").probabilities(faces.test.images).shape == (17, 8)
    # The folder is that of the same votes, wherever their file lies, and of no others.
    (tmp_path / "votes.csv").rename(tmp_path / "moved.csv")
    config.data.votes = str(tmp_path / "moved.csv")
    assert train(config, faces, tmp_path / "run").history == result.history
    config.data.vote_labels = "majority"
    with pytest.raises(InputError, match=r"data\.vote_labels: 'distribution' and 'majority'"):
        train(config, faces, tmp_path / "run")


def test_votes_that_are_missing_are_named_before_any_work(config, faces, tmp_path):
    config.data.votes = str(tmp_path / "elsewhere.csv")
    with pytest.raises(InputError, match=r"elsewhere\.csv: cannot be read"):
        train(config, faces, tmp_path / "run")
    assert not (tmp_path / "run").exists()
