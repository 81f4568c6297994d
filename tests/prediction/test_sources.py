"""What the arguments of a prediction stand for."""

import io

import pytest

from fer_jax.errors import InputError
from fer_jax.prediction.sources import Source, check_arguments, find_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "deep/er/c.webp", "deep/clip.MP4", "notes.txt", ".hidden.png", ".git/d.png", "7"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def found(*arguments, listed=""):
    return [(source.name, source.kind, source.error) for source in find_sources(arguments, io.StringIO(listed))]


def test_a_folder_stands_for_what_lies_below_it(folder):
    assert found(".") == [
        ("a.JPG", "picture", ""),
        ("b.png", "picture", ""),
        ("deep/clip.MP4", "video", ""),
        ("deep/er/c.webp", "picture", ""),
    ]


def test_arguments_keep_their_order(folder):
    names = [name for name, _, _ in found("notes.txt", "deep/**/*.webp", "-", "*.png", listed="b.png\n\nnone.png\n")]
    assert names == ["notes.txt", "deep/er/c.webp", "b.png", "none.png", "b.png"]


def test_a_number_is_a_camera_unless_a_file_has_that_name(folder):
    assert found("0", "7") == [("0", "camera", ""), ("7", "picture", "")]


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("none.png", "no such file"),
        ("*.gif", "no file has a name"),
        ("empty", "no picture or video"),
        ("x" * 300, "name too long"),
        ("a\0b", ""),
    ],
)
def test_what_cannot_be_read_is_said_in_its_place(argument, error, folder):
    ((name, _, said), after) = found(argument, "b.png")
    assert name == argument
    assert error in said
    assert after == ("b.png", "picture", "")


def test_sources_are_found_as_they_are_asked_for(folder):
    """So that a list on standard input may go on for as long as it likes."""
    endless = iter(["b.png\n"])
    sources = find_sources(["-"], endless)
    assert next(sources) == Source("b.png", "picture")


@pytest.mark.parametrize("arguments", [[], ["-", "a.png", "-"]])
def test_arguments_that_mean_nothing_are_refused(arguments):
    with pytest.raises(InputError):
        check_arguments(arguments)
