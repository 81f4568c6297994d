"""`load`: which reader a source goes to, what is refused, and when it warns."""

import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.fer2013 import USAGE_OF_SPLIT
from fer_jax.data.sources import load
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.data.tfds_builder import write_tfds
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS

FACES = synthetic_faces(16, 2, 4, seed=0)


def _write_csv(path) -> None:
    rows = [
        f"{label},{' '.join(map(str, image.ravel()))},{USAGE_OF_SPLIT[name]}"
        for name in SPLITS
        for image, label in zip(FACES.split(name).images, FACES.split(name).labels, strict=True)
    ]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows, ""]))


def _write_folder(path, splits=SPLITS) -> None:
    for name in splits:
        split = FACES.split(name)
        for image, label, row_id in zip(split.images, split.labels, split.row_ids, strict=True):
            file = path / name / EXPRESSIONS[label] / f"{row_id}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def _same_images(data: Dataset) -> bool:
    def content(split):
        return sorted((image.tobytes(), label) for image, label in zip(split.images, split.labels, strict=True))

    return all(content(data.split(name)) == content(FACES.split(name)) for name in SPLITS)


def test_synthetic_sizes_and_fixed_seed():
    data = load("synthetic:80")
    assert [len(data.split(name)) for name in SPLITS] == [80, 10, 20]
    assert load("synthetic:80", seed=5).fingerprint() == data.fingerprint()
    default = load("synthetic")
    assert [len(default.split(name)) for name in SPLITS] == [8000, 1000, 2000]


@pytest.mark.parametrize("source", ["synthetic:", "synthetic:7", "synthetic:-80", "synthetic:1e3", "synthetic:9999999"])
def test_a_bad_synthetic_size_is_refused(source):
    with pytest.raises(InputError, match="from 8 to 999999"):
        load(source)


def test_csv_is_cached_and_compared(tmp_path, caplog):
    _write_csv(tmp_path / "faces.CSV")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fer_jax"):
            assert load(tmp_path / "faces.CSV", cache_dir=tmp_path / "cache").fingerprint() == FACES.fingerprint()
        missing, published = [record.getMessage() for record in caplog.records]
        assert missing.startswith("csv faces.CSV: no image of ")
        assert published == (
            "csv faces.CSV: 16 / 2 / 4 images in train / validation / test, "
            "the published FER2013 has 28709 / 3589 / 3589"
        )
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_folder(tmp_path, caplog):
    _write_folder(tmp_path / "faces")
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert _same_images(load(str(tmp_path / "faces")))
    assert [("published" in record.getMessage()) for record in caplog.records] == [False, True]


def test_folder_with_a_fraction(tmp_path):
    _write_folder(tmp_path, ("train", "test"))
    with pytest.raises(InputError, match=r"config\.data\.validation_fraction"):
        load(tmp_path)
    data = load(tmp_path, validation_fraction=0.5, seed=1)
    assert len(data.train) + len(data.validation) == 16
    assert np.bincount(data.validation.labels, minlength=7).tolist() == [
        round(n / 2) for n in np.bincount(FACES.train.labels, minlength=7)
    ]
    assert load(tmp_path, validation_fraction=0.5, seed=2).fingerprint() != data.fingerprint()


def test_tfds(tmp_path, caplog):
    write_tfds(FACES, tmp_path)
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert load(tmp_path).fingerprint() == FACES.fingerprint()
    assert not caplog.records


def test_a_fraction_is_refused_where_a_validation_split_exists(tmp_path):
    _write_csv(tmp_path / "faces.csv")
    _write_folder(tmp_path / "folder")
    write_tfds(FACES, tmp_path / "tfds")
    for source in ("synthetic:80", tmp_path / "faces.csv", tmp_path / "folder", tmp_path / "tfds"):
        with pytest.raises(InputError, match="validation split of its own"):
            load(source, validation_fraction=0.1, cache_dir=tmp_path / "cache")


class _Trap:
    def __reduce__(self):
        return open, ("trap", "w")


@pytest.mark.parametrize("name", ["faces.pkl", "faces.PICKLE"])
def test_a_pickle_is_refused_unopened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(InputError, match=r"unpickling runs code.*expected 'synthetic'"):
        load(name)
    assert not (tmp_path / "trap").exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "no such file or folder"), ("absent.csv", "no such file"), ("faces.npz", "not a known kind of file")],
)
def test_other_sources_are_refused(tmp_path, name, message):
    (tmp_path / "faces.npz").write_bytes(b"")
    with pytest.raises(InputError, match=rf"{message}.*\.csv file, an image folder"):
        load(tmp_path / name)
