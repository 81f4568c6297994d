"""The demo: what its server answers and refuses, and its page in a real browser."""

import contextlib
import http.client
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from fer_jax.data.synthetic import synthetic_faces
from fer_jax.demo import server as demo
from fer_jax.demo.judge import Judge
from fer_jax.demo.server import DemoServer
from fer_jax.detection.centerface import Face
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS


class Brightness:
    """Judges a face by its mean: class i for a brightness from 36 i on. Looks at the lower left for `happy` alone."""

    class_names = EXPRESSIONS
    image_shape = (48, 48)

    def predict(self, images):
        classes = np.minimum(images.mean(axis=(1, 2)) // 36, 6).astype(int)
        return (np.eye(7, dtype=np.float32)[classes] * 0.9 + 0.1 / 7).astype(np.float32)

    def explain(self, image, class_name):
        if class_name not in EXPRESSIONS:
            raise InputError(f"{class_name}: no class of this model")
        found = np.zeros((48, 48), np.float32)
        found[40, 5] = class_name == "happy"
        return found


def two_faces(picture):
    """The left and the right half, if the picture is wide."""
    width, height = picture.size
    half = width // 2
    return [Face((0, 0, half, height), 0.9), Face((half, 0, width, height), 0.8)] if width > height else []


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(8, 8, 7, seed=0).test.images


@pytest.fixture(scope="module")
def server():
    judge = Judge(Brightness(), two_faces, batch_size=1)
    with DemoServer("127.0.0.1", 0, judge, "stand-in", faces="auto") as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server, method, path, body=None, **headers):
    with contextlib.closing(http.client.HTTPConnection(*server.server_address, timeout=10)) as connection:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read(), reply.headers


def ask_json(*arguments, **headers):
    status, body, _ = ask(*arguments, **headers)
    return status, json.loads(body)


def test_faces_of_a_picture(server, faces):
    pixels = np.concatenate([np.full((100, 100), 10), np.full((100, 100), 250)], axis=1).astype(np.uint8)
    status, found = ask_json(server, "POST", "/faces?faces=detect", png(pixels))
    assert (status, found["width"], found["height"]) == (200, 200, 100)
    assert [face["label"] for face in found["faces"]] == ["angry", "neutral"]
    # With the margin of FER2013 around the box.
    assert found["faces"][0]["box"] == [-2, -2, 103, 103]
    assert found["faces"][0]["probabilities"][0] == pytest.approx(0.9143, abs=1e-3)
    _, found = ask_json(server, "POST", "/faces", png(faces[0]))
    assert found["faces"][0]["score"] is None
    assert ask_json(server, "POST", "/faces?faces=detect", png(faces[0]))[1]["faces"] == []


def test_explanation_of_a_face(server, faces):
    status, found = ask_json(server, "POST", "/explanation?box=0,0,48,48&class=happy", png(faces[0]))
    assert status == 200
    assert found["map"][40][5] == 255
    assert sum(map(sum, found["map"])) == 255


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/faces", b"", "the picture: not a readable image"),
        ("/faces", b"a text", "the picture: not a readable image"),
        ("/faces?faces=all", "face", "faces='all': expected one of auto, whole, detect"),
        ("/explanation?box=0,0,48&class=happy", "face", "expected left,top,right,bottom"),
        ("/explanation?box=0,0,48,40&class=happy", "face", "expected a square in the picture of 48 x 48 pixels"),
        ("/explanation?box=60,0,108,48&class=happy", "face", "expected a square in the picture"),
        ("/explanation?box=0,0,9999,9999&class=happy", "face", "expected a square in the picture"),
        ("/explanation?box=0,0,48,48&class=glad", "face", "glad: no class of this model"),
    ],
)
def test_a_bad_question_is_one_clear_error(server, faces, path, body, error):
    status, found = ask_json(server, "POST", path, png(faces[0]) if body == "face" else body)
    assert status == 400
    assert error in found["error"]
    assert "\n" not in found["error"]


def test_what_is_not_asked_by_the_page_is_refused(server, faces, monkeypatch):
    status, body, headers = ask(server, "GET", "/")
    assert status == 200
    assert b"stand-in" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask_json(server, "GET", "/etc/passwd")[0] == 404
    assert ask_json(server, "POST", "/", b"")[0] == 404
    picture = png(faces[0])
    # A page of another site, and one whose name was made to lead here.
    for headers in ({"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"}, {"Host": "[::"}):
        status, found = ask_json(server, "POST", "/faces", picture, **headers)
        assert status == 403
        assert server.url in found["error"]
    assert ask_json(server, "POST", "/faces", picture, Origin=server.url.rstrip("/"))[0] == 200
    assert ask_json(server, "POST", "/faces", b"", **{"Content-Length": "many"})[0] == 411
    monkeypatch.setattr(demo, "MOST_BYTES", 2**20)
    status, found = ask_json(server, "POST", "/faces", bytes(3 * 2**20))
    assert (status, found["error"]) == (413, "the picture's file has 3 MiB, expected at most 1 MiB")


