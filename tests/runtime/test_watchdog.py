"""A run that hangs ends with the stacks of its threads; one that goes on is left alone."""

import subprocess
import sys
import time

from fer_jax.runtime.watchdog import Watchdog

_HANGS = """
import time
from fer_jax.runtime.watchdog import Watchdog

def step_that_never_returns():
    time.sleep(60)

with Watchdog({minutes}) as watchdog:
    watchdog.beat()
    step_that_never_returns()
"""


def test_hung_step_ends_the_process_and_says_where():
    start = time.monotonic()
    command = [sys.executable, "-c", _HANGS.format(minutes=0.01)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert time.monotonic() - start < 40
    assert result.returncode == 1
    assert "Timeout" in result.stderr
    assert "step_that_never_returns" in result.stderr


def test_every_beat_and_every_allowance_gives_more_time():
    with Watchdog(0.5 / 60) as watchdog:
        # The compilation that a run begins with: longer than the limit of half a second.
        time.sleep(0.7)
        for _ in range(4):
            watchdog.beat()
            time.sleep(0.2)
        watchdog.beat(allowance=1.0)
        time.sleep(0.7)
    time.sleep(0.7)


def test_zero_switches_it_off():
    with Watchdog(0) as watchdog:
        watchdog.beat()
