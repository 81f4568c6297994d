"""Image folders written here with Pillow: layouts, splits, labels by name, and files that must be refused."""

import numpy as np
import pytest
from PIL import Image

from fer_jax.data.folder_reader import read_folder
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS


def _image(value: int) -> Image.Image:
    pixels = np.arange(48 * 48, dtype=np.uint8).reshape(48, 48)
    pixels[0, 0] = value
    return Image.fromarray(pixels)


def _save(root, name: str, value: int = 0) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    _image(value).save(path)


def _content(split) -> list[tuple[int, str]]:
    return sorted(zip(split.images[:, 0, 0].tolist(), (EXPRESSIONS[label] for label in split.labels), strict=True))


def _three_splits(root) -> None:
    _save(root, "train/happy/b.png", 1)
    _save(root, "train/angry/a.png", 2)
    _save(root, "validation/neutral/a.png", 3)
    _save(root, "test/sad/a.png", 4)


def test_three_splits(tmp_path):
    _three_splits(tmp_path)
    (tmp_path / "train" / "happy" / ".hidden").write_text("")
    (tmp_path / "train" / "happy" / "Thumbs.db").write_text("")
    (tmp_path / "README.md").write_text("beside the folders")
    data = read_folder(tmp_path)
    assert _content(data.train) == [(1, "happy"), (2, "angry")]
    assert _content(data.validation) == [(3, "neutral")]
    assert _content(data.test) == [(4, "sad")]
    np.testing.assert_array_equal(data.test.images[0], np.asarray(_image(4)))
    # Ranks in: test/sad/a, train/angry/a, train/happy/b, validation/neutral/a.
    assert data.test.row_ids.tolist() == [0]
    assert data.train.row_ids.tolist() == [1, 2]
    assert data.validation.row_ids.tolist() == [3]


def test_other_names_of_splits_and_classes(tmp_path):
    _save(tmp_path, "Training/Happiness/a.png", 1)
    _save(tmp_path, "Training/FEARFUL/a.png", 4)
    _save(tmp_path, "PublicTest/ANGER/a.png", 2)
    _save(tmp_path, "privatetest/surprised/a.png", 3)
    data = read_folder(tmp_path)
    found = _content(data.train), _content(data.validation), _content(data.test)
    assert found == ([(1, "happy"), (4, "fear")], [(2, "angry")], [(3, "surprise")])


def test_merged_test_folder_is_split_by_file_names(tmp_path):
    _save(tmp_path, "train/happy/Training_1.jpg")
    _save(tmp_path, "train/sad/Training_2.jpg")
    # The same file names in two class folders, as in the copy that circulates.
    for value, expression in ((10, "angry"), (20, "fear")):
        _save(tmp_path, f"test/{expression}/PublicTest_7.png", value)
        _save(tmp_path, f"test/{expression}/PrivateTest_7.png", value + 1)
    data = read_folder(tmp_path)
    assert _content(data.validation) == [(10, "angry"), (20, "fear")]
    assert _content(data.test) == [(11, "angry"), (21, "fear")]
    ids = np.concatenate([data.train.row_ids, data.validation.row_ids, data.test.row_ids])
    assert sorted(ids) == list(range(6))
    with pytest.raises(InputError, match=r"validation_fraction.*has a validation split of its own"):
        read_folder(tmp_path, validation_fraction=0.1)
    _save(tmp_path, "test/sad/other.png")
    with pytest.raises(InputError, match=r"other\.png.*neither PublicTest_ nor PrivateTest_"):
        read_folder(tmp_path)


@pytest.mark.parametrize("test_name", ["a", "PrivateTest_1"])
def test_a_fraction_is_taken_by_class_and_seed(tmp_path, test_name):
    for value in range(20):
        _save(tmp_path, f"train/happy/{value}.png", value)
    for value in range(100, 110):
        _save(tmp_path, f"train/fear/{value}.png", value)
    _save(tmp_path, f"test/happy/{test_name}.png", 255)
    with pytest.raises(InputError, match=r"config\.data\.validation_fraction"):
        read_folder(tmp_path)
    data = read_folder(tmp_path, validation_fraction=0.2, seed=1)
    assert np.bincount(data.validation.labels, minlength=7).tolist() == [0, 0, 2, 4, 0, 0, 0]
    everything = _content(data.train) + _content(data.validation)
    assert sorted(value for value, _ in everything) == [*range(20), *range(100, 110)]
    assert all(name == ("happy" if value < 20 else "fear") for value, name in everything)
    assert _content(data.test) == [(255, "happy")]
    assert read_folder(tmp_path, validation_fraction=0.2, seed=1).fingerprint() == data.fingerprint()
    assert read_folder(tmp_path, validation_fraction=0.2, seed=2).fingerprint() != data.fingerprint()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(tmp_path, fraction):
    _save(tmp_path, "train/happy/a.png")
    _save(tmp_path, "test/happy/a.png")
    with pytest.raises(InputError, match="expected 0 < x < 1"):
        read_folder(tmp_path, validation_fraction=fraction)


