#!/bin/sh
# Kills tiny runs with SIGKILL at random moments, resumes them, and compares them bit for bit with a run that was left alone.
#   scripts/kill_and_resume.sh OBJECTIVE KILLS     OBJECTIVE: clip, roclip, safeclip or clean
set -eu
cd "$(dirname "$0")/.."
ROCLIP_OBJECTIVE="${1:?clip, roclip, safeclip or clean}" ROCLIP_KILLS="${2:?how many kills}" \
	cargo test --release --quiet --locked --workspace --test cli -- --ignored --nocapture runs_killed_at_random_moments
