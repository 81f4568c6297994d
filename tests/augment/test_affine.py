import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.scipy.ndimage import map_coordinates
from scipy import ndimage, stats

from fer_jax.augment.affine import (
    NO_AUGMENTATION,
    Augmentation,
    _interpolate,
    _interpolate_by_gather,
    affine_resize,
    augment,
    random_affine,
    resize,
    row_margin,
)
from fer_jax.augment.keys import augmentation_keys
from fer_jax.errors import InputError

SIZE = 48

# float32 rounds a coordinate near 48 by some 1e-5 pixels, and neighbours in noise differ by up to 255 gray levels.
ROUNDING = 5e-3


def noise(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, SIZE, SIZE), dtype=np.uint8)


def smooth_noise(batch: int, sigma: float) -> np.ndarray:
    """Blurred noise stretched to 0..255 in each image: contrast as strong as a face's, without finer detail."""
    blurred = ndimage.gaussian_filter(noise(batch).astype(float), (0, sigma, sigma), mode="nearest")
    low, high = blurred.min(axis=(1, 2), keepdims=True), blurred.max(axis=(1, 2), keepdims=True)
    return ((blurred - low) / (high - low) * 255).astype(np.uint8)


def identity_matrix(output_size: int) -> np.ndarray:
    step = SIZE / output_size
    return np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2]], np.float32)


def random_matrices(batch: int, augmentation: Augmentation, output_size: int, seed: int = 0) -> np.ndarray:
    keys = jax.random.split(jax.random.key(seed), batch)
    return np.asarray(random_affine(keys, augmentation, SIZE, output_size))


def bilinear(image: np.ndarray, matrix: np.ndarray, output_size: int, order: int = 1) -> np.ndarray:
    matrix = matrix.astype(float)
    shape = (output_size, output_size)
    return ndimage.affine_transform(
        image.astype(float), matrix[:, :2], matrix[:, 2], shape, order=order, mode="nearest"
    )


def two_passes(image: np.ndarray, matrix: np.ndarray, output_size: int, margin: int) -> np.ndarray:
    """The two interpolations of `affine_resize`, each an affine map of SciPy's in float64."""
    (a, b, c), (d, e, f) = matrix.astype(float)
    padded = np.pad(image.astype(float), ((margin, margin), (0, 0)), mode="edge")
    # The inverse of (y, x) -> (source row, x), followed by (y, x) -> source column.
    to_output = np.linalg.inv([[a, b, c + margin], [0, 1, 0], [0, 0, 1]])
    column = np.array([d, e, f]) @ to_output
    first = np.array([[1, 0, 0], column])
    rows = ndimage.affine_transform(
        padded, first[:, :2], first[:, 2], (len(padded), output_size), order=1, mode="nearest"
    )
    shape = (output_size, output_size)
    return ndimage.affine_transform(rows, [[a, b], [0, 1]], [c + margin, 0], shape, order=1, mode="nearest")


@pytest.mark.parametrize("output_size", [32, 48, 64, 96, 200])
def test_identity_map_and_resize_equal_jax_and_scipy(output_size):
    images = noise(3)
    matrix = identity_matrix(output_size)
    through_map = affine_resize(images, np.stack([matrix] * 3), output_size, margin=0)
    shape = (3, output_size, output_size)
    of_jax = jax.image.resize(images.astype(np.float32), shape, "linear", antialias=False)
    np.testing.assert_allclose(through_map, of_jax, atol=ROUNDING)
    for image, resized in zip(images, resize(images, output_size), strict=True):
        np.testing.assert_allclose(resized, bilinear(image, matrix, output_size), atol=ROUNDING)


@pytest.mark.parametrize("output_size", [48, 64, 96])
def test_axis_aligned_maps_are_bilinear(output_size):
    augmentation = Augmentation(
        rotation_range=0, width_shift_range=0.3, height_shift_range=0.3, zoom_range=0.4, horizontal_flip=True
    )
    images, matrices = noise(12), random_matrices(12, augmentation, output_size)
    found = affine_resize(images, matrices, output_size, row_margin(augmentation, SIZE, output_size))
    for image, matrix, output in zip(images, matrices, found, strict=True):
        np.testing.assert_allclose(output, bilinear(image, matrix, output_size), atol=ROUNDING)


@pytest.mark.parametrize(("output_size", "rotation"), [(48, 10), (64, 45), (96, 10)])
def test_rotated_maps_are_two_linear_interpolations(output_size, rotation):
    augmentation = Augmentation(rotation_range=rotation, width_shift_range=0.2, zoom_range=0.3)
    images, matrices = noise(12), random_matrices(12, augmentation, output_size)
    margin = row_margin(augmentation, SIZE, output_size)
    found = affine_resize(images, matrices, output_size, margin)
    for image, matrix, output in zip(images, matrices, found, strict=True):
        np.testing.assert_allclose(output, two_passes(image, matrix, output_size, margin), atol=ROUNDING)


