"""The votes of FER+: read by name, checked against the images, and made into labels by the published rules."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fer_jax.data.dataset import from_rows
from fer_jax.data.ferplus import FERPLUS_CLASSES, distribution, labelled, majority, read_votes
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.testing import write_votes

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def data():
    return synthetic_faces(60, 10, 10, seed=0)


@pytest.fixture
def votes_file(tmp_path, data):
    return write_votes(tmp_path / "fer2013new.csv", data)


def changed(path: Path, change) -> Path:
    """The file at `path`, whose rows (lists of fields, the header first) `change` has changed in place."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_columns_are_found_by_name_and_rows_by_row_id(votes_file, data):
    def reorder(rows):
        rows[0] = [f" {name.upper()}" for name in rows[0]]
        rows[:] = [[*row[::-1], "more"] for row in rows]

    expected = read_votes(votes_file, data)
    assert (expected.counts["train"][:, :8].argmax(1) == data.train.labels).all()
    found = read_votes(changed(votes_file, reorder), data)
    # Any order within a split: the row id says which votes are whose.
    order = np.random.default_rng(0).permutation(len(data.train))
    shuffled = dataclasses.replace(data, train=data.train.subset(order))
    np.testing.assert_array_equal(read_votes(votes_file, shuffled).counts["train"], expected.counts["train"][order])
    for name, counts in expected.counts.items():
        assert counts.shape == (len(data.split(name)), 10)
        np.testing.assert_array_equal(found.counts[name], counts)


# neutral is the last of seven, contempt the eighth, then unknown and not-a-face.
CASES = [
    # angry, disgust, fear, happy, sad, surprise, neutral, contempt, unknown, NF; the label of 8 and of 7 classes
    ((6, 0, 0, 0, 4, 0, 0, 0, 0, 0), 0, 0),
    ((5, 0, 0, 0, 5, 0, 0, 0, 0, 0), -1, -1),  # exactly half
    ((5, 0, 1, 0, 2, 1, 0, 0, 1, 0), 0, 0),  # five of the seven that are left
    ((4, 0, 0, 0, 0, 0, 0, 0, 6, 0), -1, -1),
    ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), -1, -1),
    ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), -1, -1),
    ((0, 0, 0, 0, 0, 0, 3, 7, 0, 0), 7, -1),
    ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0), -1, -1),  # no image name
]


@pytest.mark.parametrize(("counts", "of_eight", "of_seven"), CASES)
def test_the_majority_rule(counts, of_eight, of_seven):
    counts = np.array([counts], np.int32)
    assert majority(counts).tolist() == [of_eight]
    assert majority(counts, 7).tolist() == [of_seven]


def test_the_distribution_is_of_expressions_alone():
    counts = np.array([case[0] for case in CASES], np.int32)
    shares, found = distribution(counts, 8)
    assert found.tolist() == [True, True, True, False, False, False, True, False]
    np.testing.assert_allclose(shares.sum(1), found)
    np.testing.assert_allclose(shares[2], [5 / 7, 0, 0, 0, 2 / 7, 0, 0, 0])
    np.testing.assert_allclose(shares[6, 6:], [0.3, 0.7])
    # Contempt has most of the votes: what is left to the seven is not more than half.
    assert not distribution(counts, 7)[1][6]


def test_images_without_a_label_are_left_out(tmp_path, data):
    def spoil(rows):
        rows[1][1] = ""  # no image name
        rows[2][2:] = [0] * 9 + [10]
        rows[3][2:] = [5, 0, 0, 5] + [0] * 6  # neutral and sad: a distribution, no majority
        for row in rows[-10:]:
            row[2:] = [0] * 7 + [10, 0, 0]  # the test split: contempt

    votes = read_votes(changed(write_votes(tmp_path / "votes.csv", data), spoil), data)
    by_majority = labelled(data, votes, "majority", 8)
    assert by_majority.train.row_ids.tolist() == list(range(3, 60))
    assert by_majority.train.targets is None
    assert by_majority.class_names == FERPLUS_CLASSES
    assert by_majority.test.labels.tolist() == [7] * 10
    by_share = labelled(data, votes, "distribution", 8)
    assert by_share.train.row_ids.tolist() == list(range(2, 60))
    assert by_share.train.targets[0].tolist() == [0, 0, 0, 0, 0.5, 0, 0.5, 0]
    np.testing.assert_array_equal(by_share.train.images, data.train.images[2:])
    assert by_share.validation.targets is None
    assert len({d.fingerprint() for d in (data, by_majority, by_share)}) == 3
    with pytest.raises(InputError, match="no image of test has a label"):
        labelled(data, votes, "majority", 7)


def _shuffle(rows):
    order = np.random.default_rng(0).permutation(60)
    rows[1:61] = [rows[1 + index] for index in order]


BAD = {
    "another header": (lambda rows: rows[0].__setitem__(2, "calm"), "0 columns named 'neutral'"),
    "a column twice": (lambda rows: rows[0].__setitem__(1, "NF"), "0 columns named 'image name'"),
    "no rows": (lambda rows: rows.__delitem__(slice(1, None)), "without rows"),
    "fewer rows": (lambda rows: rows.pop(), "79 images, .* has 80; FER\\+ goes with the whole official"),
    "a short row": (lambda rows: rows[5].pop(), r"row 4 \(line 6\): found 11 fields"),
    "another split": (lambda rows: rows[5].__setitem__(0, "PrivateTest"), "row 4 is PrivateTest, .* is Training"),
    "no split": (lambda rows: rows[5].__setitem__(0, "train"), r"row 4 \(line 6\): Usage 'train', expected one of"),
    "half a vote": (lambda rows: rows[5].__setitem__(3, "2.5"), r"row 4 \(line 6\): '2.5' votes for happiness"),
    "less than none": (lambda rows: rows[5].__setitem__(3, "-1"), r"'-1' votes for happiness"),
    "another order": (_shuffle, "hardly better than chance"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_go_with_the_images_is_one_line(votes_file, data, name):
    change, message = BAD[name]
    with pytest.raises(InputError, match=message) as error:
        read_votes(changed(votes_file, change), data)
    assert str(votes_file) in str(error.value)


def test_a_path_that_is_no_file_is_one_line(tmp_path, data):
    for path in (tmp_path, tmp_path / "missing.csv", "x" * 5000):
        with pytest.raises(InputError, match=r"cannot be (read|looked up)"):
            read_votes(path, data)


def test_other_classes_have_no_votes(votes_file, data):
    own = dataclasses.replace(data, class_names=tuple("abcdefg"))
    with pytest.raises(InputError, match="images of FER2013, with the classes angry"):
        read_votes(votes_file, own)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real FER2013")
def test_known_counts_of_the_real_votes():
    real = np.load(SHARED / "fer2013.npz")
    data = from_rows(real["pixels"], real["emotion"], real["usage"], "real")
    votes = read_votes(SHARED / "ferplus_votes.csv", data)
    by_majority = labelled(data, votes, "majority", 8)
    assert [len(by_majority.split(name)) for name in votes.counts] == [25060, 3199, 3153]
    by_share = labelled(data, votes, "distribution", 8)
    assert [len(by_share.split(name)) for name in votes.counts] == [28416, 3199, 3153]
    # What others find: the label is that of the eight expressions with most votes, where one has most, in 64.6 %.
    counts = votes.counts["test"][:, :8]
    unique = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    assert round(100 * np.mean(counts.argmax(axis=1)[unique] == data.test.labels[unique]), 1) == 64.6
