"""Imports run downwards only, from floor to floor of `pyproject.toml`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder):
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def empty_house(tmp_path):
    """A package of the same floors, with nothing in any of them."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "fer_jax").mkdir()
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for name in ["__init__", *(name for floor in contract["layers"] for name in floor.split(" | "))]:
        (tmp_path / "fer_jax" / f"{name}.py").touch()
    return tmp_path


def test_the_package_keeps_its_floors():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


def test_a_downward_import_is_let_through(empty_house):
    (empty_house / "fer_jax/train.py").write_text("import fer_jax.errors\n")
    assert lint_imports(empty_house).returncode == 0


@pytest.mark.parametrize(
    ("lower", "higher"), [("errors", "runtime"), ("compile_check", "benchmarking"), ("reproduction", "benchmarking")]
)
def test_an_upward_or_sideways_import_is_found(empty_house, lower, higher):
    (empty_house / f"fer_jax/{lower}.py").write_text(f"def late():\n    import fer_jax.{higher}\n")
    result = lint_imports(empty_house)
    assert result.returncode == 1
    assert f"fer_jax.{lower} -> fer_jax.{higher}" in result.stdout


def test_a_module_without_a_floor_is_found(empty_house):
    (empty_house / "fer_jax/attic.py").touch()
    result = lint_imports(empty_house)
    assert result.returncode == 1
    assert "attic" in result.stdout
