"""A trace of some steps, in the files that xprof and Perfetto open."""

import gzip
import json

import jax
import jax.numpy as jnp

from fer_jax.runtime.profiling import StepTrace


def test_trace_is_written_once_and_its_place_is_said(tmp_path):
    step, value, messages = jax.jit(lambda x: x + 1), jnp.zeros(()), []
    with StepTrace(tmp_path, 2) as trace:
        for number in range(1, 9):
            trace.before_step()
            value = step(value)
            if message := trace.after_step(value):
                messages.append((number, message))
    # Three steps warm up, two are traced.
    assert messages == [(5, f"trace for xprof and Perfetto: {tmp_path / 'profile'}")]
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1
    (perfetto,) = tmp_path.rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]


def test_run_that_ends_early_leaves_what_there_is(tmp_path):
    with StepTrace(tmp_path, 50) as trace:
        for _ in range(5):
            trace.before_step()
            trace.after_step(jnp.zeros(()))
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_nothing_is_written_unless_asked(tmp_path):
    with StepTrace(tmp_path, 0) as trace:
        for _ in range(5):
            trace.before_step()
            assert trace.after_step(jnp.zeros(())) is None
    assert not list(tmp_path.iterdir())
