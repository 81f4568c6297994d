"""Faces are found in photographs that the installed packages bring along, and none in those without."""

import hashlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from fer_jax.detection import centerface
from fer_jax.detection.centerface import FaceDetector, decode, suppressed

FOLDER = Path(sklearn.datasets.__file__).parent / "images"
HOPPER = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("onnxruntime")
    return FaceDetector()


def centre(face):
    left, top, right, bottom = face.box
    return (left + right) / 2, (top + bottom) / 2


def test_the_vendored_file_is_the_one_that_its_page_describes():
    digest = hashlib.sha256(centerface.MODEL.read_bytes()).hexdigest()
    page = centerface.MODEL.with_suffix(".md").read_text()
    assert digest in page
    assert "MIT License" in page


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("scale", [0.4, 1, 2.5])
def test_the_face_of_a_portrait_is_found_at_any_size(mode, scale, detector):
    with Image.open(HOPPER) as image:
        picture = image.convert(mode).resize([round(side * scale) for side in image.size])
    (face,) = detector(picture)
    x, y = centre(face)
    # Her nose is at 262, 240 of 512 x 600.
    assert abs(x / scale - 262) < 20
    assert abs(y / scale - 240) < 25
    assert 150 < (face.box[3] - face.box[1]) / scale < 260
    assert face.score > 0.7


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_no_face_is_found_where_there_is_none(name, detector):
    with Image.open(FOLDER / name) as picture:
        assert detector(picture) == []


def test_several_faces_come_by_score_and_stay_within_the_picture(detector):
    with Image.open(HOPPER) as image:
        hopper = image.convert("RGB")
    picture = Image.new("RGB", (1024, 600))
    # Cut off at the left; whole and smaller at the right.
    picture.paste(hopper, (-230, 0))
    picture.paste(hopper.resize((400, 469)), (600, 60))
    faces = detector(picture)
    assert any(centre(face)[0] > 512 for face in faces)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    assert all(0 <= face.box[0] < face.box[2] <= 1024 and 0 <= face.box[1] < face.box[3] <= 600 for face in faces)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3000, 2)])
def test_pictures_of_extreme_shape_have_no_face(size, detector):
    assert detector(Image.new("L", size, 128)) == []


def test_cells_become_boxes():
    heatmap = np.zeros((4, 6), np.float32)
    heatmap[2, 3] = 0.8
    size = np.log(np.full((2, 4, 6), [[[5]], [[3]]], np.float32))
    offset = np.full((2, 4, 6), [[[0.25]], [[-0.25]]], np.float32)
    boxes, scores = decode(heatmap, size, offset, 0.5)
    middle_y, middle_x = (2 + 0.25 + 0.5) * 4, (3 - 0.25 + 0.5) * 4
    np.testing.assert_allclose(boxes, [[middle_x - 6, middle_y - 10, middle_x + 6, middle_y + 10]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.8])


def test_of_boxes_that_overlap_the_best_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [8, 0, 18, 10]], float)
    # The first two share 81 of 119; the last one shares 20 of 180 with the first and less with the third.
    assert suppressed(boxes, np.array([0.6, 0.9, 0.7, 0.5])) == [1, 2, 3]
    assert suppressed(np.zeros((0, 4)), np.zeros(0)) == []
