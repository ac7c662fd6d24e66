#!/usr/bin/env bash
# Every table of bench/README.md that a CPU can measure, one after another, on a machine that does nothing else: about an hour on 2 cores.
#   bench/all.sh PAIRS.csv FOLDER_OF_PHOTOS     needs `make build` and `make interop`; PAIRS.csv as released_pairs.py takes it
set -euo pipefail
pairs=$(realpath "$1") photos=$(realpath "$2")
cd "$(dirname "$0")/.."
section() { printf '\n## %s\n\n' "$1"; }
grep -m1 'model name' /proc/cpuinfo || true
section "Beside the released program"
"${ROCLIP_INTEROP_PYTHON:-.interop/bin/python}" bench/released_pairs.py "$pairs"
section "Beside open_clip"
bench/run.sh
section "Two processes beside one"
bench/processes.sh
section "The end of an epoch"
bench/epoch_end.sh
section "The loader"
bench/loader.sh "$photos"
