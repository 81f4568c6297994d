"""An audit finds the copies that the test makes, and nothing else; also in data augmented before the split."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from fer_jax.audit.audit import audit
from fer_jax.audit.search import THRESHOLD, same_photographs
from fer_jax.commands.audit import main
from fer_jax.data.dataset import from_rows
from fer_jax.data.sources import load
from fer_jax.data.twins import COLUMNS, digest

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
PICTURES = 60


@pytest.fixture(scope="module")
def pictures():
    """Different pictures with structure at every scale, as photographs have it: uint8 [60, 48, 48]."""
    rng = np.random.default_rng(0)
    layers = [gaussian_filter(rng.normal(size=(PICTURES, 48, 48)), (0, s, s), mode="wrap") * s for s in (1, 2, 4, 8)]
    return np.clip(128 + 90 * sum(layers), 0, 255).astype(np.uint8)


def with_watermark(image):
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((4, 30), "STOCK", fill=255)
    return np.asarray(picture)


def as_jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file))


def turned(image, degrees):
    # From a larger picture, as a camera would see it: without black corners.
    wide = Image.fromarray(np.pad(image, 12, mode="reflect"))
    return np.asarray(wide.rotate(degrees, Image.Resampling.BILINEAR).crop((12, 12, 60, 60)))


COPIES = {
    "mirror": lambda image: image[:, ::-1],
    "shift": lambda image: np.roll(image, (3, -3), axis=(0, 1)),
    "brightness": lambda image: np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8),
    "contrast": lambda image: (0.6 * image + 30).astype(np.uint8),
    "jpeg": as_jpeg,
    "turned left": lambda image: turned(image, 5),
    "turned right": lambda image: turned(image, -5),
    "watermark": with_watermark,
    "cropped": lambda image: np.asarray(Image.fromarray(image[1:-1, 1:-1]).resize((48, 48), Image.Resampling.BICUBIC)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(kind, pictures):
    copies = np.stack([COPIES[kind](picture) for picture in pictures])
    found = same_photographs(np.concatenate([pictures, copies]))
    right = found.second - found.first == PICTURES
    assert right.sum() >= 0.95 * PICTURES
    assert (~right).sum() <= 0.01 * PICTURES
    assert (found.mirrored[right] == (kind == "mirror")).all()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs the real FER2013")
@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_real_faces_are_found(kind):
    faces = np.load(SHARED_DATA / "fer2013.npz")["pixels"]
    chosen = np.random.default_rng(0).choice(len(faces), 1000, replace=False)
    chosen = chosen[faces[chosen].std(axis=(1, 2)) > 5]
    copies = np.stack([COPIES[kind](face) for face in faces[chosen]])
    found = same_photographs(np.concatenate([faces[chosen], copies]))
    assert (found.second - found.first == len(chosen)).sum() >= 0.95 * len(chosen)


def test_groups_labels_and_constant_images(pictures):
    a, b, c = pictures[:3]
    empty = np.full((48, 48), 9, np.uint8)
    brighter = COPIES["brightness"](a)
    images = np.stack([a, b, empty, a, empty, c, brighter, b[:, ::-1]])
    data = from_rows(images, np.array([0, 1, 2, 0, 2, 3, 4, 1]), np.array([0, 0, 0, 1, 1, 2, 2, 2]), "by hand")
    found = audit(data)
    pairs = {(int(found.row_ids[p.first]), int(found.row_ids[p.second])): p.kind for p in found.pairs}
    assert pairs == {(0, 3): "exact", (2, 4): "exact", (0, 6): "near", (3, 6): "near", (1, 7): "mirrored"}
    summary = found.summary()
    assert summary["pairs"]["near"] == {"pairs": 2, "across_splits": 2, "conflicting_labels": 2}
    assert summary["images_with_a_twin"]["test in train"] == {"exact": 0, "near": 1, "mirrored": 1}
    assert summary["images_with_a_twin"]["validation in train"] == {"exact": 2, "near": 0, "mirrored": 0}
    assert summary["constant_images"] == {"train": [2], "validation": [4], "test": []}
    rows = list(csv.DictReader(io.StringIO(found.twins_csv())))
    assert tuple(rows[0]) == COLUMNS
    assert [row["digest_b"] for row in rows if row["kind"] == "mirrored"] == [digest(b[:, ::-1])]


def test_many_equal_images_are_not_listed_in_every_pair(pictures):
    images = np.concatenate([np.repeat(pictures[:1], 100, axis=0), pictures[1:2]])
    splits = np.arange(101) % 3
    found = audit(from_rows(images, np.zeros(101, int), splits, "by hand"))
    assert len(found.pairs) < 600
    with_twin = found.summary()["images_with_a_twin"]
    assert with_twin["test in train"]["exact"] == with_twin["validation in train"]["exact"] == 33


@pytest.fixture(scope="module")
def augmented_folder(pictures, tmp_path_factory):
    """Twenty colour photographs of another size, five versions of each, split after that."""
    root = tmp_path_factory.mktemp("augmented")
    rng = np.random.default_rng(0)
    kinds = ("mirror", "shift", "brightness", "turned left")
    versions = [(i, COPIES[kind](pictures[i]) if kind else pictures[i]) for i in range(20) for kind in (None, *kinds)]
    for place, at in enumerate(rng.permutation(len(versions))):
        split = "train" if place < 60 else "validation" if place < 80 else "test"
        photograph, image = versions[at]
        file = root / split / ("cat" if photograph % 2 else "dog") / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(file)
    return root


def test_the_command_finds_data_augmented_before_they_were_split(augmented_folder, tmp_path, capsys):
    main([str(augmented_folder), "--out", str(tmp_path / "audit")])
    captured = capsys.readouterr()
    assert "looking for candidates: 100 %" in captured.err
    assert "validation images with a twin in train: 20 of 20 (100.0 %)" in captured.out
    assert "test images with a twin in train: 20 of 20" in captured.out
    summary = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert summary["threshold"] == THRESHOLD
    assert summary["fingerprint"] == load(augmented_folder).fingerprint()
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert page.count("<figure") > 40
    with (tmp_path / "audit" / "twins.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all((augmented_folder / row["file_a"]).is_file() for row in rows)


def test_a_folder_that_cannot_be_written_is_named_before_the_search(augmented_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("fer_jax.commands.audit.audit", lambda *arguments: pytest.fail("searched"))
    with pytest.raises(SystemExit):
        main([str(augmented_folder), "--out", str(tmp_path / "file" / "out")])
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["file", "results", "threshold"])
def test_the_command_refuses_before_it_reads(change, tmp_path, capsys):
    out, more = tmp_path / "out", []
    if change == "file":
        out.write_text("mine")
    elif change == "results":
        out.mkdir()
        (out / "twins.csv").write_text("mine")
    else:
        more = ["--threshold=1.5"]
    with pytest.raises(SystemExit):
        main([str(tmp_path / "missing"), "--out", str(out), *more])
    error = capsys.readouterr().err
    assert error.startswith("error: --")
    assert "missing" not in error
