#!/usr/bin/env bash
# Runs the tests, making the environment if there is none; arguments go to pytest. `-m slow` runs the long checks.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "$0")/environment.sh" "[test]"

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "note: without a browser the report's page and the demo are not tested; on Debian, and so in CI, it comes by"
    echo "      apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver"
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/lint-imports --no-cache
.venv/bin/mypy
if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
# One process for each core; what a test compiles, the others take from the compile cache.
pytest=(.venv/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal)
"${pytest[@]}" --durations=20
# What rounding may depend on once more with the machine code that users run.
OPTIMISED=true "${pytest[@]}" -m optimised
# What touches Flax modules once more in NNX's coming tree mode, where modules are plain pytrees.
NNX_GRAPH_MODE=false NNX_GRAPH_UPDATES=false "${pytest[@]}" \
    tests/models tests/pretrained/test_keras.py tests/pretrained/test_torch_weights.py \
    tests/pretrained/test_initial.py tests/training/test_step.py tests/test_every_config.py
