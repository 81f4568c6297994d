"""scripts/train.py with `tiny` among its backbones: what tests start as a process of its own.

SIGUSR2 makes it print the stacks of its threads, to see where it waits.
"""

import faulthandler
import runpy
import signal
import sys
from pathlib import Path

from fer_jax.testing import TINY, registered

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR2)
    sys.argv[0] = str(Path(__file__).parents[1] / "scripts" / "train.py")
    with registered(TINY):
        runpy.run_path(sys.argv[0], run_name="__main__")
