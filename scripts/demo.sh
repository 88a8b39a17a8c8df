#!/usr/bin/env bash
# From a fresh clone: installs what is missing, builds, and runs the main job:
# compiles attention, runs it on real arrays, on the CPU and on a GPU if there is
# one, checks it against an independent reference and prints speed and error.
# Exits non-zero when an error exceeds its bound.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup
step "Running attention"
"$VENV/bin/python" examples/demo.py "$@"
step "Done"
