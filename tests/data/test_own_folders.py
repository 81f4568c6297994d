"""Image folders of a user's own: classes, sizes, colours, and what training and evaluation make of them."""

import logging

import numpy as np
import pytest
from PIL import Image

from fer_jax.data import input_choice
from fer_jax.data.classes import decide_class_names
from fer_jax.data.folder_reader import read_folder
from fer_jax.data.image_files import ImageFiles, decode
from fer_jax.data.options import FolderOptions
from fer_jax.data.sources import load
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS


def _photo(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth noise, so that resizing and JPEG leave it recognisable."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def _save(root, name: str, image: Image.Image, **options) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def _folder(root, names=("cat", "dog"), size=(40, 30), mode="RGB") -> None:
    for split in ("train", "validation"):
        for place, name in enumerate(names):
            _save(root, f"{split}/{name}/{place}.png", _photo(*size, mode, seed=place))


def test_class_names_are_the_sorted_folders_of_train(tmp_path):
    _folder(tmp_path, ("owl", "cat", "dog"))
    _save(tmp_path, "test/dog/x.png", _photo(40, 30))
    data = read_folder(tmp_path)
    assert data.class_names == ("cat", "dog", "owl")
    # Sorted paths: cat/1, dog/2, owl/0.
    assert data.train.labels.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [1]
    assert not data.has_form_of_fer2013()
    assert data.describe_split("test") == "test"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["sad", "Happiness"], EXPRESSIONS),
        (["cat", "dog", "happy"], ("cat", "dog", "happy")),
        (["b", "a"], ("a", "b")),
    ],
)
def test_automatic_classes(tmp_path, names, expected):
    assert decide_class_names(tmp_path, names, "auto") == expected


@pytest.mark.parametrize("names", [[*EXPRESSIONS, "contempt"], ["hapy", "sad"], ["happy", "not_happy"]])
def test_names_among_expressions_are_mistakes_unless_forced(tmp_path, names):
    with pytest.raises(InputError, match=r"unknown class folder, while .*config\.data\.classes=folders"):
        decide_class_names(tmp_path, names, "auto")
    assert decide_class_names(tmp_path, names, "folders") == tuple(sorted(names))


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "no class folder"), (["cat"], "one class folder, 'cat'"), (["Cat", "cat"], "differ in letter case only")],
)
def test_impossible_classes_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        decide_class_names(tmp_path, names, "auto")


def test_validation_may_lack_a_class_but_bring_none(tmp_path):
    _folder(tmp_path)
    (tmp_path / "validation" / "cat" / "0.png").unlink()
    (tmp_path / "validation" / "cat").rmdir()
    assert read_folder(tmp_path).validation.labels.tolist() == [1]
    _save(tmp_path, "validation/Dog/a.png", _photo(9, 9))
    with pytest.raises(
        InputError, match=r"validation/Dog: unknown class folder, expected cat, dog; did you mean 'dog'"
    ):
        read_folder(tmp_path)


def test_a_class_without_training_images_is_refused(tmp_path):
    _folder(tmp_path)
    (tmp_path / "train" / "owl").mkdir()
    with pytest.raises(InputError, match="no training image of the class 'owl'"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ([(48, 48)], FolderOptions(input_size=32), 48),
        ([(64, 64)], FolderOptions(input_size=200), 64),
        ([(640, 480), (30, 20)], FolderOptions(input_size=200), 200),
        ([(640, 480)], FolderOptions(input_size=32), 48),
        ([(60, 40)], FolderOptions(input_size=200), 60),
        ([(640, 480)], FolderOptions(image_size=112), 112),
    ],
)
def test_size_of_the_images(tmp_path, caplog, sizes, options, expected):
    for place, size in enumerate(sizes):
        _folder(tmp_path, (f"a{place}", f"b{place}"), size)
    with caplog.at_level(logging.WARNING, "fer_jax"):
        data = read_folder(tmp_path, options=options)
    assert data.image_shape == (expected, expected, 3)
    assert len(caplog.records) == (sizes != [(expected, expected)])


def test_gray_files_in_three_channels_are_gray_data(tmp_path):
    _folder(tmp_path / "gray", mode="L")
    for file in (tmp_path / "gray").rglob("*.png"):
        Image.open(file).convert("RGB").save(file)
    assert read_folder(tmp_path / "gray").image_shape == (40, 40)
    # One coloured pixel in one file.
    image = Image.open(file)
    image.putpixel((3, 4), (9, 9, 10))
    image.save(file)
    data = read_folder(tmp_path / "gray")
    assert data.image_shape == (40, 40, 3)
    assert (data.train.images == data.train.images[..., :1]).all()


