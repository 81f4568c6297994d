# shellcheck shell=bash
# Sourced by quickstart.sh, test.sh and launch/on_worker.sh, under `set -e`: makes .venv in the repository's root if there is none, and installs into it.
# The extras to install are the first argument, such as "[test]".

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11, 3.12 or 3.13 is needed; found none on the PATH" >&2
    return 1
}

if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
# Installed again only when what it is made of has changed.
wanted=$(cat pyproject.toml setup.py requirements*.txt | cksum)$1
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "installing fer_jax and what it needs into .venv (a few minutes)"
    PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$1"
    echo "$wanted" > .venv/installed
fi