def test_rotated_maps_are_near_bilinear():
    augmentation, output_size = Augmentation(), 96
    images, matrices = smooth_noise(40, sigma=1.5), random_matrices(40, augmentation, output_size)
    margin = row_margin(augmentation, SIZE, output_size)
    expected = np.stack([bilinear(*pair, output_size) for pair in zip(images, matrices, strict=True)])
    difference = np.abs(affine_resize(images, matrices, output_size, margin) - expected)
    assert difference.mean() < 0.1
    assert difference.max() < 3

    # Controls: the angle's sign wrong, and no rows beyond the border.
    turned_back = matrices.copy()
    turned_back[:, 0, 1] *= -1
    turned_back[:, 1, 0] *= -1
    centre = np.full(2, (output_size - 1) / 2)
    turned_back[:, :, 2] += (matrices - turned_back)[:, :, :2] @ centre
    assert np.abs(affine_resize(images, turned_back, output_size, margin) - expected).mean() > 10

    assert np.abs(affine_resize(images, matrices, output_size, margin=0) - expected).max() > 30


def test_maps_follow_the_ranges():
    augmentation = Augmentation(rotation_range=30, width_shift_range=0.05, height_shift_range=0.2, zoom_range=0.15)
    output_size = 96
    matrices = random_matrices(3000, augmentation, output_size).astype(float)
    linear, step = matrices[:, :, :2], SIZE / output_size
    angle = np.arctan2(linear[:, 1, 0], linear[:, 0, 0])
    zoom = np.linalg.norm(linear, axis=1) / step
    # Rotation, then shift: the centre is displaced by the shift as the rotation turns it.
    turned_back = np.stack([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    displaced = linear @ np.full(2, (output_size - 1) / 2) + matrices[:, :, 2] - (SIZE - 1) / 2
    shift = (turned_back @ displaced[:, :, None])[:, :, 0] / SIZE
    mirrored = np.linalg.det(linear) < 0

    draws = {"rotation": np.degrees(angle) / 30, "down": shift[:, 0] / 0.2, "right": shift[:, 1] / 0.05}
    draws |= {"tall": (zoom[:, 0] - 1) / 0.15, "wide": (zoom[:, 1] - 1) / 0.15}
    for name, draw in draws.items():
        assert np.abs(draw).max() <= 1 + 1e-4, name
        assert stats.kstest(draw, stats.uniform(-1, 2).cdf).pvalue > 0.01, name
    assert 0.45 < mirrored.mean() < 0.55
    correlations = np.corrcoef([*draws.values(), mirrored])
    assert np.abs(correlations - np.eye(6)).max() < 0.08

    # Perpendicular columns: the zoom acts before the rotation, so nothing is sheared.
    np.testing.assert_allclose((linear[:, :, 0] * linear[:, :, 1]).sum(axis=1), 0, atol=1e-6)


@pytest.mark.optimised
def test_without_flip_and_ranges_the_map_only_resizes():
    np.testing.assert_allclose(random_matrices(5, NO_AUGMENTATION, 96), [identity_matrix(96)] * 5, atol=1e-5)
    images, keys = noise(5), jax.random.split(jax.random.key(0), 5)
    np.testing.assert_array_equal(augment(images, keys, NO_AUGMENTATION, 96), resize(images, 96))


@pytest.mark.parametrize("rotation", [0.5, 10, 45])
def test_margin_holds_the_farthest_corner(rotation):
    augmentation = Augmentation(rotation_range=rotation, width_shift_range=0.05)
    output_size = 96
    margin = row_margin(augmentation, SIZE, output_size)
    # The extremes of every range, and all the angles between.
    rows = SIZE * (0.1 + 1.1 * (output_size - 1) / output_size / 2)
    columns = SIZE * (0.05 + 1.1 * (output_size - 1) / output_size / 2)
    angles = np.radians(np.linspace(0, rotation, 1000))
    beyond = (rows * np.cos(angles) + columns * np.sin(angles)).max() - (SIZE - 1) / 2
    assert beyond <= margin < beyond + 1

    last = output_size - 1
    corners = np.array([[0, 0, 1], [0, last, 1], [last, 0, 1], [last, last, 1]])
    reached = random_matrices(3000, augmentation, output_size)[:, 0] @ corners.T
    assert -margin <= reached.min()
    assert reached.max() <= SIZE - 1 + margin


def augmented(data, seed, step, ids, output_size=64):
    @jax.jit
    def of_step(data, step, ids):
        return augment(data[ids], augmentation_keys(seed, step, ids), Augmentation(), output_size)

    return np.asarray(of_step(data, step, np.asarray(ids, np.int32)))


@pytest.mark.optimised
def test_an_example_is_augmented_alike_in_any_batch():
    # One image for every row id, so that all differences come from the keys.
    data = np.repeat(noise(1), 40, axis=0)
    batch = augmented(data, 3, 7, [5, 30, 11, 0])
    np.testing.assert_array_equal(augmented(data, 3, 7, [5, 30, 11, 0]), batch)
    np.testing.assert_array_equal(augmented(data, 3, 7, [0, 11, 39, 5])[[3, 1, 0]], batch[[0, 2, 3]])
    for other in (augmented(data, 4, 7, [5, 30, 11, 0]), augmented(data, 3, 8, [5, 30, 11, 0]), batch[[1, 2, 3, 0]]):
        assert np.abs(other - batch).mean(axis=(1, 2)).min() > 5


@pytest.mark.optimised
def test_an_example_is_augmented_alike_on_two_devices():
    program = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fer_jax.augment.affine import Augmentation, augment
from fer_jax.augment.keys import augmentation_keys

@jax.jit
def augmented(images, ids):
    return augment(images, augmentation_keys(0, 5, ids), Augmentation(), 64)

images = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
ids = np.arange(6, dtype=np.int32)
split = NamedSharding(Mesh(jax.devices(), "data"), PartitionSpec("data"))
on_two = augmented(*jax.device_put((images, ids), split))
assert len(on_two.sharding.device_set) == 2
np.testing.assert_array_equal(on_two, augmented(images, ids))
"""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
    }
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def indexing_operations(function, *arguments) -> set[str]:
    """Operations that fetch from computed places, in the program as traced and as compiled."""
    lowered = jax.jit(function).lower(*arguments)
    text = lowered.as_text() + lowered.compile().as_text()
    return {
        name.replace("_", "-") for name in re.findall(r"\b(gather|scatter|dynamic[_-](?:update[_-])?slice)\b", text)
    }


@pytest.mark.optimised
def test_no_gather_is_compiled():
    images, ids, step = noise(4), np.arange(4, dtype=np.int32), np.int32(9)

    def with_map(images, step, ids):
        return augment(images, augmentation_keys(0, step, ids), Augmentation(), 96)

    assert indexing_operations(with_map, images, step, ids) == set()
    assert indexing_operations(lambda images: resize(images, 96), images) == set()

    def gathering(image, rows, columns):
        return map_coordinates(image, [rows, columns], order=1, mode="nearest")

    places = np.random.default_rng(0).uniform(0, 47, (2, 96, 96)).astype(np.float32)
    assert "gather" in indexing_operations(gathering, images[0].astype(np.float32), *places)
    assert "dynamic-slice" in indexing_operations(lambda x, i: jax.lax.dynamic_slice(x, (i, 0), (1, 4)), places[0], 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("horizontal_flip", 1),
        ("rotation_range", 46),
        ("rotation_range", -1.0),
        ("rotation_range", float("nan")),
        ("rotation_range", True),
        ("width_shift_range", 1.0),
        ("height_shift_range", "0.1"),
        ("zoom_range", 1.0),
        ("zoom_range", [0.9, 1.1]),
        ("fill_mode", "constant"),
    ],
)
def test_a_value_outside_its_range_is_refused(key, value):
    with pytest.raises(InputError, match=rf"config\.augment\.{key}: found {re.escape(repr(value))}, expected"):
        Augmentation(**{key: value})


@pytest.mark.parametrize(("size", "output_size"), [(65, 48), (130, 96)])
def test_large_images_in_colour_equal_two_passes_of_scipy(size, output_size):
    """Above 64 pixels a CPU gathers; the reference is the same as for the sum."""
    augmentation = Augmentation(rotation_range=30)
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    keys = jax.random.split(jax.random.key(1), 3)
    matrices = np.asarray(random_affine(keys, augmentation, size, output_size))
    margin = row_margin(augmentation, size, output_size)
    found = affine_resize(images, matrices, output_size, margin)
    assert found.shape == (3, output_size, output_size, 3)
    for image, matrix, result in zip(images, matrices, found, strict=True):
        for channel in range(3):
            expected = two_passes(image[..., channel], matrix, output_size, margin)
            np.testing.assert_allclose(result[..., channel], expected, atol=3 * ROUNDING)


def test_sum_and_gather_agree_at_whole_pixels_and_between():
    values = np.random.default_rng(0).uniform(0, 255, (2, 5, 9)).astype(np.float32)
    positions = np.linspace(0, 8, 33, dtype=np.float32) + np.zeros((2, 5, 1), np.float32)
    by_sum = _interpolate(values, positions, axis=2)
    np.testing.assert_allclose(_interpolate_by_gather(values, positions, axis=2), by_sum, atol=1e-3)


@pytest.mark.parametrize("size", [48, 80])
def test_each_channel_is_augmented_as_a_gray_image(size):
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    keys = augmentation_keys(0, 3, np.arange(4))
    for augmentation in (Augmentation(), NO_AUGMENTATION):
        found = augment(images, keys, augmentation, 56)
        for channel in range(3):
            gray = augment(images[..., channel], keys, augmentation, 56)
            np.testing.assert_allclose(found[..., channel], gray, atol=2 * ROUNDING)
