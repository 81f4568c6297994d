"""Predictions across files, frames and faces: order, batches, errors that end nothing."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from fer_jax.detection.centerface import Face
from fer_jax.errors import InputError
from fer_jax.prediction import pipeline
from fer_jax.prediction.pipeline import Prediction
from fer_jax.prediction.sources import find_sources


def gray(path, brightness, size=(48, 48)):
    Image.new("L", size, brightness).save(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index in range(10):
        gray(tmp_path / f"{index}.png", 24 * index)
    return tmp_path


def predict(classifier, *arguments, faces="whole", detect=None, batch_size=4, rate=0.0, **options):
    sources = find_sources(arguments, io.StringIO())
    prediction = Prediction(
        sources, classifier, faces=faces, detect=detect, batch_size=batch_size, rate=rate, threads=3, **options
    )
    return list(prediction)


def labels(found):
    return [int(row.probabilities.argmax()) for picture in found for row in picture.rows if row.status == "face"]


def test_rows_come_in_order_from_full_batches(classifier, folder):
    found = predict(classifier, ".")
    assert [picture.rows[0].file for picture in found] == [f"{index}.png" for index in range(10)]
    assert labels(found) == [min(24 * index // 36, 6) for index in range(10)]
    assert classifier.batches == [4, 4, 2]
    assert all(picture.rows[0].box == (0, 0, 48, 48) and picture.rows[0].score is None for picture in found)


def test_a_face_does_not_wait_long_for_others(classifier, folder, monkeypatch):
    monkeypatch.setattr(pipeline, "_PATIENCE", -1.0)
    assert labels(predict(classifier, ".")) == [min(24 * index // 36, 6) for index in range(10)]
    assert classifier.batches[0] == 1


def test_a_bad_file_ends_nothing(classifier, folder):
    (folder / "3.png").write_text("no picture")
    (folder / "4.png").write_bytes(b"")
    (folder / "5.png").write_bytes((folder / "6.png").read_bytes()[:60])
    found = predict(classifier, ".", "none.png")
    by_status = {row.file: row for picture in found for row in picture.rows}
    assert [name for name, row in by_status.items() if row.status == "error"] == ["3.png", "4.png", "5.png", "none.png"]
    assert by_status["3.png"].error.startswith("not a readable image")
    assert "no such file" in by_status["none.png"].error
    assert sum(classifier.batches) == 7


def test_a_picture_of_too_many_pixels_is_one_line(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.image_files, "MAX_PIXELS", 1000)
    (picture,) = predict(classifier, str(gray(tmp_path / "big.png", 0)))
    assert "48 x 48 pixels, expected at most 1,000" in picture.rows[0].error


def two_faces(picture):
    """The left and the right half, if the picture is wide."""
    width, height = picture.size
    if width < 2 * height:
        return []
    return [Face((0, 0, height, height), 0.9), Face((width - height, 0, width, height), 0.8)]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_each_face_of_a_picture_has_a_row(batch_size, classifier, tmp_path):
    pixels = np.zeros((200, 600), np.uint8)
    pixels[:, 300:] = 250
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    gray(tmp_path / "c.png", 100, (200, 200))
    found = predict(classifier, str(tmp_path), faces="detect", detect=two_faces, batch_size=batch_size)
    assert [[row.status for row in picture.rows] for picture in found] == [["face"] * 2, ["face"] * 2, ["no face"]]
    assert labels(found) == [0, 6, 0, 6]
    assert [row.score for row in found[0].rows] == [0.9, 0.8]
    # The square has the margin of FER2013 and may reach beyond the picture.
    assert found[0].rows[0].box == (-5, -5, 205, 205)


def test_auto_takes_small_squares_whole(classifier, tmp_path):
    gray(tmp_path / "a.png", 0, (128, 128))
    gray(tmp_path / "b.png", 0, (129, 129))
    gray(tmp_path / "c.png", 0, (48, 47))
    found = predict(classifier, str(tmp_path), faces="auto", detect=two_faces)
    assert [picture.rows[0].status for picture in found] == ["face", "no face", "no face"]


@pytest.fixture
def no_new_threads():
    """Fail the test if a thread that it started is still running at its end; other tests' libraries keep some."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_a_bug_while_reading_keeps_its_traceback(classifier, folder, monkeypatch, no_new_threads):
    def bug(path):
        raise TypeError("a bug")

    monkeypatch.setattr(pipeline.image_files, "picture", bug)
    with pytest.raises(TypeError, match="a bug"):
        predict(classifier, ".")


