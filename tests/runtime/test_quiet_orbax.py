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


def test_only_orbax_is_silent_among_those_who_log_by_absl():
    program = (
        "import orbax.checkpoint, os\n"
        "from absl import logging\n"
        "from fer_jax.runtime.quiet_orbax import silence_orbax\n"
        "def warn(file, text):\n"
        "    exec(compile(f'logging.warning({text!r})', file, 'exec'), {'logging': logging})\n"
        "inside = orbax.checkpoint.__file__\n"
        "warn(inside, 'orbax before')\n"
        "silence_orbax()\n"
        "warn(inside, 'orbax after')\n"
        "warn('/elsewhere/orbax.py', 'another one')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "orbax before" in result.stderr
    assert "orbax after" not in result.stderr
    assert "another one" in result.stderr
