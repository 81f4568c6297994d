"""The code in docs/export.md runs on what the export writes."""

import re

import pytest

from fer_jax.expressions import EXPRESSIONS

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("kind", ["onnx", "stablehlo"])
def test_code_of_the_document_runs(repository, exported, kind, capsys):
    path, _ = exported[kind]
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "export.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if f'"hybrid.{kind}"' in block)
    exec(code.replace(f'"hybrid.{kind}"', repr(str(path))), {})
    printed = capsys.readouterr().out
    assert any(name in printed for name in EXPRESSIONS)
