"""The leak-free score and the scores by votes, against counts by hand."""

import types

import numpy as np

from fer_jax.data.twins import Twins
from fer_jax.evaluation.leak_free import leak_free_section
from fer_jax.evaluation.metrics import Predictions, wilson_interval
from fer_jax.evaluation.vote_scores import vote_scores_section


def predictions(predicted, labels, classes):
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1), np.float32)
    probabilities[np.arange(len(labels)), predicted] = 0.9
    return Predictions(np.arange(len(labels), dtype=np.int32), np.array(labels, np.int32), probabilities)


def index(kinds, twins):
    return types.SimpleNamespace(twins=twins, kinds=lambda split, inside: np.array(kinds, np.int8))


def test_leak_free_score():
    made = predictions([0, 1, 2, 3, 0, 5], [0, 1, 2, 3, 4, 6], 7)
    section = leak_free_section(made, index([0, 1, 2, -1, -1, -1], Twins((), "list.csv")), "test")
    found = {name: (score["correct"], score["n"]) for name, score in section.content.items() if isinstance(score, dict)}
    assert found == {"all": (4, 6), "exact": (1, 1), "near": (2, 2), "rest": (1, 3)}
    assert section.content["rest"]["wilson_95"] == list(wilson_interval(1, 3))
    assert [row[1] for row in section.tables[0].rows] == ["6", "1", "2", "3"]


def test_no_leak_free_score_without_a_list():
    assert leak_free_section(predictions([0], [0], 7), index([-1], None), "test") is None


def test_a_group_without_images_has_no_score():
    section = leak_free_section(predictions([0], [0], 7), index([0], Twins((), "list.csv")), "test")
    assert section.content["rest"] == {"n": 0, "correct": 0, "accuracy": None, "wilson_95": None}
    assert section.tables[0].rows[3][1:] == ["0", "0", "–", "–"]


def test_scores_by_votes():
    # angry ... neutral, contempt, unknown, not a face
    counts = np.zeros((4, 10), np.int32)
    counts[0, 0], counts[1, 3], counts[2, 7] = 10, 10, 10
    counts[3, :2] = 5  # no majority
    labels = [0, 4, 6, 1]
    of_seven = vote_scores_section(predictions([0, 3, 6, 1], labels, 7), counts, "votes").content
    scores = [(of_seven[key]["correct"], of_seven[key]["n"]) for key in list(of_seven)[2:]]
    assert scores == [(3, 4), (2, 3), (2, 2)]
    # A model that says contempt: by FER2013's label its next class counts.
    of_eight = vote_scores_section(predictions([0, 3, 7, 1], labels, 8), counts, "votes").content
    scores = [(of_eight[key]["correct"], of_eight[key]["n"]) for key in list(of_eight)[2:]]
    assert scores == [(2, 4), (3, 3), (2, 2)]
