"""Only what a failed write says once it is of no use is left out."""

import subprocess
import sys


def test_other_errors_are_still_printed():
    def stderr(text):
        program = (
            "from fer_jax.runtime.quiet_orbax import silence_orbax\n"
            "silence_orbax()\n"
            "class Late:\n"
            "    def __del__(self):\n"
            f"        raise RuntimeError({text!r})\n"
            "late = Late()\n"
            "del late\n"
        )
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr

    assert "Event loop" not in stderr("Event loop is closed")
    assert "something else" in stderr("something else")
