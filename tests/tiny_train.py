"""scripts/train.py with `tiny` among its backbones: what tests start as a process of its own."""

import importlib.util
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).parent

spec = importlib.util.spec_from_file_location("conftest", _HERE / "conftest.py")
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
conftest.BACKBONES[conftest.TINY.name] = conftest.TINY

if __name__ == "__main__":
    sys.argv[0] = str(_HERE.parent / "scripts" / "train.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
