"""Output that nobody can take any more does not end the work, nor change its exit status."""

import io
import subprocess
import sys

import pytest

from fer_jax.runtime.terminal import TrainingProgress
from fer_jax.streams import LastingStream

# What a command does: it says something, works, says more, and ends with a status of its own.
_COMMAND = """
import sys
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.streams import told_of_losses

@exit_on_input_error
def main():
    print("first", flush=True)
    sys.stdin.read()
    with open(sys.argv[1], "w") as file, told_of_losses(lambda loss: print(loss, file=file)):
        print("second \u263a", flush=True)
        print("third " * 10000)
    open(sys.argv[1] + ".done", "w").close()
    if sys.argv[2:]:
        raise InputError("a mistake")
main()
"""


def start(tmp_path, *arguments, **streams):
    command = [sys.executable, "-c", _COMMAND, str(tmp_path / "losses"), *arguments]
    return subprocess.Popen(command, **{"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})


def test_closed_pipe(tmp_path):
    process = start(tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    _, said = process.communicate()
    assert process.returncode == 0
    assert said == b"note: standard output is closed; the work goes on without it\n"
    assert (tmp_path / "losses").read_text() == "standard output is closed\n"
    assert (tmp_path / "losses.done").exists()


@pytest.mark.parametrize("both", [False, True])
def test_full_disk(both, tmp_path):
    with open("/dev/full", "wb") as full:
        process = start(tmp_path, "fail", stdout=full, stderr=full if both else subprocess.PIPE)
        _, said = process.communicate()
    assert process.returncode == 2
    reason = "standard output cannot be written (No space left on device)"
    if not both:
        assert said.decode() == f"note: {reason}; the work goes on without it\nerror: a mistake\n"
    assert reason in (tmp_path / "losses").read_text()


def test_streams_closed_from_the_start(tmp_path):
    """What is opened later does not get their descriptors, and with them what libraries print."""
    shell = f'exec {sys.executable} -c "$0" "$@" <&- >&- 2>&-'
    command = _COMMAND + "import os; os.write(1, b'from a library')\n"
    subprocess.run(["bash", "-c", shell, command, str(tmp_path / "losses")], check=True)
    assert (tmp_path / "losses").read_text() == ""


def test_ascii_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = start(tmp_path, stdout=subprocess.PIPE)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert said.splitlines()[1] == rb"second \u263a"


class Broken(io.StringIO):
    """Takes two writes, and then no more."""

    left = 2

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_progress_goes_on_where_its_stream_does_not():
    stream, losses = Broken(), []
    with TrainingProgress(10, 1, 4, stream=stream, on_loss=losses.append) as progress:
        for text in ("one", "two", "three"):
            progress.message(text)
    assert stream.getvalue() == "one\n"
    assert losses == ["standard output cannot be written (Input/output error)"]


def test_other_errors_of_a_stream_are_bugs():
    with pytest.raises(TypeError):
        LastingStream(io.StringIO(), "it").write(b"bytes")
