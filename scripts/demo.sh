#!/usr/bin/env bash
# From a fresh clone: installs what is missing, builds, and runs the main job:
# compiles attention, runs it on real arrays, on the CPU and on a GPU if there is
# one, checks it against an independent reference and prints speed and error.
# Exits non-zero when an error exceeds its bound.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup
# Arrays on a GPU come from PyTorch; without a GPU the demo does not use it.
if nvidia-smi -L >/dev/null 2>&1; then
  pip_install torch torch==2.13.0
fi
step "Running attention"
"$VENV/bin/python" examples/demo.py "$@"
step "Done"
