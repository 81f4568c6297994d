"""The code of docs/python.md runs, block after block, with a tiny network in place of the shipped one."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

import fer_jax
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.expressions import EXPRESSIONS
from fer_jax.testing import TINY, registered
from fer_jax.zoo import shipped

pytest.importorskip("onnxruntime")


def test_the_code_of_the_page_runs(repository, whole_run, tmp_path, monkeypatch, capsys):
    load, asked = fer_jax.load, []
    model = load(whole_run[0])

    def shipped_or_own(name):
        if not name.startswith("zoo:"):
            return load(name)
        asked.append(name)
        return model

    monkeypatch.setattr(fer_jax, "load", shipped_or_own, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    drawn = synthetic_faces(8, 8, 7, seed=0).test
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        Image.fromarray(image).save(tmp_path / "faces" / f"{EXPRESSIONS[label]}.png")
    Image.fromarray(drawn.images[0]).save(tmp_path / "face.png")
    Image.fromarray(np.pad(drawn.images[0], 100, mode="edge")).save(tmp_path / "photo.jpg")

    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "python.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    # The shipped model, from which this config starts, does not fit the tiny network.
    blocks = [
        block.replace('"--config=quickstart"', '"--config=quickstart", "--config.init_from=None"') for block in blocks
    ]
    namespace = {}
    with registered(dataclasses.replace(TINY, name="mobilenet_v2")):
        for block in blocks:
            exec(compile(block, "docs/python.md", "exec"), namespace)
    assert [shipped.shipped_file(name).is_file() for name in asked] == [True]
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[0] in EXPRESSIONS
    assert "happy.png {'angry': '0." in printed
    assert "expected uint8 from 0 to 255" in printed
    assert namespace["features"].shape == (7, model.spec.num_features)
    assert re.search(r"best epoch 1: \d+\.\d % of 8 right", printed)
    assert printed.rstrip().endswith(f"macro-F1 {namespace['metrics'].macro_f1:.3f}")
    assert len(namespace["data"].test) == 16
    with Image.open("heat.png") as heat:
        assert heat.size == (240, 240)
