"""Commands on this machine: in processes that each have one of its devices."""

import subprocess
import sys
from collections.abc import Callable

from fer_jax.errors import InputError

PROGRAM = (sys.executable, "-m", "fer_jax")
"""How a process of a command begins, before the command's name."""

_COUNT_DEVICES = "import jax; print(jax.default_backend(), jax.local_device_count())"
# How a process gets one device alone, by its number: of NVIDIA's driver, and of libtpu.
_ONE_DEVICE: dict[str, Callable[[int], dict[str, str]]] = {
    "gpu": lambda number: {"CUDA_VISIBLE_DEVICES": str(number)},
    "tpu": lambda number: {
        "TPU_VISIBLE_CHIPS": str(number),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
    },
}


def device_environments() -> list[dict[str, str]]:
    """Return for each device of this machine the environment in which a process sees it alone; one for all of a CPU.

    JAX is asked in a process of its own, because it would keep the devices for this one.

    Raises `InputError` if JAX does not start.
    """
    asked = subprocess.run([sys.executable, "-c", _COUNT_DEVICES], capture_output=True, text=True)
    if asked.returncode:
        raise InputError(f"JAX finds no device ({(asked.stderr.strip().splitlines() or ['no message'])[-1]})")
    backend, number = asked.stdout.split()[-2:]
    if backend not in _ONE_DEVICE:
        return [{}]
    return [_ONE_DEVICE[backend](index) for index in range(int(number))]
