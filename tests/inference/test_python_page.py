"""The code of docs/python.md runs, block after block, with a tiny network in place of the shipped one."""

import re

import numpy as np
import pytest
from PIL import Image

import fer_jax
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.expressions import EXPRESSIONS
from fer_jax.zoo import shipped

pytest.importorskip("onnxruntime")


def test_the_code_of_the_page_runs(repository, whole_run, tmp_path, monkeypatch, capsys):
    model, asked = fer_jax.load(whole_run[0]), []
    monkeypatch.setattr(fer_jax, "load", lambda name: asked.append(name) or model, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    drawn = synthetic_faces(8, 8, 7, seed=0).test
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        Image.fromarray(image).save(tmp_path / "faces" / f"{EXPRESSIONS[label]}.png")
    Image.fromarray(drawn.images[0]).save(tmp_path / "face.png")
    Image.fromarray(np.pad(drawn.images[0], 100, mode="edge")).save(tmp_path / "photo.jpg")

    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "python.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)
    assert [shipped.shipped_file(name).is_file() for name in asked] == [True]
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[0] in EXPRESSIONS
    assert "happy.png {'angry': '0." in printed
    assert "expected uint8 from 0 to 255" in printed
    assert namespace["features"].shape == (7, model.spec.num_features)
    with Image.open("heat.png") as heat:
        assert heat.size == (240, 240)
