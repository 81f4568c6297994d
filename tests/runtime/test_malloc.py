"""Steps on CPU find their memory in place."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_FAULTS = """
import json, resource, sys
import jax, jax.numpy as jnp
from fer_jax.runtime.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
# 64 MiB that live between two operations which XLA does not fuse.
step = jax.jit(lambda x: jnp.sort(jnp.outer(x, x).ravel()[::-1] + 1)[::4096])
x = jnp.ones(4096)
step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step(x).block_until_ready()
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_of_a_step_is_kept():
    def faults(mode):
        result = subprocess.run([sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True)
        return json.loads(result.stdout)

    kept, given_back = faults("keep"), faults("leave")
    # Where the system uses huge pages for all memory there is little to keep.
    if "[always]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        assert given_back > 100_000
    assert kept < given_back / 3
