"""The csv reader against a csv written here by hand, undamaged and damaged, and its cache."""

import logging
import time
from pathlib import Path

import numpy as np
import pytest

from fer_jax.data.csv_cache import default_cache_dir, read_csv_cached
from fer_jax.data.csv_reader import read_csv
from fer_jax.data.fer2013 import USAGE_OF_SPLIT
from fer_jax.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "fer2013.npz"
HEADER = "emotion,pixels,Usage"
USAGES = ("Training", "Training", "PublicTest", "PrivateTest", "Training", "PrivateTest")
LABELS = (3, 0, 6, 1, 5, 2)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 2304))
PIXELS[0, :3] = 0, 255, 7


def _lines() -> list[str]:
    rows = zip(LABELS, PIXELS, USAGES, strict=True)
    return [HEADER, *(f"{label},{' '.join(map(str, pixels))},{usage}" for label, pixels, usage in rows)]


def _write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "faces.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _check_content(data) -> None:
    for name, usage in USAGE_OF_SPLIT.items():
        rows = [row for row, found in enumerate(USAGES) if found == usage]
        split = data.split(name)
        np.testing.assert_array_equal(split.images.reshape(len(rows), -1), PIXELS[rows])
        assert split.labels.tolist() == [LABELS[row] for row in rows]
        assert split.row_ids.tolist() == rows


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(_lines()) + "\n",
        "\n".join(_lines()),
        "\r\n".join(_lines()) + "\r\n",
        "\ufeff" + "\n".join(_lines()) + "\n\n",
        "\n".join(_lines()).replace(" ", "  "),
        "\n".join(_lines()).replace(" 7 ", " 007 "),
    ],
    ids=["plain", "no last newline", "crlf", "byte order mark, blank line", "double spaces", "leading zeros"],
)
def test_reads_the_official_columns(tmp_path, text):
    data = read_csv(_write(tmp_path, text))
    _check_content(data)
    assert data.source == "csv faces.csv"


def test_reads_the_icml_variant(tmp_path):
    rows = (line.split(",") for line in _lines()[1:])
    text = "\n".join(["emotion, Usage, pixels", *(f"{label},{usage},{pixels}" for label, pixels, usage in rows)])
    _check_content(read_csv(_write(tmp_path, text)))


def _pixel(index: int, value: str):
    def damage(lines: list[str]) -> None:
        label, pixels, usage = lines[3].split(",")
        values = pixels.split(" ")
        values[index] = value
        lines[3] = ",".join([label, " ".join(value for value in values if value), usage])

    return damage


def _field(index: int, value: str):
    def damage(lines: list[str]) -> None:
        fields = lines[3].split(",")
        fields[index] = value
        lines[3] = ",".join(fields)

    return damage


