"""The command `fer-jax`: its table of commands, and that it works from any folder once it is installed."""

import importlib
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

import fer_jax.train
from fer_jax.__main__ import main
from fer_jax.commands import COMMANDS, command_line
from fer_jax.config.shipped import config_file, shipped_folder, shipped_names
from fer_jax.errors import InputError


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists(name):
    module, _, function = COMMANDS[name][0].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_script_calls_a_command_of_the_table(repository):
    scripts = {f"fer_jax.commands.{path.stem}:main" for path in (repository / "scripts").glob("*.py")}
    assert scripts
    assert scripts <= {target for target, _ in COMMANDS.values()}


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_all_are_listed(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/bin/fer-jax", *arguments])
    assert main() is None
    printed = capsys.readouterr().out
    assert printed.startswith("usage: fer-jax COMMAND")
    assert all(f"\n  {name} " in printed for name in COMMANDS)


def test_an_unknown_command_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fer-jax", "evalute", "--x"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: evalute: no such command, expected one of train,")
    assert error.endswith("; did you mean 'evaluate'?\n")


def test_a_command_is_called_with_its_own_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fer-jax", "compare-runs", "--help"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "usage: fer-jax compare-runs [-h] --out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("called_as", "other"),
    [
        ("fer-jax train", "fer-jax evaluate"),
        ("python -m fer_jax train", "python -m fer_jax evaluate"),
        ("my code/scripts/train.py", "python 'my code/scripts/evaluate.py'"),
    ],
)
def test_the_next_command_is_named_as_this_one_was_called(called_as, other, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called_as])
    assert command_line("evaluate") == other


@pytest.mark.parametrize("text", ["strong/hybrid", "configs/strong/hybrid", "configs/strong/hybrid.py"])
def test_a_shipped_config_is_found_from_any_folder(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file(text) == shipped_folder() / "strong" / "hybrid.py"
    mine = tmp_path / text
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.touch()
    assert config_file(text) == Path(text)


@pytest.mark.parametrize("text", ["mobilenet_v3", "strong", "../configs/quickstart", "", ".", "x" * 5000])
def test_an_unknown_config_is_refused_with_those_that_are_known(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^--config=") as caught:
        config_file(text)
    if len(text) < 1000:
        assert str(shipped_folder()) in str(caught.value)
        assert ", ".join(shipped_names()) in str(caught.value)


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """The folder of the programs of a fresh environment into which `pip install` brought the package."""
    folder = tmp_path_factory.mktemp("installed")
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
    shutil.copytree(repository, folder / "source", ignore=left_out)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", folder / "source"]
    subprocess.run(command, check=True)
    shutil.rmtree(folder / "source")
    # What the package needs is that of this environment; its editable install of the package itself is not seen.
    site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site, python.parent


def call(bin_folder, folder, *command):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program, *arguments = command
    return subprocess.run(
        [bin_folder / program, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_installed_package_trains_and_evaluates_from_another_folder(installed, tmp_path):
    _, programs = installed
    tiny = ["--config.model.input_size=32", "--config.train.epochs=1", "--config.train.batch_size=8"]
    result = call(
        programs, tmp_path, "fer-jax", "train", "--config=quickstart", "--data=synthetic:16", "--workdir=r", *tiny
    )
    assert result.returncode == 0, result.stderr
    assert "\nevaluate: fer-jax evaluate --checkpoint=r" in result.stdout
    arguments = ["--checkpoint=r", "--data=synthetic:16", "--split=test", "--out=report"]
    result = call(programs, tmp_path, "python", "-m", "fer_jax", "evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "report" / "report.md").is_file()


@pytest.mark.slow
def test_installed_package_names_its_configs(installed, tmp_path):
    site, programs = installed
    result = call(programs, tmp_path, "fer-jax", "train", "--config=nothing", "--data=synthetic:16", "--workdir=r")
    assert result.returncode == 2
    assert f"; {site / 'fer_jax' / 'configs'} has efficientnet_b0, " in result.stderr
    result = call(programs, tmp_path, "fer-jax", "train", "--config=configs/strong/mobilenet_v2.py", "--summary")
    assert "MobileNet" in result.stdout or "blocks" in result.stdout, result.stderr


def test_every_file_that_is_no_code_is_in_the_package_data(repository):
    with (repository / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    named = set()
    for package, globs in patterns.items():
        for glob in globs:
            named |= set(repository.joinpath(*package.split(".")).glob(glob))
    there = {path for path in (repository / "fer_jax").rglob("*") if path.is_file()}
    assert {path for path in there - named if path.suffix not in (".py", ".pyc")} == set()


@pytest.mark.slow
def test_every_file_of_the_package_is_installed(installed, repository):
    site, _ = installed
    folder = repository / "fer_jax"
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    configs = {Path("configs", path.relative_to(shipped_folder())) for path in shipped_folder().rglob("*.py")}
    there = {path.relative_to(site / "fer_jax") for path in (site / "fer_jax").rglob("*") if path.suffix != ".pyc"}
    assert files | configs <= there


def test_the_module_of_the_loop_says_which_command_trains(capsys):
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(fer_jax.train.__file__, run_name="__main__")
    assert stopped.value.code == 2
    assert "train by `fer-jax train`" in capsys.readouterr().err


_MISTAKES = {
    "train": ["--config=quickstart", "--config.model.input_sze=3"],
    "benchmark": ["--config=quickstart", "--config.model.input_sze=3"],
    "compile-check": ["--config=quickstart", "--topology=v5e:2x2", "--config.train.epochs=two"],
    "sweep": ["none.py", "--config=quickstart", "--data=synthetic", "--workdir=new"],
    "reproduce": ["--data=synthetic", "--workdir=new", "--config.model.input_sze=3"],
    "export": ["--model=zoo:none", "--format=onnx", "--out=model.txt"],
    "predict": ["none.png", "--threshold=2"],
}


def test_neither_help_nor_a_mistake_waits_for_jax(repository, tmp_path):
    """In one process for all commands, which ends at the first that imports it."""
    calls = [[name, "--help"] for name in COMMANDS] + [[name, *wrong] for name, wrong in _MISTAKES.items()]
    calls += [[name, "--no-such-option"] for name in COMMANDS if name not in ("train", "benchmark", "compile-check")]
    program = f"""
import contextlib, io, sys
from fer_jax.__main__ import main

for call in {calls}:
    sys.argv = ["fer-jax", *call]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main()
    except SystemExit as end:
        if end.code == (0 if call[1] == "--help" else 2) and "jax" not in sys.modules:
            continue
    sys.exit(f"{{call}} did not end as it should, or imports JAX")
"""
    environment = os.environ | {"PYTHONPATH": str(repository)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