def test_more_pictures_than_it_takes_at_once_are_sent_again(server, faces, monkeypatch):
    monkeypatch.setattr(server, "at_once", threading.BoundedSemaphore(1))
    with server.at_once:
        assert ask_json(server, "POST", "/faces", png(faces[0]))[0] == 503
    assert ask_json(server, "POST", "/faces", png(faces[0]))[0] == 200


def test_a_bug_keeps_its_traceback_and_the_server_goes_on(server, faces, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Brightness, "predict", lambda self, images: images.nonsense)
        status, found = ask_json(server, "POST", "/faces", png(faces[0]))
    assert (status, found["error"]) == (500, "the server failed; its terminal says why")
    assert ask_json(server, "POST", "/faces", png(faces[0]))[0] == 200
    # The server answers before it says why.
    said, deadline = "", time.monotonic() + 30
    while "AttributeError" not in said and time.monotonic() < deadline:
        said += capsys.readouterr().err
        time.sleep(0.01)
    assert "AttributeError" in said


def test_an_address_that_is_taken_is_one_line(server):
    with pytest.raises(InputError, match=r"cannot be listened at \(Address already in use\); is another demo running"):
        DemoServer("127.0.0.1", server.server_address[1], server.judge, "", faces="auto")
    with pytest.raises(InputError, match=r"nowhere\.invalid:0: cannot be listened at .*; choose another --host"):
        DemoServer("nowhere.invalid", 0, server.judge, "", faces="auto")


@pytest.fixture(scope="module")
def browser(open_chromium, tmp_path_factory, faces):
    """A browser whose webcam sees a drawn face, so bright that it is judged as `sad`."""
    webcam = tmp_path_factory.mktemp("webcam") / "face.y4m"
    gray = np.asarray(Image.fromarray(faces[0]).resize((240, 240))) // 8 + 150
    frame = b"FRAME\n" + gray.astype(np.uint8).tobytes() + bytes([128]) * (240 * 240 // 2)
    webcam.write_bytes(b"YUV4MPEG2 W240 H240 F10:1 Ip A1:1 C420\n" + frame * 2)
    fake = ("use-fake-ui-for-media-stream", "use-fake-device-for-media-stream")
    with open_chromium(*fake, f"use-file-for-fake-video-capture={webcam}") as found:
        yield found


def test_the_page_in_a_browser(browser, server, faces, tmp_path):
    from selenium.webdriver.support.wait import WebDriverWait

    def until(condition):
        return WebDriverWait(browser, 20, 0.05).until(lambda _: condition())

    def find(selector):
        return browser.find_element("css selector", selector)

    browser.get(server.url)
    Image.fromarray(faces[0]).save(tmp_path / "face.png")
    find("#file").send_keys(str(tmp_path / "face.png"))
    until(lambda: find("#status").text.startswith("1 face: "))
    label = find("#status").text.removeprefix("1 face: ")
    assert find("#picture").get_attribute("alt") == f"face.png. 1 face: {label}."
    assert find("#list h2").text == f"Face 1: {label}"
    assert [name.text for name in browser.find_elements("css selector", "#list .name")] == list(EXPRESSIONS)
    assert find("#list .best .value").text == "91.4 %"
    assert [text.get_attribute("textContent") for text in browser.find_elements("css selector", "#boxes text")] == [
        f"1 {label}"
    ]

    # Grad-CAM on demand, of a class that is chosen.
    before = browser.execute_script("return document.querySelector('#list canvas').toDataURL()")
    browser.execute_script("document.querySelector('#list select').value = 'happy'")
    browser.execute_script("arguments[0].click()", find("#list .look button"))
    until(lambda: "strongest in the lower left" in find("#list .told").text)
    assert browser.execute_script("return document.querySelector('#list canvas').toDataURL()") != before
    assert "lower left" in find("#list canvas").get_attribute("aria-label")

    (tmp_path / "text.jpg").write_text("no picture")
    find("#file").send_keys(str(tmp_path / "text.jpg"))
    until(lambda: find("#error").is_displayed())
    assert find("#error").text.startswith("text.jpg: the picture: not a readable image")

    # The webcam, by the keyboard.
    find("#camera").send_keys("\n")
    until(lambda: find("#status").text == "1 face: sad" or find("#status").text == "No face found")
    assert find("#video").is_displayed()
    browser.execute_script("document.getElementById('faces').value = 'whole'")
    until(lambda: find("#status").text == "1 face: sad")
    find("#camera").send_keys("\n")
    until(lambda: find("#picture").is_displayed())
    assert find("#caption").text == "webcam"
    assert find("#list .look button").is_displayed()

    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    # The browser itself notes the answer to the bad picture.
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in said if "400 (Bad Request)" not in message] == []
