"""`docs/config.md` says what the code does."""

import ast
import dataclasses
import subprocess
import sys

from fer_jax.config import defaults
from fer_jax.config.defaults import default_config, flatten

COMMAND = [sys.executable, "-m", "fer_jax.config.reference"]


def test_reference_is_up_to_date(repository):
    """In a process of its own: tests make backbones known that nobody else has."""
    written = subprocess.run(COMMAND, cwd=repository, check=True, capture_output=True, text=True).stdout
    assert (repository / "docs" / "config.md").read_text() == written, "write it anew by the command that it names"


def test_reference_has_every_key_and_its_default(repository):
    lines = (repository / "docs" / "config.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    assert all(len(row) == 4 for row in cells)
    assert {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in cells} == flatten(default_config())


def test_a_changed_default_shows_in_it(monkeypatch):
    from fer_jax.config.reference import markdown

    before = markdown()
    monkeypatch.setitem(defaults.TRAIN, "epochs", dataclasses.replace(defaults.TRAIN["epochs"], default=101))
    assert markdown() == before.replace("| `train.epochs` | `100` |", "| `train.epochs` | `101` |")
    assert markdown() != before