def test_a_fraction_that_takes_nothing_is_refused(tmp_path):
    _save(tmp_path, "train/happy/a.png")
    _save(tmp_path, "test/happy/a.png")
    # Of two images, 0.26 is the smallest fraction of two digits whose product rounds to one.
    _save(tmp_path, "train/happy/b.png")
    with pytest.raises(InputError, match=r"too small to take one of the 2 training images.*set it to 0\.26 or more"):
        read_folder(tmp_path, validation_fraction=0.1)
    _save(tmp_path, "train/sad/a.png")
    assert len(read_folder(tmp_path, validation_fraction=0.26).validation) == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_gray_in_other_modes(tmp_path, mode):
    _three_splits(tmp_path)
    _image(9).convert(mode).save(tmp_path / "test" / "sad" / "a.png")
    np.testing.assert_array_equal(read_folder(tmp_path).test.images[0], np.asarray(_image(9)))


def _two_frames(path) -> None:
    _image(0).save(path, save_all=True, append_images=[_image(99).rotate(90)])


BAD_FILES = {
    "no image": ("bad.png", lambda path: path.write_text("not an image"), "not a readable image"),
    "empty": ("bad.jpg", lambda path: path.write_bytes(b""), "not a readable image"),
    "other suffix": ("bad.txt", lambda path: path.write_text("notes"), "not an image file"),
    "pickle": ("bad.pkl", lambda path: path.write_bytes(b"\x80"), "not an image file"),
    "folder": ("bad.png", lambda path: path.mkdir(), "not an image file"),
    "CMYK": ("bad.jpg", lambda path: _image(0).convert("CMYK").save(path), "image mode CMYK"),
    "transparent": ("bad.png", lambda p: Image.new("RGBA", (48, 48), (9, 9, 9, 254)).save(p), "a transparent image"),
    "animated": ("bad.gif", _two_frames, "2 frames, expected a single image"),
    "16 bits": ("bad.png", lambda p: Image.fromarray(np.ones((48, 48), np.uint16)).save(p), "image mode I;16"),
}


@pytest.mark.parametrize(("name", "make", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named(tmp_path, name, make, message):
    _three_splits(tmp_path)
    bad = tmp_path / "train" / "happy" / name
    make(bad)
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path)
    assert str(caught.value).startswith(f"{bad}: ")
    assert message in str(caught.value)


def test_a_truncated_image_is_named(tmp_path):
    _three_splits(tmp_path)
    file = tmp_path / "train" / "happy" / "b.png"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"b\.png: not a readable image"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/hapy/a.png", "2 of 3 are expressions .* did you mean 'happy'.*config.data.classes=folders"),
        ("test/contempt/a.png", "unknown class folder, expected angry, "),
        ("vaild/happy/a.png", "no known split folder"),
        ("training/happy/a.png", "both name the train split"),
        ("train/a.png", "a file where class folders are expected"),
    ],
)
def test_a_misplaced_folder_is_refused(tmp_path, name, message):
    _three_splits(tmp_path)
    _save(tmp_path, name)
    with pytest.raises(InputError, match=message):
        read_folder(tmp_path)


def test_a_test_folder_may_be_missing_but_not_empty(tmp_path):
    _save(tmp_path, "train/happy/a.png")
    with pytest.raises(InputError, match=r"no validation folder.*config\.data\.validation_fraction"):
        read_folder(tmp_path)
    _save(tmp_path, "train/fear/a.png")
    _save(tmp_path, "validation/happy/a.png")
    data = read_folder(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (2, 1, 0)
    (tmp_path / "test" / "happy").mkdir(parents=True)
    with pytest.raises(InputError, match="no image of the test split"):
        read_folder(tmp_path)


def test_a_folder_without_train_is_refused_with_the_layout(tmp_path):
    _save(tmp_path, "test/cat/a.png")
    with pytest.raises(InputError, match=r"no train folder, found test; expected train\|validation\|test/<class>"):
        read_folder(tmp_path)
