"""Measure whether several training steps a call are faster than one, as `train.py` calls them."""

import statistics
import time

import jax

from fer_jax.benchmarking.rounds import Runner, interleave
from fer_jax.benchmarking.runners import TrainRunner
from fer_jax.benchmarking.section import Section, Settings
from fer_jax.runtime import sharding as meshes
from fer_jax.training.program import TrainProgram

STEPS_AT_A_TIME = (2, 4, 8)
"""How many steps one call runs, beside the calls of one step each."""

_ONE_BY_ONE = "1 step a call, as train.py"


def scanned(program: TrainProgram, steps: int) -> jax.stages.Wrapped:
    """Return a program with the arguments of the step of `program` that runs `steps` steps in a loop on the device."""

    one_step = program.step()

    def run(state, metrics, data, order):
        def step(carry, _):
            return one_step(*carry, data, order), None

        return jax.lax.scan(step, (state, metrics), length=steps)[0]

    return jax.jit(run, donate_argnums=(0, 1), out_shardings=meshes.replicated(program.mesh))


def dispatch(settings: Settings) -> Section:
    """Measure the same steps in calls of one and of several steps, and the time of the host for a call of one.

    A round has `settings.steps` steps, rounded up to a multiple of the most in one call.
    """
    training = TrainRunner(settings.config)
    steps = -(-settings.steps // STEPS_AT_A_TIME[-1]) * STEPS_AT_A_TIME[-1]
    runners: dict[str, Runner] = {_ONE_BY_ONE: training}
    for at_a_time in STEPS_AT_A_TIME:
        compiled = training.lower(scanned(training.program, at_a_time)).compile()
        runners[f"{at_a_time} steps a call"] = _runner(training, compiled, at_a_time)
    speeds = interleave(runners, rounds=settings.rounds, steps=steps)
    one, batch_size = speeds[_ONE_BY_ONE], settings.config.train.batch_size
    call = _call_seconds(training, settings.rounds)
    figures = {
        "1 step a call: lowest to highest round (% of the median)": 100 * (one.high - one.low) / one.median,
        "1 step a call: until it returns (ms)": 1e3 * call,
        "1 step a call: until it returns (% of a step)": 100 * call * one.median / batch_size,
    }
    return Section("dispatch", f"Steps a call, batch {batch_size}", speeds, figures)


def _runner(training: TrainRunner, compiled: jax.stages.Compiled, steps_each: int) -> Runner:
    return lambda steps: training.dispatch(compiled, steps // steps_each, steps_each=steps_each)


def _call_seconds(training: TrainRunner, calls: int) -> float:
    """Return the median seconds until a call of one step returns on an idle device, over `calls` calls."""
    found = []
    for _ in range(calls):
        jax.block_until_ready(training.state)
        start = time.perf_counter()
        training.call(training.step)
        found.append(time.perf_counter() - start)
    jax.block_until_ready(training.state)
    return statistics.median(found)
