"""Objects of a bucket, against a server on this machine: `bucket_server.py`."""

import os

import pytest

from fer_jax.errors import InputError
from fer_jax.runtime.user_path import user_place
from fer_jax.storage import files
from fer_jax.storage.bucket import BucketPath, download_folder, is_bucket, upload_folder
from fer_jax.storage.lines import read_log, start_log
from fer_jax.storage.patience import BucketError, ConditionFailed, MissingObject


def test_path():
    place = BucketPath.parse("gs://fer-runs//a/./b.csv/", "it")
    assert str(place) == "gs://fer-runs/a/b.csv"
    assert BucketPath.parse("gs:/fer-runs/a/b.csv", "it") == place
    assert (place.name, place.stem, place.suffix) == ("b.csv", "b", ".csv")
    assert str(place.parent.parent) == "gs://fer-runs"
    assert place.parent / "b.csv" == place
    with pytest.raises(TypeError):  # never a folder named `gs:`
        os.fspath(place)


@pytest.mark.parametrize("text", ["gs://", "gs:///", "gs://ab/x", "gs://UPPER/x", "gs://b ad/x", "gs://fer-runs/../x"])
def test_no_bucket(text):
    with pytest.raises(InputError, match=r"--workdir=gs:.* expected gs://BUCKET/FOLDER"):
        user_place(text, f"--workdir={text}")


def test_objects(server, tmp_path):
    folder = server.folder()
    place = folder / "a" / "x.bin"
    assert not place.exists()
    assert not folder.is_dir()
    with pytest.raises(FileNotFoundError, match=r"gs://fer-runs/.*x\.bin: is missing"):
        place.read_bytes()
    place.write_bytes(b"123")
    files.write_text(folder / "é.txt", "ü\n")
    with files.replace_file(folder / "picture.png") as beside:
        assert beside.suffix == ".png"
        beside.write_bytes(b"p")
    assert place.read_bytes() == b"123"
    assert (folder / "é.txt").read_text() == "ü\n"
    assert place.is_file()
    assert not place.is_dir()
    assert folder.is_dir()
    assert [path.name for path in folder.iterdir()] == ["a", "picture.png", "é.txt"]
    assert [found.name for found in folder.objects()] == ["a/x.bin", "picture.png", "é.txt"]
    download_folder(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / "a" / "x.bin").read_bytes() == b"123"
    upload_folder(tmp_path / "copy", folder / "again", leave_out=["é.txt"])
    assert len((folder / "again").objects()) == 2
    place.copy_to(folder / "b")
    place.unlink()
    place.unlink(missing_ok=True)
    assert (folder / "b").read_bytes() == b"123"
    with pytest.raises(MissingObject):
        place.unlink()


def test_conditions(server):
    """Which the emulator ignores: a lock tested without the proxy would prove nothing."""
    place = server.folder() / "lock"
    first = place.write_bytes(b"mine", if_generation=0)
    with pytest.raises(ConditionFailed):
        place.write_bytes(b"yours", if_generation=0)
    second = place.write_bytes(b"again", if_generation=first)
    with pytest.raises(ConditionFailed):
        place.unlink(if_generation=first)
    assert place.read_bytes() == b"again"
    place.unlink(if_generation=second)
    assert not place.is_file()


@pytest.mark.parametrize("kind", ["error", "cut"])
def test_failing_requests_are_repeated(server, kind):
    place = server.folder() / "x"
    server.forget()
    server.fault(kind, "^POST", count=2)
    place.write_bytes(b"1")
    assert len([line for line in server.requests() if line.startswith("POST")]) == 3
    assert place.read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["error", "hang"])
def test_gives_up_after_the_stated_time_and_then_does_not_wait_again(server, monkeypatch, kind):
    monkeypatch.setenv("FER_JAX_BUCKET_PATIENCE", "2")
    place = server.folder() / "x"
    server.fault(kind)
    with pytest.raises(BucketError, match=r"gs://fer-runs/.*: no answer from the storage within \d+ s"):
        place.write_bytes(b"1")
    server.forget()
    with pytest.raises(BucketError, match="in 1 requests"):
        place.read_bytes()
    assert len(server.requests()) == 1
    server.fault(None)
    place.write_bytes(b"1")
    server.fault("error", count=1)
    assert place.read_bytes() == b"1"


def test_log_in_parts(server):
    path = server.folder() / "metrics.jsonl"
    assert read_log(path) is None
    log = start_log(path, "0\n")
    log.write("1\n")
    log.flush()
    log.write("2\n")
    log.flush()
    log.flush()
    assert read_log(path) == "0\n1\n2\n"
    parts = [found.name for found in path.with_name("metrics.jsonl.parts").objects()]
    assert parts == ["000000000001", "000000000002"]
    # Torn off between the whole and the deletion of the parts: of either one, and of the cut that a resumed run makes.
    path.write_text("0\n1\n2\n3\n")
    assert read_log(path) == "0\n1\n2\n3\n"
    (path.with_name("metrics.jsonl.parts") / parts[0]).unlink()
    assert read_log(path) == "0\n1\n2\n3\n"
    path.write_text("0\n1\n")
    assert read_log(path) == "0\n1\n2\n"
    log = start_log(path, "0\n1\n")
    assert read_log(path) == "0\n1\n"
    log.write("two\n")
    log.flush(whole=True)
    log.close()
    assert path.read_text() == "0\n1\ntwo\n"
    assert not path.with_name("metrics.jsonl.parts").is_dir()


@pytest.mark.parametrize(("text", "found"), [("gs://b/x", True), ("GS:/b/x", True), ("gs", False), ("s3://b/x", False)])
def test_is_bucket(text, found):
    assert is_bucket(text) is found
