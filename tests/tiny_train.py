"""scripts/train.py with `tiny` among its backbones: what tests start as a process of its own.

SIGUSR1 makes it print the stacks of its threads, to see where it waits.
"""

import faulthandler
import importlib.util
import runpy
import signal
import sys
from pathlib import Path

_HERE = Path(__file__).parent

spec = importlib.util.spec_from_file_location("conftest", _HERE / "conftest.py")
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
conftest.BACKBONES[conftest.TINY.name] = conftest.TINY

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    sys.argv[0] = str(_HERE.parent / "scripts" / "train.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
