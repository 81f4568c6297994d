"""What people hand to a trained model: what is accepted is right to the pixel, and the rest is refused in one line."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from fer_jax.data.image_files import ImageFiles, decode
from fer_jax.errors import InputError
from fer_jax.inference.given_images import given_images

GRAY, RGB = (48, 48), (48, 48, 3)
RANDOM = np.random.default_rng(0)
FACES = RANDOM.integers(0, 256, (5, 48, 48), np.uint8)
COLOUR = RANDOM.integers(0, 256, (5, 48, 48, 3), np.uint8)


def taken(images, image_shape=GRAY, most=100):
    batches = list(given_images(images, image_shape).batches(most))
    return np.concatenate([np.empty((0, *image_shape), np.uint8), *batches])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (FACES, FACES),
        (FACES[0], FACES[:1]),
        (FACES[..., None], FACES),
        (FACES[0, ..., None], FACES[:1]),
        (FACES[:3], FACES[:3]),
        (list(FACES), FACES),
        (tuple(FACES[..., None]), FACES),
        (FACES.astype(np.int64), FACES),
        ([FACES[0], Image.fromarray(FACES[1]), FACES[2].astype(np.uint16)], FACES[:3]),
        (Image.fromarray(FACES[0]), FACES[:1]),
        ([], FACES[:0]),
        (FACES[:0], FACES[:0]),
        (np.array([]), FACES[:0]),
        (np.empty((0, 48, 48, 3)), FACES[:0]),
    ],
)
def test_gray_images_of_the_right_size_stay_as_they_are(images, expected):
    found = taken(images)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def pillow_gray(images):
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])


def test_colours_become_those_of_the_training_images():
    for images in (COLOUR, list(COLOUR), [Image.fromarray(image) for image in COLOUR]):
        np.testing.assert_array_equal(taken(images), pillow_gray(COLOUR))
        np.testing.assert_array_equal(taken(images, RGB), COLOUR)
    np.testing.assert_array_equal(taken(FACES, RGB), np.stack([FACES] * 3, axis=-1))
    np.testing.assert_array_equal(taken([COLOUR[0], FACES[1]], RGB)[1], np.stack([FACES[1]] * 3, axis=-1))


@pytest.mark.parametrize("shape", [(90, 60), (30, 47), (90, 60, 3), (1000, 1200, 3)])
@pytest.mark.parametrize("image_shape", [GRAY, RGB])
def test_other_sizes_become_what_a_folder_of_training_images_would_be(shape, image_shape, tmp_path):
    image = RANDOM.integers(0, 256, shape, np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    expected = decode(tmp_path / "image.png", image_shape)
    for given in (image, image[None], [image], Image.fromarray(image), str(tmp_path / "image.png")):
        np.testing.assert_array_equal(taken(given, image_shape), expected[None])
    mixed = taken([image, FACES[0], tmp_path / "image.png"], image_shape, most=2)
    np.testing.assert_array_equal(mixed[[0, 2]], np.stack([expected] * 2))


def test_files_of_a_streamed_split_are_read(tmp_path):
    Image.fromarray(FACES[0]).save(tmp_path / "a.png")
    files = ImageFiles(str(tmp_path), ("a.png",), np.array([1]), (64, 64, 3))
    np.testing.assert_array_equal(taken(files), FACES[:1])


def test_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(FACES[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(taken("~/a.png"), FACES[:1])


FLOATS = (FACES / 255).astype(np.float32)
NOT_FINITE = np.where(FACES < 128, np.nan, FACES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (FLOATS, r"images: float32 \[5, 48, 48\] from 0 to 1, .* 0 to 1, give numpy\.round\(images \* 255\)\.astype"),
        (FLOATS[0] * 2 - 1, r"from -1 to 1, .*round\(\(images \+ 1\) \* 127\.5\)"),
        (FACES.astype(float), r"from 0 to 255, .*round\(images\)"),
        (FACES - 140.5, "before they were normalised"),
        (NOT_FINITE, "not finite"),
        ([FLOATS[0]], r"image 0 of the list: float32 \[48, 48\]"),
        (FACES.astype(np.int16) - 1, r"int16 \[5, 48, 48\] from -1 to 25\d, expected numbers from 0 to 255"),
        (FACES.astype(np.uint16) * 257, "from 0 to 65535"),
        (FACES > 3, r"bool \[5, 48, 48\], expected uint8"),
        (np.array(["a.png"]), "<U5"),
        (np.moveaxis(COLOUR, -1, 1), r"channels on the last axis; move the channels .*numpy\.moveaxis\(images, -3, -1"),
        ([np.moveaxis(COLOUR[0], -1, 0)], r"expected one image.*moveaxis"),
        (np.stack([COLOUR[..., 0]] * 4, -1), r"3 channels on the last axis; leave its last channel out"),
        (np.zeros((48, 48, 4), np.uint8), "leave its last channel out"),
        (np.zeros((48, 48, 2), np.uint8), "expected 1 or 3 channels"),
        (np.zeros((2, 3, 48, 48, 3), np.uint8), r"uint8 \[2, 3, 48, 48, 3\], expected uint8 \[h, w\]"),
        (np.zeros(48 * 48, np.uint8), r"uint8 \[2304\], expected"),
        (np.uint8(3), r"uint8 \[\], expected|uint8, expected"),
        (np.zeros((5, 0, 48), np.uint8), "at least 8 x 8"),
        (np.zeros((4, 48), np.uint8), "at least 8 x 8"),
        ([FACES], r"image 0 of the list: uint8 \[5, 48, 48\], expected one image"),
        ([FACES[0], FACES[:0]], r"image 1 of the list: uint8 \[0, 48, 48\], expected one image"),
        (FACES.tolist(), "image 0 of the list: a list, expected"),
        (3, "images: int, expected"),
        (None, "images: NoneType, expected"),
        ([FACES[0], None], "image 1 of the list: NoneType, expected"),
        (b"\x89PNG", "images: bytes, expected"),
        ({"a": FACES}, "images: dict, expected"),
        ((image for image in FACES), "images: generator, expected"),
        (FACES.astype(object), "object"),
        ("nowhere.png", r"nowhere\.png: not a readable image"),
        ("", "the image: is empty, expected a path"),
        (Image.fromarray(FACES[0]).convert("F"), "the image: image mode F, expected 8-bit gray or RGB"),
        ([Image.new("RGBA", (9, 9))], "image 0 of the list: a transparent image"),
        (pathlib.Path("x" * 5000), "the image: cannot be looked up"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_in_one_line(images, message):
    with pytest.raises(InputError) as caught:
        taken(images)
    assert re.search(message, str(caught.value)), caught.value


def test_three_planes_are_channels_or_images_by_the_model():
    np.testing.assert_array_equal(taken(FACES[:3]), FACES[:3])
    with pytest.raises(InputError, match="channels first, or three gray ones"):
        taken(FACES[:3], RGB)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_damaged_and_foreign_files_are_named(content, tmp_path):
    file = tmp_path / "photo.png"
    file.write_bytes(content)
    for given in (file, [FACES[0], str(file)]):
        with pytest.raises(InputError, match=r"photo\.png: not a readable image"):
            taken(given)
    with pytest.raises(InputError, match="a folder; give a list of the files in it"):
        taken(tmp_path)


def test_an_image_that_pillow_has_opened_may_still_be_damaged(tmp_path):
    Image.fromarray(COLOUR[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:1000])
    with Image.open(tmp_path / "a.png") as image, pytest.raises(InputError, match="the image: not a readable image"):
        taken(image)
