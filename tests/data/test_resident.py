"""The order of the examples: a pure function of seed and epoch that visits each example once at most."""

import numpy as np
import pytest

from fer_jax.data.resident import epoch_order, padded_batches, steps_per_epoch
from fer_jax.errors import InputError


def test_epoch_visits_each_example_at_most_once():
    order = epoch_order(seed=0, epoch=3, num_examples=103, batch_size=10)
    assert (order.shape, order.dtype) == ((10, 10), np.int32)
    assert len(np.unique(order)) == 100
    assert order.min() >= 0
    assert order.max() < 103


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return epoch_order(seed, epoch, 64, 8)

    np.testing.assert_array_equal(order(1, 2), order(1, 2))
    assert (order(1, 2) != order(1, 3)).any()
    assert (order(1, 2) != order(2, 2)).any()
    assert (order(1, 2) != order(2, 1)).any()


def test_examples_left_over_change_from_epoch_to_epoch():
    left_over = [set(range(103)) - set(epoch_order(0, epoch, 103, 10).ravel().tolist()) for epoch in range(30)]
    assert len(set.union(*left_over)) > 30


def test_padded_batches_hold_every_example_once():
    batches = padded_batches(23, 5)
    assert batches.shape == (5, 5)
    assert batches.ravel().tolist() == [*range(23), -1, -1]


def test_batch_larger_than_the_split_is_refused():
    assert steps_per_epoch(103, 10) == 10
    with pytest.raises(InputError, match=r"config\.train\.batch_size=32.*31 images"):
        steps_per_epoch(31, 32)