def test_decode_takes_the_centre_and_equals_pillow(tmp_path):
    photo = _photo(90, 60)
    _save(tmp_path, "a.png", photo)
    expected = np.asarray(photo.resize((30, 30), Image.Resampling.BILINEAR, box=(15, 0, 75, 60)))
    np.testing.assert_array_equal(decode(tmp_path / "a.png", (30, 30, 3)), expected)
    gray = decode(tmp_path / "a.png", (30, 30))
    np.testing.assert_allclose(gray, expected @ [0.299, 0.587, 0.114], atol=1.5)


def test_decode_of_a_large_jpeg_is_close_to_the_whole_one(tmp_path):
    photo = _photo(1600, 1200)
    _save(tmp_path, "a.jpg", photo, quality=95)
    expected = np.asarray(photo.crop((200, 0, 1400, 1200)).resize((64, 64), Image.Resampling.BILINEAR), float)
    assert np.abs(decode(tmp_path / "a.jpg", (64, 64, 3)) - expected).mean() < 2


def test_exif_orientation_is_applied(tmp_path):
    photo = _photo(40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    _save(tmp_path, "a.png", photo, exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", (40, 40, 3)), np.rot90(np.asarray(photo), -1))


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_jax.data.image_files.MAX_PIXELS", 1000)
    _folder(tmp_path)
    with pytest.raises(InputError, match=r"cat/0\.png: 40 x 30 pixels, expected at most 1,000"):
        read_folder(tmp_path)


def test_streamed_data_stay_in_their_files_and_have_the_same_images(tmp_path):
    _folder(tmp_path)
    streamed = read_folder(tmp_path, options=FolderOptions(input="streaming"))
    assert isinstance(streamed.train.images, ImageFiles)
    read = read_folder(tmp_path)
    np.testing.assert_array_equal(streamed.in_memory().train.images, read.train.images)
    assert streamed.in_memory().fingerprint() == read.fingerprint()
    # Of the files' names and sizes, and of nothing else.
    fingerprint = streamed.fingerprint()
    (tmp_path / "train" / "cat" / "0.png").touch()
    assert read_folder(tmp_path, options=FolderOptions(input="streaming")).fingerprint() == fingerprint
    _save(tmp_path, "train/cat/0.png", _photo(41, 30, seed=7))
    assert read_folder(tmp_path, options=FolderOptions(input="streaming")).fingerprint() != fingerprint


def test_size_decides_between_memory_and_files(tmp_path, monkeypatch):
    _folder(tmp_path)
    monkeypatch.setattr(input_choice, "RESIDENT_LIMIT", 4 * 40 * 40 * 3)
    assert isinstance(read_folder(tmp_path).train.images, np.ndarray)
    monkeypatch.setattr(input_choice, "RESIDENT_LIMIT", 4 * 40 * 40 * 3 - 1)
    assert isinstance(read_folder(tmp_path).train.images, ImageFiles)
    assert isinstance(read_folder(tmp_path, options=FolderOptions(input="resident")).train.images, np.ndarray)


def test_evaluation_takes_classes_size_and_colour_from_the_model(tmp_path):
    for name in ("dog", "cat"):
        _save(tmp_path, f"test/{name}/a.png", _photo(70, 70))
    options = FolderOptions(image_size=24, colour=False, class_names=("bird", "cat", "dog"))
    data = load(tmp_path, validation_fraction=0.1, folder=options)
    assert data.test.images.shape == (2, 24, 24)
    assert data.test.labels.tolist() == [1, 2]
    assert (len(data.train), len(data.validation)) == (0, 0)
    assert load("synthetic:8", validation_fraction=0.1, folder=options).class_names == EXPRESSIONS


def test_a_size_is_refused_where_nothing_is_resized():
    with pytest.raises(InputError, match=r"config\.data\.image_size is 64, but only the images of a folder"):
        load("synthetic:8", folder=FolderOptions(image_size=64))


def test_classes_are_refused_where_there_are_no_class_folders():
    with pytest.raises(InputError, match=r"config\.data\.classes \(--classes\) is folders, but only an image folder"):
        load("synthetic:8", folder=FolderOptions(classes="folders"))
    assert len(load("synthetic:8", folder=FolderOptions(classes="auto")).train) == 8
