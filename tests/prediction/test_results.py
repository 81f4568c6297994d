"""The lines that a prediction writes."""

import csv
import io
import json

import numpy as np
import pytest

from fer_jax.prediction.results import Row, RowWriter

NAMES = ("happy", "sad")
FACE = Row("a.png", "face", 3, 1.5, (1, 2, 3, 4), 0.98765, np.array([0.7, 0.3], np.float32))
NONE = Row("b.png", "no face")
BROKEN = Row('c,".png', "error", error="not a readable picture")


def written(form, *rows, threshold=0.0):
    stream = io.StringIO()
    writer = RowWriter(stream, form, NAMES, threshold)
    for row in rows:
        writer.write(row)
    return stream.getvalue()


def test_json_lines():
    first, second, third = map(json.loads, written("jsonl", FACE, NONE, BROKEN).splitlines())
    assert first == {
        "file": "a.png",
        "frame": 3,
        "time": 1.5,
        "status": "face",
        "box": [1, 2, 3, 4],
        "score": 0.9877,
        "label": "happy",
        "abstained": False,
        "probabilities": {"happy": 0.7, "sad": 0.3},
    }
    assert second == {"file": "b.png", "status": "no face"}
    assert third == {"file": 'c,".png', "status": "error", "error": "not a readable picture"}


def test_csv():
    first, second, third = csv.DictReader(io.StringIO(written("csv", FACE, NONE, BROKEN)))
    assert first["probability_sad"] == "0.3"
    assert (first["left"], first["bottom"], first["label"], first["abstained"]) == ("1", "4", "happy", "0")
    assert (second["status"], second["label"], second["frame"]) == ("no face", "", "")
    assert (third["file"], third["error"]) == ('c,".png', "not a readable picture")


@pytest.mark.parametrize(("threshold", "abstained"), [(0.69, False), (0.71, True)])
def test_below_the_threshold_the_model_abstains(threshold, abstained):
    assert json.loads(written("jsonl", FACE, threshold=threshold))["abstained"] is abstained


def test_a_name_that_is_no_text_is_escaped():
    row = Row(b"caf\xe9.png".decode(errors="surrogateescape"), "no face")
    assert "caf" in json.loads(written("jsonl", row))["file"]
    written("csv", row).encode()
