"""Rounds in turn, with speeds worked out by hand."""

import pytest

from fer_jax.benchmarking.rounds import Round, interleave, timed


def test_programs_run_in_turn_and_the_first_round_does_not_count():
    calls = []

    def runner(name, seconds):
        durations = iter(seconds)

        def run(steps):
            calls.append((name, steps))
            return Round(images=8 * steps, seconds=next(durations), cpu_seconds=0.08)

        return run

    speeds = interleave({"a": runner("a", [100, 1, 2, 4]), "b": runner("b", [100, 2, 2, 2])}, rounds=3, steps=2)
    assert calls == [("a", 2), ("b", 2)] * 4
    a = speeds["a"]
    assert (a.median, a.low, a.high) == (8, 4, 16)
    assert a.cpu_milliseconds == pytest.approx(5)
    assert (a.rounds, a.steps) == (3, 2)
    assert speeds["b"].low == speeds["b"].high == 8


def test_a_step_that_computes_takes_cpu_time():
    result = timed(lambda: sum(range(300_000)), images_per_step=4)(steps=3)
    assert result.images == 12
    assert result.cpu_seconds > 0
    assert result.seconds > 0
