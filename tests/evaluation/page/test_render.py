"""The page of a report: it needs nothing else, holds what it shows, and works in a real browser."""

import json
import re

import numpy as np
import pytest

from fer_jax.data.synthetic import synthetic_faces
from fer_jax.evaluation.metrics import Predictions, classification_metrics
from fer_jax.evaluation.page.render import report_page
from fer_jax.evaluation.report import per_class_table
from fer_jax.evaluation.section import Table
from fer_jax.expressions import EXPRESSIONS

N = 140


def page(n=N, **changes):
    split = synthetic_faces(n, 8, 8, seed=0).train
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), n)
    probabilities[np.arange(n), split.labels] += 0.4
    probabilities = (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)
    predictions = Predictions(split.row_ids, split.labels, probabilities)
    metrics = classification_metrics(split.labels, probabilities, EXPRESSIONS)
    arguments = {
        "predictions": predictions,
        "metrics": metrics,
        "sections": [],
        "per_class": per_class_table(metrics),
        "provenance": Table(["", ""], [["data", "</script><b>a`b`"]], numbers=False),
        "history": [{"epoch": i, "train_loss": 2.0 / i, "validation_accuracy": i / 10} for i in (1, 2, 3)],
        "images": split.images,
        "votes": rng.multinomial(10, np.full(10, 0.1), n),
    }
    return predictions, metrics, report_page(**arguments | changes)


def test_page_holds_every_prediction_and_asks_for_nothing():
    predictions, _, text = page()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])
    assert data["rows"] == predictions.row_ids.tolist()
    assert [row[0] for row in data["order"]] == predictions.predicted.tolist()
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "<b>a" not in text
    assert text.count("data:image/webp") == 1


def test_page_to_publish_has_no_image():
    _, _, text = page(images=None, votes=None, history=[])
    assert "data:image" not in text
    assert "without images" in text


@pytest.fixture(scope="module")
def browser(open_chromium):
    with open_chromium() as found:
        yield found


def test_a_cell_opens_its_images_and_filters_choose(browser, tmp_path):
    _, metrics, text = page(files=[f"test/{i}.png" for i in range(N)])
    (tmp_path / "report.html").write_text(text)
    browser.get(f"file://{tmp_path}/report.html")
    find = browser.find_element
    label = int(metrics.support.argmax())
    cell = find("css selector", f'#cells button[data-true="{label}"][data-predicted="{label}"]')
    browser.execute_script("arguments[0].click()", cell)
    count = int(metrics.confusion[label, label])
    assert find("id", "status").text == f"{count} of {N} images"
    faces = browser.find_elements("css selector", "#faces button")
    assert len(faces) == min(count, 60)
    assert "data:image/webp" in find("css selector", "#faces .face").value_of_css_property("background-image")
    browser.execute_script("arguments[0].click()", faces[0])
    assert re.match(rf"test/\d+\.png: true {EXPRESSIONS[label]}", find("id", "detail-title").text)
    browser.execute_script("arguments[0].click()", find("id", "close"))
    script = (
        "const f = document.getElementById('filters'); f.reset(); document.getElementById('outcome').value = 'wrong';"
    )
    browser.execute_script(script + "f.dispatchEvent(new Event('input'))")
    assert find("id", "status").text == f"{N - int(metrics.confusion.trace())} of {N} images"
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_page_of_3589_images_opens_in_two_seconds(browser, tmp_path):
    _, _, text = page(3589)
    (tmp_path / "report.html").write_text(text)
    assert len(text) < 15e6
    browser.get(f"file://{tmp_path}/report.html")
    # Milliseconds from the request to the end of the page's own script.
    assert browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 2000
