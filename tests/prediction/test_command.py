"""The command: what it writes, what it draws, and its exit statuses."""

import contextlib
import csv
import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fer_jax.commands import predict


@pytest.fixture
def run(classifier, monkeypatch, tmp_path):
    """A function that runs the command with a stand-in for the network, and returns its status."""
    monkeypatch.setattr(predict, "load_classifier", lambda name, batch_size: classifier)
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        Image.new("L", (48, 48), 80 * index).save(tmp_path / f"{index}.png")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["predict", "--model=stand-in", "--faces=whole", *arguments])
        return predict.main()

    return run


def test_json_lines_on_standard_output_and_a_summary_beside(run, capsys):
    assert run(".") == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["file"] for line in lines] == ["0.png", "1.png", "2.png"]
    assert [line["label"] for line in lines] == ["angry", "fear", "sad"]
    assert captured.err.startswith("3 faces in 3 pictures;")


def test_a_csv_file_and_the_status_of_a_bad_input(run, tmp_path, capsys):
    assert run("0.png", "none.png", "1.png", "--out=deep/out.csv") == 1
    rows = list(csv.DictReader((tmp_path / "deep" / "out.csv").open()))
    assert [row["status"] for row in rows] == ["face", "error", "face"]
    assert "1 not read" in capsys.readouterr().err


def test_drawings(run, tmp_path):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "sub" / "0.png")
    assert run("0.png", "sub/0.png", "none.png", "--draw=drawn", "--threshold=0.99") == 1
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["0-2.jpg", "0.jpg"]
    with Image.open(tmp_path / "drawn" / "0.jpg") as image:
        assert image.size == (480, 480)
        assert len(image.getcolors(10**6)) > 20


class LostOutput(io.StringIO):
    """Standard output that takes no line."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def flush(self):
        raise self._error


def test_who_has_seen_enough_ends_it_quietly(run, monkeypatch, capsys, classifier):
    monkeypatch.setattr(sys, "stdout", LostOutput(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert run(*["."] * 100, "--batch-size=1") == 0
    assert capsys.readouterr().err == ""
    assert sum(classifier.batches) < 100


def test_a_full_disk_is_no_success(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", LostOutput(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(SystemExit) as caught:
        run(".")
    assert caught.value.code == 2
    assert "standard output cannot be written (No space left on device)" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_full_disk_leaves_the_file_as_it_was(name, run, tmp_path, monkeypatch, capsys):
    (tmp_path / name).write_text("mine")
    monkeypatch.setattr("fer_jax.commands.predict.replace_file", lambda out: contextlib.nullcontext(Path("/dev/full")))
    with pytest.raises(SystemExit):
        run(".", f"--out={name}")
    assert f"--out={name}: cannot be written: No space left on device" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


def test_an_error_of_the_system_elsewhere_is_not_one_of_the_output(run, tmp_path, classifier, monkeypatch):
    def predict(images):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(classifier, "predict", predict)
    with pytest.raises(OSError, match="Input/output error"):
        run(".", "--out=out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("inputs", [["."], ["0.png"], ["*.png"], ["list"]])
def test_a_drawing_never_replaces_its_picture(inputs, run, tmp_path, monkeypatch):
    Image.new("L", (48, 48), 200).save(tmp_path / "0.jpg")
    before = (tmp_path / "0.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.StringIO("0.jpg\n"))
    with pytest.raises(SystemExit):
        run(*(["-"] if inputs == ["list"] else inputs), f"--draw={tmp_path}")
    assert (tmp_path / "0.jpg").read_bytes() == before


def test_drawings_in_a_folder_of_inputs_are_not_judged_again(run, tmp_path, capsys):
    for _ in range(2):
        assert run(".", "--draw=drawn") == 0
        assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_interruption_keeps_what_was_found(run, tmp_path, classifier, monkeypatch):
    def interrupted(sources, *arguments, **options):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr("fer_jax.prediction.pipeline.Prediction", interrupted)
    assert run(".", "--out=out.csv") == 130
    assert (tmp_path / "out.csv").read_text().startswith("file,frame,time,status")


@pytest.mark.parametrize(
    "arguments",
    [[], ["0.png", "--threshold=2"], ["0.png", "--fps=-1"], ["0.png", "--batch-size=0"], ["0.png", "--out=a.txt"]],
)
def test_a_mistake_is_one_line_and_status_2(arguments, run, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_an_output_that_is_a_folder_is_refused(run, tmp_path):
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(SystemExit):
        run("0.png", "--out=taken.csv")
    assert list((tmp_path / "taken.csv").iterdir()) == []


def test_all_but_the_network_of_jax_works_without_jax():
    """So that an exported file needs onnxruntime alone."""
    program = (
        "import sys, fer_jax.commands.predict, fer_jax.prediction.pipeline, fer_jax.prediction.drawing, "
        "fer_jax.detection.centerface; sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_pictures_and_drawings_in_a_bucket(run, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = server.folder()
    for name in ("0.png", "1.png"):
        (folder / "deep" / name).upload(tmp_path / name)
    (folder / "2.png").upload(tmp_path / "2.png")
    drawn, out = folder / "deep" / "drawn", folder / "out.csv"
    for _ in range(2):  # the drawings of the first time are no pictures of the second
        given = [f"{folder}/deep", f"{folder}/2.png", f"{folder}/none.png", f"{folder}/*.png"]
        assert run(*given, f"--draw={drawn}", f"--out={out}") == 1
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        names = [f"{folder}/{name}" for name in ("deep/0.png", "deep/1.png", "2.png", "none.png", "*.png")]
        assert [row["file"] for row in rows] == names
        assert [row["label"] for row in rows[:3]] == ["angry", "fear", "sad"]
        assert rows[3]["error"] == "no such object or folder"
        assert rows[4]["error"].endswith("a glob is none in a bucket, give the folder")
        assert {found.name for found in drawn.objects()} == {"0.jpg", "1.jpg", "2.jpg"}
    before = (folder / "deep" / "0.png").generation()
    for draw in (f"{folder}/deep", str(folder)):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            run(f"{folder}/deep", f"{folder}/2.png", f"--draw={draw}")
        assert "which a drawing could replace" in capsys.readouterr().err
    assert (folder / "deep" / "0.png").generation() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gs://x/a.png"], "gs://x/a.png: names no bucket"),
        (["0.png", "--draw=s3://bucket/drawn"], "--draw=s3://bucket/drawn is not on a file system"),
        (["0.png", "--draw=gs://no-such-bucket/drawn"], "there is no bucket no-such-bucket"),
        (["0.png", "--out=gs://no-such-bucket/o.csv"], "there is no bucket no-such-bucket"),
    ],
)
def test_bucket_that_cannot_be_is_one_line_before_any_work(run, server, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
