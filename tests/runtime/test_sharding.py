"""A batch that the devices cannot share evenly is refused before any work."""

import types

import pytest

from fer_jax.errors import InputError
from fer_jax.runtime.sharding import check_batch_size

FOUR_DEVICES = types.SimpleNamespace(size=4)


@pytest.mark.parametrize(("batch_size", "nearest"), [(30, 32), (2, 4), (33, 32)])
def test_uneven_batch_is_refused_with_the_nearest_even_one(batch_size, nearest):
    message = rf"config\.train\.batch_size={batch_size} .* 4 devices; use a multiple, such as {nearest}$"
    with pytest.raises(InputError, match=message):
        check_batch_size(batch_size, FOUR_DEVICES, "train.batch_size")


def test_even_batch_passes():
    check_batch_size(64, FOUR_DEVICES, "train.batch_size")
