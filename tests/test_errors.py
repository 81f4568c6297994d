"""Messages to users, and how commands print them."""

import errno

import pytest

from fer_jax.errors import InputError, exit_on_input_error, first_line, is_exhaustion, nearest, shown


def test_shown_shortens_what_is_long():
    assert shown("anger") == "'anger'"
    assert shown([1] * 1000, limit=10) == "[1, 1, ..."
    assert len(shown("x" * 1000)) == 60


def test_nearest_passes_over_letter_case():
    assert nearest("HAPY", ["Sad", "Happy"]) == "; did you mean 'Happy'?"
    assert nearest("zebra", ["Sad", "Happy"]) == ""


def test_first_line_is_never_empty():
    assert first_line(ValueError("\nno such key\nstack")) == "no such key"
    assert first_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.EMFILE, "any words"), True),
        (RuntimeError("I/O error: Too many open files (os error 24)"), True),
        (OSError(errno.ENOENT, "Too many open files"), False),  # the system's number is more sure than the words
        (ValueError("bad magic number"), False),
    ],
)
def test_exhaustion_is_told_from_bad_input(error, expected):
    assert is_exhaustion(error) is expected


@exit_on_input_error
def _refuse():
    try:
        {}["wanted"]
    except KeyError as error:
        raise InputError("file: no wanted") from error


@pytest.mark.parametrize("value", [None, "0", "1"])
def test_traceback_comes_on_request_only(value, monkeypatch, capsys):
    monkeypatch.delenv("FER_JAX_TRACEBACK", raising=False)
    if value is not None:
        monkeypatch.setenv("FER_JAX_TRACEBACK", value)
    with pytest.raises(SystemExit) as found:
        _refuse()
    assert found.value.code == 2
    printed = capsys.readouterr().err
    if value == "1":
        assert "KeyError: 'wanted'" in printed
        assert "Traceback" in printed
        assert printed.endswith("\nerror: file: no wanted\n")
    else:
        assert printed == "error: file: no wanted\n"


def test_other_errors_pass_through():
    @exit_on_input_error
    def broken():
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        broken()
