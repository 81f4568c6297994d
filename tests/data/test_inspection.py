"""Counts and duplicates: by hand on a few images, and the known figures on the real FER2013."""

from pathlib import Path

import numpy as np
import pytest

from fer_jax.data.dataset import Dataset, Split, check_no_split_empty, from_rows
from fer_jax.data.fer2013 import PUBLISHED_COUNTS
from fer_jax.data.inspection import (
    class_counts,
    constant_images,
    differs_from_published,
    find_duplicates,
    summarise,
    summary_text,
)
from fer_jax.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "fer2013.npz"


def _by_hand() -> Dataset:
    distinct = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    a, b, c, d = distinct
    flat = np.full((48, 48), 7, np.uint8)
    images = np.stack([a, b, a, flat, a, b, c, d, c])
    #                  0  1  2   3   4  5  6  7  8
    labels = np.array([0, 1, 0, 2, 0, 3, 4, 5, 4])
    splits = np.array([0, 0, 0, 0, 1, 2, 2, 1, 2])
    return from_rows(images, labels, splits, "by hand")


def test_duplicates_by_hand():
    data = _by_hand()
    found = find_duplicates(data)
    assert {frozenset(group) for group in found.groups} == {frozenset({0, 2, 4}), frozenset({1, 5}), frozenset({6, 8})}
    assert found.surplus == 4
    assert [set(group) for group in found.conflicting] == [{1, 5}]
    assert found.twins_in_train == {"validation": (4,), "test": (5,)}
    assert constant_images(data) == {"train": (3,), "validation": (), "test": ()}
    assert class_counts(data)["train"].tolist() == [2, 1, 1, 0, 0, 0, 0]


def test_differences_from_published():
    assert differs_from_published(_by_hand()).startswith("by hand: 4 / 2 / 3 images")
    splits = {}
    for name, counts in PUBLISHED_COUNTS.items():
        labels = np.repeat(np.arange(7, dtype=np.int32), counts)
        splits[name] = Split(np.zeros((len(labels), 48, 48), np.uint8), labels, np.arange(len(labels), dtype=np.int32))
    assert differs_from_published(Dataset(**splits, source="full")) is None
    splits["test"].labels[0] = 1
    assert "class counts are not" in differs_from_published(Dataset(**splits, source="full"))


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="no image of the test split"):
        check_no_split_empty(np.array([0, 1]), "here")
    check_no_split_empty(np.array([0, 1]), "here", ("train", "validation"))


@pytest.mark.skipif(not REAL.exists(), reason="needs the real FER2013")
def test_known_figures_of_the_real_data():
    real = np.load(REAL)
    data = from_rows(real["pixels"], real["emotion"], real["usage"], "real")
    assert differs_from_published(data) is None
    found = find_duplicates(data)
    assert (len(found.groups), found.surplus, len(found.conflicting)) == (1514, 1851, 58)
    assert {name: len(row_ids) for name, row_ids in found.twins_in_train.items()} == {"validation": 280, "test": 288}
    assert {name: len(row_ids) for name, row_ids in constant_images(data).items()} == {
        "train": 11,
        "validation": 1,
        "test": 0,
    }
    lines = summary_text(summarise(data)).splitlines()
    assert lines[2].split()[:5] == ["train", "3995", "(3995)", "436", "(436)"]
    assert "exact duplicates: 1514 groups, 1851 surplus images, 58 groups with conflicting labels" in lines
