"""Damaged csv files, image folders, caches, and sources that are no source."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from fer_jax.data.csv_cache import read_csv_cached
from fer_jax.data.csv_reader import read_csv
from fer_jax.data.folder_reader import read_folder
from fer_jax.data.options import FolderOptions
from fer_jax.data.sources import load

PIXELS = " ".join(map(str, np.random.default_rng(0).integers(0, 256, 2304)))
USAGES = ("Training", "Training", "PublicTest", "PrivateTest")
LINES = ["emotion,pixels,Usage", *(f"{label},{PIXELS},{usage}" for label, usage in enumerate(USAGES))]
CSV = "\n".join(LINES).encode()


def _written(place, content):
    path = place / "faces.csv"
    path.write_bytes(content)
    return path


def test_bytes_of_a_csv(survives, damage):
    survives(damage.splices(len(CSV)), lambda place, d: _written(place, damage.spliced(CSV, d)), read_csv, few=100)


def test_lines_and_cells_of_a_csv(survives):
    """Lines in another order, again, or not at all; any text in a cell."""
    cell = st.tuples(st.integers(0, 4), st.integers(0, 2), st.text(max_size=30) | st.just(PIXELS * 40))

    def lay(place, drawn):
        order, cells = drawn
        rows = [line.split(",") for line in LINES]
        for row, column, text in cells:
            rows[row][column] = text
        text = "\n".join(",".join(rows[row]) for row in order)
        return _written(place, text.encode("utf-8", "surrogatepass"))

    survives(st.tuples(st.lists(st.integers(0, 4), max_size=8), st.lists(cell, max_size=3)), lay, read_csv, few=100)


def test_something_else_in_the_place_of_a_csv(survives, damage):
    def lay(place, kind):
        damage.replace_by(kind, place / "faces.csv", place.parent / "outside")
        return place / "faces.csv"

    survives(damage.kinds, lay, load, few=10)


def test_a_damaged_cache_costs_time_only(survives, damage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    path = _written(folder, CSV)
    expected = read_csv_cached(path, folder).fingerprint()
    (cache,) = folder.glob("*.npz")
    whole = cache.read_bytes()

    def lay(place, splices):
        (place / cache.name).write_bytes(damage.spliced(whole, splices))
        return place

    def read(place):
        assert read_csv_cached(path, place).fingerprint() == expected

    survives(damage.splices(len(whole)), lay, read, few=30, writes=True)


@pytest.fixture(scope="module")
def images():
    """Files of images by suffix, gray and coloured."""
    rng = np.random.default_rng(0)
    files = {}
    for suffix, shape in ((".png", (12, 12)), (".jpg", (12, 12, 3)), (".gif", (12, 12)), (".tif", (12, 12, 3))):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(buffer, Image.registered_extensions()[suffix])
        files[suffix] = buffer.getvalue()
    for suffix, kind in ((".bmp", "BMP"), (".webp", "WEBP"), (".pgm", "PPM")):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).save(buffer, kind)
        files[suffix] = buffer.getvalue()
    return files


def _folder(place, images):
    for split in ("train", "validation", "test"):
        for name in ("cat", "dog"):
            (place / split / name).mkdir(parents=True)
            (place / split / name / "a.png").write_bytes(images[".png"])
    return place


def _read_all(place):
    """What a run does with the data before it trains."""
    data = read_folder(place, options=FolderOptions(input="streaming"))
    data.fingerprint()
    data.in_memory().fingerprint()


def test_bytes_of_images(survives, damage, images):
    def lay(place, drawn):
        suffix, splices = drawn
        _folder(place, images)
        (place / "train" / "cat" / f"b{suffix}").write_bytes(damage.spliced(images[suffix], splices))
        return place

    suffixes = st.sampled_from(sorted(images))
    survives(
        suffixes.flatmap(lambda suffix: st.tuples(st.just(suffix), damage.splices(len(images[suffix])))),
        lay,
        _read_all,
        few=60,
    )


def test_names_and_places_of_folders(survives, damage, images):
    """Any name that a file system takes, at any depth, and links, pipes and folders in the place of files."""
    byte_names = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    text_names = st.text(min_size=1, max_size=30).map(lambda name: name.encode("utf-8", "replace").replace(b"/", b"_"))
    names = (byte_names | text_names).map(lambda name: name.replace(b"\0", b"_"))
    depths = st.sampled_from(("", "train", "train/cat", "test", "test/dog"))
    ends = st.sampled_from((b"", b".png", b".PNG", b".txt"))
    kinds = damage.kinds | st.sampled_from(("image", "folder of an image"))

    def lay(place, drawn):
        _folder(place, images)
        for depth, name, end, kind in drawn:
            path = place / depth / (name + end).decode("utf-8", "surrogateescape")
            if path.name in ("", ".", "..") or not path.parent.is_dir():
                continue
            if kind in ("image", "folder of an image"):
                damage.replace_by("missing" if kind == "image" else "folder", path, place)
                (path if kind == "image" else path / "a.png").write_bytes(images[".png"])
            else:
                damage.replace_by(kind, path, place.parent / "outside")
        return place

    known = st.sampled_from((b"train", b"test", b"cat", b"dog", b"a.png", b"dataset_info.json"))
    changes = st.tuples(depths, names | known, ends, kinds)
    survives(st.lists(changes, min_size=1, max_size=4), lay, _read_all, few=100)


def test_sources_that_are_none(survives):
    start = st.sampled_from(("", "~no_such_user", "synthetic:", "../", "/dev/null/", "x" * 300))
    plain = st.text(st.characters(exclude_characters="\\\"'", exclude_categories=["Cs"]), max_size=12)
    texts = st.tuples(start, plain).map("".join)
    survives(texts, lambda place, text: Path(text), _load_small, few=60)


def _load_small(source):
    if not str(source).removeprefix("synthetic").removeprefix(":").isdigit():
        load(source)