def test_who_stops_early_leaves_no_thread(classifier, folder, no_new_threads):
    results = iter(
        Prediction(
            find_sources(["."] * 50, io.StringIO()),
            classifier,
            faces="whole",
            detect=None,
            batch_size=2,
            rate=0,
            threads=2,
        )
    )
    next(results)
    results.close()


def test_pictures_are_kept_only_if_asked_for(classifier, folder):
    assert predict(classifier, "1.png")[0].picture is None
    assert predict(classifier, "1.png", keep_pictures=True)[0].picture.size == (48, 48)


def test_crops_beyond_the_border_repeat_its_pixels(classifier, tmp_path):
    pixels = np.full((100, 100), 10, np.uint8)
    pixels[:, :50] = 240
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def beyond(picture):
        return [Face((-60, 20, 20, 100), 0.9)]

    (picture,) = predict(classifier, str(tmp_path / "a.png"), faces="detect", detect=beyond)
    assert (picture.pixels[0] == 240).all()
    assert picture.rows[0].box == (-62, 18, 22, 102)


class TestVideo:
    @pytest.fixture(autouse=True)
    def _needs_pyav(self):
        pytest.importorskip("av")

    @pytest.fixture
    def clip(self, tmp_path):
        """A second at 10 frames a second that becomes brighter."""
        from fer_jax.prediction.video import video_writer

        path = tmp_path / "clip.mkv"
        noise = np.random.default_rng(0).integers(0, 50, (10, 64, 64, 3))
        with video_writer(path, (64, 64), 10) as add:
            for index in range(10):
                add(Image.fromarray((20 * index + noise[index]).astype(np.uint8)), index / 10)
        return path

    @pytest.mark.parametrize(("rate", "indices"), [(0, list(range(10))), (100, list(range(10))), (5, [0, 2, 4, 6, 8])])
    def test_frames_have_their_times(self, rate, indices, classifier, clip):
        found = predict(classifier, str(clip), rate=rate)
        assert [picture.rows[0].frame for picture in found] == indices
        np.testing.assert_allclose([picture.rows[0].time for picture in found], np.array(indices) / 10, atol=2e-3)
        assert labels(found)[-1] > labels(found)[0]

    @pytest.mark.parametrize(
        ("content", "error"),
        [(b"", "an empty file"), (b"text" * 100, "no readable video"), (None, "the video ends after")],
    )
    def test_a_bad_video_ends_nothing(self, content, error, classifier, clip, tmp_path):
        (tmp_path / "a.mkv").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2] if content is None else content)
        gray(tmp_path / "z.png", 0)
        found = predict(classifier, str(tmp_path / "a.mkv"), str(tmp_path / "z.png"))
        assert found[-2].rows[0].status == "error"
        assert error in found[-2].rows[0].error
        assert found[-1].rows[0].status == "face"
        # What is whole of the video comes before.
        assert (len(found) > 2) == (content is None)

    def test_a_missing_camera_is_a_line(self, classifier):
        (picture,) = predict(classifier, "97")
        assert "the camera cannot be opened" in picture.rows[0].error

    def test_without_pyav_the_line_says_what_to_install(self, classifier, clip, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "av", None)
        (picture,) = predict(classifier, str(clip))
        assert "fer_jax[video]" in picture.rows[0].error


def test_without_onnxruntime_the_message_says_what_to_install(monkeypatch):
    from fer_jax.detection.centerface import FaceDetector

    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"fer_jax\[faces\]"):
        FaceDetector()
