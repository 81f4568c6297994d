"""Progress lines, and the time left, under a clock that the test turns."""

import io

import pytest

from fer_jax.runtime.terminal import TrainingProgress, duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def seconds_left(line):
    seconds = 0
    for part in line.split("img/s  ")[1].removesuffix(" left").split(":"):
        seconds = 60 * seconds + int(part)
    return seconds


def test_one_plain_line_for_each_report():
    stream, clock = io.StringIO(), Clock()
    with TrainingProgress(5376, 12, 32, stream=stream, clock=clock) as progress:
        progress.message("weights: [keras]")
        progress.update(1344, 3, {"loss": 1.23456, "accuracy": 0.5432, "learning_rate": 0.00025}, 132.4)
        progress.epoch_line("epoch 3 done")
    assert stream.getvalue().splitlines() == [
        "weights: [keras]",
        # (5376 - 1344) steps of 32 images at 132.4 images per second are 974.5 s.
        "epoch  3/12  step 1344/5376  loss 1.2346  accuracy 0.543  learning_rate 0.00025  132 img/s  16:15 left",
        "epoch 3 done",
    ]


def test_time_left_follows_the_clock_and_forgets_the_old_pace():
    stream, clock = io.StringIO(), Clock()
    progress = TrainingProgress(10_000, 10, 10, stream=stream, clock=clock)
    progress.update(0, 1, {}, 10.0)
    # From here on a step takes 2 s by the clock, whatever is said of the images per second.
    for step in range(500, 5001, 500):
        clock.now += 1000
        progress.update(step, 1, {}, 10.0)
    lines = stream.getvalue().splitlines()
    assert seconds_left(lines[0]) == 10_000
    assert 9500 < seconds_left(lines[1]) < 19_000
    assert seconds_left(lines[-1]) == pytest.approx(10_000, rel=1e-3)


@pytest.mark.parametrize("images_per_second", [0.0, float("nan"), float("inf")])
def test_an_unknown_pace_shows_no_time_left(images_per_second):
    stream = io.StringIO()
    TrainingProgress(10, 1, 4, stream=stream).update(5, 1, {"loss": float("nan")}, images_per_second)
    assert "loss nan" in stream.getvalue()
    assert "left" not in stream.getvalue()


def test_color_forced_by_the_environment_does_not_make_a_file_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with TrainingProgress(10, 1, 4, stream=stream) as progress:
        progress.update(5, 1, {"loss": 1.0}, 8.0)
    assert stream.getvalue() == "epoch 1/1  step  5/10  loss 1.0000  8.0 img/s  0:02 left\n"


def test_a_terminal_gets_a_live_display_with_lines_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with TrainingProgress(10, 1, 4, stream=stream) as progress:
        progress.update(5, 1, {"loss": 1.0}, 8.0)
        progress.message("[bold]as it is[/bold]")
    shown = stream.getvalue()
    assert "\x1b[" in shown
    assert "[bold]as it is[/bold]" in shown
    assert "step  5/10" in shown
    assert "8.0 img/s  0:02 left" in shown


def test_duration():
    assert [duration(seconds) for seconds in (0, 59.6, 754, 3600, 36_061)] == [
        "0:00",
        "1:00",
        "12:34",
        "1:00:00",
        "10:01:01",
    ]
