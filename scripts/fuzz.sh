#!/bin/sh
# scripts/fuzz.sh SECONDS [TARGET...]: feeds every target (or those named) for SECONDS each; prints executions and crashes. Inputs that crash are
# kept in fuzz/crashes/.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked -p roclip-fuzz
# An input of some kilobytes that takes gigabytes is a crash.
ulimit -v 12000000
nice -n 19 target/release/roclip-fuzz "$@"
