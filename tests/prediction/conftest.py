"""A stand-in for a network, and pictures to predict."""

import numpy as np
import pytest

from fer_jax.expressions import EXPRESSIONS


class Brightness:
    """Judges a face by its mean: class i for a brightness from 36 i on; counts the batches that it is asked for."""

    class_names = EXPRESSIONS
    image_shape = (48, 48)

    def __init__(self):
        self.batches = []

    def predict(self, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == self.image_shape
        self.batches.append(len(images))
        classes = np.minimum(images.mean(axis=(1, 2)) // 36, 6).astype(int)
        return (np.eye(7, dtype=np.float32)[classes] * 0.9 + 0.1 / 7).astype(np.float32)


@pytest.fixture
def classifier():
    return Brightness()
