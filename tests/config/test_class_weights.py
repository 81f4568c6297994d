"""Class weights: every form of them, and their scale."""

import numpy as np
import pytest

from fer_jax.config.class_weights import class_weights
from fer_jax.config.defaults import default_config
from fer_jax.errors import InputError

NAMES = ("angry", "disgust", "happy")
COUNTS = (40, 10, 50)


def test_balanced_is_scikit_learn_s():
    utils = pytest.importorskip("sklearn.utils")
    labels = np.repeat(range(3), COUNTS)
    expected = utils.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights("balanced", NAMES, COUNTS), expected)


def test_balanced_leaves_a_class_without_images_out_of_account():
    assert class_weights("balanced", NAMES, (50, 0, 50))[::2] == pytest.approx((1, 1))


@pytest.mark.parametrize(
    "value",
    [
        (1, 8, 1),
        "1,8,1",
        "(1, 8, 1)",
        "[1, 8, 1]",
        {"disgust": 8},
        "disgust:8",
        "disgust=8, angry = 1",
        "{'disgust': 8}",
    ],
)
def test_every_form_gives_the_same_with_a_mean_of_1(value):
    config = default_config()
    config.train.class_weights = value
    found = class_weights(config.train.class_weights, NAMES, COUNTS)
    assert found == pytest.approx((1 / 1.7, 8 / 1.7, 1 / 1.7))
    assert np.dot(found, COUNTS) == pytest.approx(sum(COUNTS))


def test_without_any_or_without_counts():
    assert class_weights(None, NAMES, COUNTS) is None
    assert class_weights("balanced", NAMES) == (1, 1, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), "2 numbers, expected 3, one for each of angry, disgust, happy"),
        ("disgusting:3", "no class 'disgusting'; did you mean 'disgust'?; they have angry, disgust, happy"),
        ({"sad": 3}, "the data have no class 'sad'"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(value, message):
    with pytest.raises(InputError) as error:
        class_weights(value, NAMES, COUNTS)
    assert message in str(error.value)
