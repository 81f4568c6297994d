"""The table of what trains: which row decides a parameter, and what is refused."""

import numpy as np
import pytest

from fer_jax.errors import InputError
from fer_jax.params.trainable import EVERYTHING, Group, parse_rows, resolve

NORM = {"scale": np.zeros(4), "bias": np.zeros(4)}
PARAMS = {
    "backbones": {
        "b0": {
            "stem": {"conv": {"kernel": np.zeros((3, 3, 3, 4))}, "norm": NORM},
            "blocks": {i: {"conv": {"kernel": np.zeros((4, 4))}, "norm": NORM} for i in (0, 1, 10)},
        }
    },
    "classifier": {"logits": {"kernel": np.zeros((4, 7)), "bias": np.zeros(7)}},
}
STEM = ("backbones", "b0", "stem", "conv", "kernel")
LOGITS = ("classifier", "logits", "kernel")


def block(i, *rest):
    return ("backbones", "b0", "blocks", i, *(rest or ("conv", "kernel")))


def table(*rows, epochs=10):
    return resolve(rows, epochs, PARAMS)


def test_default_trains_everything_from_the_start():
    found = table(*EVERYTHING)
    assert found.groups == (Group(rate=1.0, first_epoch=1),)
    assert found.phase_starts == (1,)
    assert all(found.trains(path, epoch=1) for path in found.row_of)
    assert len(found.row_of) == 14


def test_first_matching_row_decides():
    found = table("classifier/**: train", "**/norm/*: freeze", "backbones/b0/blocks/1/**: freeze", "**: train at 0.1")
    assert found.group(LOGITS) == Group(1.0, 1)
    assert found.group(block(0)) == Group(0.1, 1)
    assert not found.ever_trains(block(0, "norm", "scale"))
    assert not found.ever_trains(block(1))
    # A star stays within its segment: "1" is not "10".
    assert found.trains(block(10), epoch=1)


def test_first_blocks_by_a_class_of_characters():
    found = table("backbones/*/stem/**: freeze", "backbones/*/blocks/[0-9]/**: freeze", "**: train")
    assert [found.ever_trains(block(i)) for i in (0, 1, 10)] == [False, False, True]
    assert not found.ever_trains(STEM)


def test_epochs_make_phases():
    found = table("classifier/**: train", "**/blocks/10/**: train from epoch 3", "**: train at 0.5 from epoch 7")
    assert found.phase_starts == (1, 3, 7)
    assert [found.trains(block(10), epoch) for epoch in (1, 2, 3, 10)] == [False, False, True, True]
    assert [found.trains(STEM, epoch) for epoch in (6, 7)] == [False, True]
    assert found.ever_trains(STEM)
    assert found.groups == (Group(0.5, 7), Group(1.0, 1), Group(1.0, 3))


def test_counts_are_those_of_the_parameters():
    found = table("classifier/**: train", "backbones/**: freeze")
    assert found.describe() == [
        {"row": "classifier/**: train", "tensors": 2, "parameters": 35},
        {"row": "backbones/**: freeze", "tensors": 12, "parameters": 108 + 3 * 16 + 4 * 8},
    ]
    lines = found.text(optimizer_bytes=1234).splitlines()
    assert lines[1].split() == ["classifier/**:", "train", "2", "35"]
    assert lines[3].split() == ["trained", "in", "all", "2", "35"]
    assert lines[4] == "optimizer state: 1,234 bytes"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), r"config.train.parameters=\(\): expected at least one row"),
        (("classifier/**",), r"row 'classifier/\*\*' cannot be read; expected 'PATTERN: freeze'"),
        (("**: Train",), "cannot be read"),
        (("**: freeze until epoch 5",), "cannot be read"),
        ((3,), "row 3 cannot be read"),
        (("**: train at fast",), "'fast' is no positive number"),
        (("**: train at 0",), "'0' is no positive number"),
        (("**: train at inf",), "'inf' is no positive number"),
        (("**: train from epoch 0",), "the run has epochs 1 to 10"),
        (("**: train from epoch 11",), "the run has epochs 1 to 10"),
        (("classifier/**: train",), "no row matches the parameter backbones/b0/stem/conv/kernel"),
        (("classifer/**: train", "**: freeze"), r"row 'classifer/\*\*: train': matches nothing"),
        (("**: train", "classifier/**: freeze"), r"'classifier/\*\*: freeze': every parameter .* by a row above it"),
        (("**: freeze",), "nothing trains in epoch 1"),
        (("**: train from epoch 2",), "nothing trains in epoch 1"),
    ],
)
def test_table_that_cannot_be_meant_is_refused(rows, message):
    with pytest.raises(InputError, match=message):
        resolve(rows, 10, PARAMS)


def test_equal_rows_are_not_both_used():
    with pytest.raises(InputError, match="by a row above it"):
        table("**: train", "**: train")


def test_rows_are_read_without_parameters():
    (row,) = parse_rows(("backbones/**/kernel: train at 1e-2 from epoch 4",), 4)
    assert row.group == Group(0.01, 4)
    assert row.matches(STEM)
    assert not row.matches(LOGITS)