# Each damages data row 2, on line 4, and names what the message must hold besides.
DAMAGES = {
    "a pixel too few": (_pixel(5, ""), "found 2303 pixels, expected 2304"),
    "a pixel too many": (_pixel(5, "1 2"), "found 2305 pixels, expected 2304"),
    "no pixels": (_field(1, ""), "found 0 pixels"),
    "above 255": (_pixel(5, "256"), "pixel 5 is '256'"),
    "wraps around in 64 bits": (_pixel(5, str(2**64 + 7)), f"pixel 5 is '{2**64 + 7}'"),
    "thousands of digits": (_pixel(5, "9" * 9000), "pixel 5 is '999"),
    "below 0": (_pixel(2303, "-1"), "pixel 2303 is '-1'"),
    "a sign": (_pixel(5, "+1"), "pixel 5 is '+1'"),
    "a fraction": (_pixel(0, "1.5"), "pixel 0 is '1.5'"),
    "a word": (_pixel(5, "nan"), "pixel 5 is 'nan'"),
    "a NUL at the end": (_pixel(2303, "7\0"), r"pixel 2303 is '7\x00'"),
    "digits of another script": (_pixel(5, "٣"), "pixel 5 is '٣'"),
    "label 7": (_field(0, "7"), "emotion '7'"),
    "label -1": (_field(0, "-1"), "emotion '-1'"),
    "label by an unknown name": (_field(0, "hapy"), "emotion 'hapy'"),
    "no label": (_field(0, ""), "emotion ''"),
    "unknown usage": (_field(2, "Tset"), "Usage 'Tset', expected one of Training, PublicTest, PrivateTest"),
    "a field too many": (_field(2, "Training,1"), "found 4 fields where the header has 3"),
    "truncated row": (lambda lines: lines.__setitem__(3, lines[3][:4000]), "found 2 fields"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_row_is_named(tmp_path, damage, message):
    lines = _lines()
    damage(lines)
    path = _write(tmp_path, "\n".join(lines))
    with pytest.raises(InputError) as caught:
        read_csv_cached(path, tmp_path / "cache")
    assert str(caught.value).startswith(f"{path}, row 2 (line 4): ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 450
    # A row whose emotion has no meaning today may have one with other options.
    assert "emotion" in message or not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        (HEADER, "without data rows"),
        ("emotion,pixels\n", "without data rows"),
        ("emotion,pixels,Usage,Usage\n", "2 columns named 'usage'"),
        ("\n".join(_lines()[1:]), "0 columns named 'emotion'"),
        ("\n".join(_lines())[:-9], "row 5 (line 7): Usage 'Pr'"),
        ("\n".join(_lines())[:-3000], "row 5 (line 7): found 2 fields"),
        ("\n".join(_lines()).replace(",Training", ',"Training'), "not valid csv"),
        ("\n".join(line for line in _lines() if "PublicTest" not in line), "no row of the validation split"),
    ],
    ids=["empty", "header", "no usage", "usage twice", "no header", "cut usage", "cut row", "quote", "split"],
)
def test_a_damaged_file_is_refused(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        read_csv(_write(tmp_path, text))
    assert message in str(caught.value)
    assert "faces.csv" in str(caught.value)


def test_random_damage_is_reported_or_harmless(tmp_path):
    whole = "\n".join(_lines()).encode()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        try:
            data = read_csv(_write(tmp_path, bytes(damaged)))
        except InputError:
            refused += 1
        else:
            # A digit that became another digit is all that can pass.
            for split in (data.train, data.validation, data.test):
                assert (split.images.reshape(-1, 2304) != PIXELS[split.row_ids]).sum() <= 3
    assert refused > 100


def test_the_cache_spares_the_parsing(tmp_path, monkeypatch):
    path = _write(tmp_path, "\n".join(_lines()))
    first = read_csv_cached(path, tmp_path / "cache")
    monkeypatch.setattr("fer_jax.data.csv_cache.read_rows", lambda member: pytest.fail("parsed again"))
    moved = path.rename(tmp_path / "renamed.csv")
    second = read_csv_cached(moved, tmp_path / "cache")
    _check_content(second)
    assert second.fingerprint() == first.fingerprint()
    assert second.source == "csv renamed.csv"
    moved.write_bytes(moved.read_bytes().replace(b"0 255 7 ", b"0 255 8 "))
    with pytest.raises(pytest.fail.Exception, match="parsed again"):
        read_csv_cached(moved, tmp_path / "cache")


def _flip(cache: Path) -> None:
    content = bytearray(cache.read_bytes())
    content[2000] ^= 1
    cache.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache: cache.write_bytes(b""),
        lambda cache: cache.write_bytes(b"not an archive"),
        lambda cache: cache.write_bytes(cache.read_bytes()[:5000]),
        _flip,
        lambda cache: np.savez(cache, anything=np.zeros(3)),
        lambda cache: np.savez(cache, **(dict(np.load(cache)) | {"content": "of another csv"})),
        lambda cache: np.savez(cache, **(dict(np.load(cache)) | {"labels": np.zeros(3)})),
        lambda cache: np.save(cache.open("wb"), np.zeros(3)),
    ],
    ids=["empty", "text", "truncated", "flipped bit", "foreign npz", "other content", "wrong dtype", "npy"],
)
def test_a_spoilt_cache_is_rewritten(tmp_path, spoil):
    path = _write(tmp_path, "\n".join(_lines()))
    read_csv_cached(path, tmp_path / "cache")
    (cache,) = (tmp_path / "cache").iterdir()
    good = dict(np.load(cache))
    spoil(cache)
    _check_content(read_csv_cached(path, tmp_path / "cache"))
    rewritten = dict(np.load(cache))
    assert rewritten.keys() == good.keys()
    assert all(np.array_equal(rewritten[key], good[key]) for key in good)
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [cache.name]


def test_an_unwritable_cache_is_a_warning(tmp_path, caplog):
    path = _write(tmp_path, "\n".join(_lines()))
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "fer_jax"):
        _check_content(read_csv_cached(path, tmp_path / "file" / "cache"))
    messages = [record.getMessage() for record in caplog.records]
    (message,) = [message for message in messages if "cannot write the cache" in message]
    assert "\n" not in message


def test_the_default_cache_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "fer_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "fer_jax"


@pytest.mark.skipif(not REAL.exists(), reason="needs the real FER2013")
def test_real_rows_survive_the_csv(tmp_path):
    real = np.load(REAL)
    rows = np.concatenate([np.flatnonzero(real["usage"] == usage)[:300] for usage in range(3)])
    usages = list(USAGE_OF_SPLIT.values())
    pixels, labels = real["pixels"][rows], real["emotion"][rows]
    path = tmp_path / "fer2013.csv"
    with path.open("w") as file:
        file.write(HEADER + "\n")
        for image, label, usage in zip(pixels, labels, real["usage"][rows], strict=True):
            file.write(f"{label},{' '.join(map(str, image.ravel()))},{usages[usage]}\n")
    start = time.process_time()
    data = read_csv(path)
    # The whole file has 40 times as many rows and 30 seconds.
    assert time.process_time() - start < 0.75
    for index, split in enumerate((data.train, data.validation, data.test)):
        np.testing.assert_array_equal(split.images, pixels[index * 300 : (index + 1) * 300])
        np.testing.assert_array_equal(split.labels, labels[index * 300 : (index + 1) * 300])
