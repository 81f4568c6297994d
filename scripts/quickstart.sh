#!/usr/bin/env bash
# From nothing to a trained and evaluated model: makes the environment, trains the shipped MobileNetV2 further on drawn
# faces and writes a report. Needs Python 3.11, 3.12 or 3.13 and a package index; afterwards, minutes on two CPU cores.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "$0")/environment.sh" ""

run=${1:-runs/quickstart}
data=synthetic
.venv/bin/python scripts/train.py --config=configs/quickstart.py --data="$data" --workdir="$run"
.venv/bin/python scripts/evaluate.py --checkpoint="$run" --data="$data" --split=test --out="$run/report"
echo
echo "Look at $run/report/report.md, and at the pictures beside it:"
ls "$run"/report/*.png
