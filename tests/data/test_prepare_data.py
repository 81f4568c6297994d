"""The command `prepare`: what it writes, and that it harms nothing."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fer_jax.commands.prepare_data import main
from fer_jax.data.sources import load


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_writes_dataset_preview_and_summary(tmp_path, capsys):
    out = tmp_path / "new" / "out"
    main(["synthetic:80", "--out", str(out)])
    printed = capsys.readouterr().out
    places = {"dataset": out / "fer2013" / "1.0.0", "preview": out / "preview.png", "summary": out / "summary.json"}
    assert printed.splitlines()[-3:] == [f"{kind}: {place}" for kind, place in places.items()]
    assert "11 (3995)" in printed
    assert {entry.name for entry in out.iterdir()} == {"fer2013", "preview.png", "summary.json"}

    data = load("synthetic:80")
    assert load(out).fingerprint() == data.fingerprint()
    summary = json.loads(places["summary"].read_text())
    assert summary["fingerprint"] == data.fingerprint()
    assert [sum(counts) for counts in summary["counts"].values()] == [80, 10, 20]
    assert summary["duplicates"]["groups"] == 0
    with Image.open(places["preview"]) as preview:
        assert preview.format == "PNG"
        assert preview.width > 7 * 48

    before = _files(out)
    for arguments in (("synthetic:80",), (tmp_path / "absent.csv",)):
        assert "1.0.0 exists already; remove it" in _fails(capsys, *arguments, "--out", out)
    assert _files(out) == before


def test_other_contents_stay(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    main(["synthetic:16", "--out", str(tmp_path)])
    assert (tmp_path / "notes.txt").read_text() == "mine"

    other = tmp_path / "other"
    other.mkdir()
    (other / "summary.json").write_text("mine")
    assert "summary.json exists already" in _fails(capsys, "synthetic:16", "--out", other)
    assert _files(other) == {other / "summary.json": b"mine"}
    assert "expected a folder" in _fails(capsys, "synthetic:16", "--out", tmp_path / "notes.txt")


@pytest.mark.parametrize("content", ["", "emotion,pixels,Usage\n1,2 3,Training\n"])
def test_bad_input_writes_nothing(tmp_path, capsys, content):
    (tmp_path / "bad.csv").write_text(content)
    message = _fails(capsys, tmp_path / "bad.csv", "--out", tmp_path / "out")
    assert message.startswith(f"error: {tmp_path / 'bad.csv'}")
    assert message.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.csv"]


def test_options_for_folders(tmp_path, capsys):
    source = tmp_path / "faces"
    for name in ("train/happy/1.png", "train/happy/2.png", "train/sad/4.png", "test/happy/3.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (48, 48)).save(source / name)
    assert "--validation-fraction" in _fails(capsys, source, "--out", tmp_path / "out")
    assert "lies in the source folder" in _fails(capsys, source, "--out", source / "out")
    main([str(source), "--out", str(tmp_path / "out"), "--validation-fraction", "0.5", "--seed", "3"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["validation_fraction"], summary["seed"]) == (0.5, 3)
    assert summary["duplicates"]["surplus_images"] == 3
    assert "with a twin in train: 1 validation images, 1 test images" in capsys.readouterr().out


def test_own_images_are_checked_and_left_where_they_are(tmp_path, capsys):
    source = tmp_path / "photos"
    for place, name in enumerate(("train/cat/1.png", "train/dog/2.png", "validation/dog/3.png")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (place, 0, 200)).save(source / name)
    out = tmp_path / "out"
    main([str(source), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "60 x 60 RGB images by class" in printed
    assert "published" not in printed
    assert {entry.name for entry in out.iterdir()} == {"preview.png", "summary.json"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["class_names"] == ["cat", "dog"]
    assert summary["counts"] == {"train": [1, 1], "validation": [0, 1], "test": [0, 0]}
    assert [len(row_ids) for row_ids in summary["constant_images"].values()] == [0, 0, 0]
