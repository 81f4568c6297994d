"""Random erasing: rectangles by the paper's bounds, noise inside them, the image elsewhere."""

import jax
import numpy as np
import pytest
from scipy import stats

from fer_jax.augment.affine import NO_AUGMENTATION, Augmentation, augment
from fer_jax.augment.random_erasing import AREA, LEAST_ASPECT, erase, random_rectangles
from fer_jax.errors import InputError

SIZE = 96


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def test_rectangles_keep_to_the_bounds_of_the_paper():
    top, left, height, width = np.asarray(random_rectangles(keys(4000), SIZE)).T
    assert min(top.min(), left.min()) == 0
    assert max((top + height).max(), (left + width).max()) == SIZE
    # The sides are whole pixels.
    slack = 1 / height.min() + 1 / width.min()
    area = height * width / SIZE**2
    assert AREA[0] * (1 - slack) <= area.min() < 0.03
    assert 0.38 < area.max() <= AREA[1] * (1 + slack)
    assert stats.kstest(area, stats.uniform(AREA[0], AREA[1] - AREA[0]).cdf).statistic < 0.03
    ratio = np.log(height / width)
    assert np.abs(ratio).max() <= -np.log(LEAST_ASPECT) + slack
    assert abs(ratio.mean()) < 0.05


def test_small_images_are_not_left():
    top, left, height, width = np.asarray(random_rectangles(keys(2000), 4)).T
    assert min(top.min(), left.min(), height.min() - 1, width.min() - 1) >= 0
    assert max((top + height).max(), (left + width).max()) <= 4


def test_only_a_rectangle_becomes_noise():
    # Values that noise in 0..255 cannot have show what was left alone.
    images = np.full((400, SIZE, SIZE), -1, np.float32)
    erased = np.asarray(erase(images, keys(400), probability=0.5))
    changed = erased != -1
    touched = changed.any(axis=(1, 2))
    # Four standard deviations of 400 draws.
    assert abs(touched.mean() - 0.5) < 4 * 0.5 / np.sqrt(400)
    for mask in changed[touched]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.sum() == len(rows) * len(columns)
    noise = erased[changed]
    assert noise.min() >= 0
    assert noise.max() <= 255
    assert stats.kstest(noise[::1000], stats.uniform(0, 255).cdf).pvalue > 1e-3


@pytest.mark.optimised
def test_colour_is_erased_where_gray_is_and_by_the_same_noise():
    gray = np.random.default_rng(0).uniform(0, 255, (20, SIZE, SIZE)).astype(np.float32)
    tints = gray[..., None] + np.array([300, 600, 900], np.float32)
    expected = np.asarray(erase(gray, keys(20), probability=0.5))
    erased = np.asarray(erase(tints, keys(20), probability=0.5))
    changed = expected != gray
    assert 0 < changed.mean() < 0.5
    for channel in range(3):
        np.testing.assert_array_equal(erased[..., channel], np.where(changed, expected, tints[..., channel]))


@pytest.mark.optimised
def test_each_image_is_erased_by_its_own_key():
    images = np.random.default_rng(0).uniform(0, 255, (6, SIZE, SIZE)).astype(np.float32)
    whole = erase(images, keys(6), probability=1.0)
    np.testing.assert_array_equal(erase(images[2:4], keys(6)[2:4], probability=1.0), whole[2:4])
    assert not np.array_equal(whole[0] - images[0], whole[1] - images[1])


def test_augmentation_erases_what_it_has_resized():
    images = np.full((200, 48, 48), 128, np.uint8)
    always = Augmentation(horizontal_flip=False, rotation_range=0, zoom_range=0, random_erasing=1.0)
    out = np.asarray(augment(images, keys(200), always, SIZE))
    share = (np.abs(out - 128) > 1e-3).mean(axis=(1, 2))
    assert share.min() > 0.01
    assert share.mean() == pytest.approx(np.mean(AREA), abs=0.03)
    assert np.abs(np.asarray(augment(images, keys(200), NO_AUGMENTATION, SIZE)) - 128).max() == 0


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "often"])
def test_probability_is_checked(value):
    with pytest.raises(InputError, match=r"config\.augment\.random_erasing"):
        Augmentation(random_erasing=value)
