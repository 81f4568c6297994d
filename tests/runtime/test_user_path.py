"""Paths as users give them, on the command line, in configs and from Python."""

import argparse
from pathlib import Path

import pytest

from fer_jax.config.loading import load_config
from fer_jax.data.sources import load
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.runtime.user_path import PathArgument, SourceArgument, user_path
from fer_jax.train import train

ELSEWHERE = (
    "gs://bucket/run",
    "s3://bucket",
    "https://there/fer2013.csv",
    "hdfs:///run",
    "az://box/run",
    "dbfs:/run",
    "GS://bucket",
    "file://there/run",
    "host:/run",
    " gs://bucket",
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/x", "runs/x"),
        ("runs/with space ☺/x/", "runs/with space ☺/x"),
        ("~/x", "HOME/home/x"),
        ("a~/~b", "a~/~b"),
        ("./gs:/x", "gs:/x"),
        ("12:30", "12:30"),
        ("c:/x", "c:/x"),
        ("file:///data/a%20b", "/data/a b"),
        ("file:/data", "/data"),
        ("FILE://localhost/data", "/data"),
    ],
)
def test_what_a_path_stands_for(text, expected, tmp_path):
    expected = Path(expected.replace("HOME", str(tmp_path)))
    assert user_path(text, "it") == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ELSEWHERE)
def test_places_on_other_machines_are_refused(text, tmp_path):
    # A `Path` has one slash only, which leaves no host to a file URL.
    for given in (text,) if text.startswith("file") else (text, Path(text)):
        with pytest.raises(InputError, match=r"^--out=.* is not on a file system of this machine.*; as before$"):
            user_path(given, f"--out={given}", "; as before")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("~nobody-has-this-name/x", "it cannot be looked up"),
        ("x" * 300, "it cannot be looked up"),
        ("a\0b", "no name of a file can have"),
        ("runs/\udcff", "not in UTF-8"),
    ],
)
def test_what_is_no_path_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        user_path(text, "it")


def test_arguments_of_commands():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", action=PathArgument, metavar="RUN")
    parser.add_argument("--out", action=PathArgument)
    parser.add_argument("--data", action=SourceArgument)
    args = parser.parse_args(["~/a", "b", "--out=~/c", "--data=./synthetic"])
    assert (args.runs, args.out) == ([Path.home() / "a", Path("b")], Path.home() / "c")
    assert args.data == "./synthetic"  # not the name of a source, which its path would be
    for arguments, message in (
        (["a", "gs://bucket"], "^RUN gs://bucket: is not on"),
        (["--data=s3://b"], "^--data=s3://b is"),
    ):
        with pytest.raises(InputError, match=message):
            parser.parse_args(arguments)


@pytest.mark.parametrize("key", ["init", "backbone_checkpoints.mobilenet_v2"])
def test_config_keys_that_are_paths(key, repository):
    arguments = [f"--config={repository / 'configs' / 'quickstart.py'}", f"--config.{key}=s3://bucket/weights"]
    with pytest.raises(InputError, match=rf"^config\.{key}=s3://bucket/weights is not on a file system"):
        load_config(arguments)


def test_from_python(make_tiny_config, faces, tmp_path):
    for call in (
        lambda: train(make_tiny_config(), faces, "s3://bucket/run"),
        lambda: TrainedModel("s3://bucket/run"),
        lambda: load("s3://bucket/fer2013.csv"),
    ):
        with pytest.raises(InputError, match="is not on a file system of this machine"):
            call()
    assert not list(tmp_path.iterdir())
