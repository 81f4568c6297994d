"""The size of the batches that an evaluation runs in."""

import pytest

from fer_jax.inference.predictor import even_batch_size


@pytest.mark.parametrize(
    ("num_images", "most", "multiple", "expected"),
    [
        (3589, 256, 1, 240),
        (3589, 256, 8, 240),
        (256, 256, 8, 256),
        (257, 256, 8, 136),
        (30, 20, 4, 16),
        (7, 256, 1, 7),
        (1, 256, 4, 4),
    ],
)
def test_batches_are_as_few_as_before_and_evenly_filled(num_images, most, multiple, expected):
    found = even_batch_size(num_images, most, multiple)
    assert found == expected
    assert -(-num_images // found) == -(-num_images // most)
    assert found <= most
    assert found % multiple == 0
