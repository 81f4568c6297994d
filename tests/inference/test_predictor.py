"""The batches that an evaluation runs in, and how often it compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.inference.model import TrainedModel
from fer_jax.inference.predictor import Predictor, even_batch_size
from fer_jax.runtime.sharding import make_mesh


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


def first_pixels(params, batch_stats, images):
    """A stand-in for a network: the first seven pixels of each image as its logits."""
    return images.reshape(len(images), -1)[:, :7].astype(jnp.float32)


def test_each_shape_is_compiled_for_once_and_announced():
    announced = []
    predict = Predictor(first_pixels, 4, make_mesh(), before_compile=lambda: announced.append("compiling"))
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8), np.uint8)
    for n in (10, 6, 10, 6):
        found = predict({}, {}, jnp.asarray(images[:n]))
        np.testing.assert_array_equal(found, images[:n].reshape(n, -1)[:, :7])
    # Two splits of different size are two programs, whichever of them came first.
    assert len(announced) == 2


def test_model_is_compiled_once_for_images_of_one_number(whole_run, faces):
    model = TrainedModel(whole_run[0])
    first = model.probabilities(faces.validation.images)
    compilations = []

    def listener(event, *_, **__):
        compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        again = model.probabilities(faces.validation.images)
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    np.testing.assert_array_equal(again, first)
    assert not [event for event in compilations if "backend_compile" in event]
