#!/usr/bin/env bash
# Two processes of one thread beside one process of two threads, in turn: pairs a second, and their ratio.
#   bench/processes.sh [MODEL] [BATCH] [TIMES]     (needs `make build`; works in a temporary folder)
set -euo pipefail
model=${1:-ViT-tiny-32} batch=${2:-64} times=${3:-5}
roclip=$(cd "$(dirname "$0")/.." && pwd)/target/release/roclip
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
words=(train --quiet --train-data emoji --model "$model" --batch-size "$batch" --epochs 1 --set data.source.emoji.concepts=40
    --set train.log_every_steps=1 --set data.workers=1)

# Pairs a second between the fifth step and the last.
pace() {
    python3 - "$1/metrics.jsonl" "$batch" <<'PYTHON'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
steps = [line for line in lines if line["event"] == "step"][4:]
print((len(steps) - 1) * int(sys.argv[2]) / (steps[-1]["elapsed_seconds"] - steps[0]["elapsed_seconds"]))
PYTHON
}

for time in $(seq "$times"); do
    OMP_NUM_THREADS=2 "$roclip" "${words[@]}" --threads 2 --run "$folder/one$time"
    export MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + RANDOM % 20000)) WORLD_SIZE=2 GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=1
    RANK=1 "$roclip" "${words[@]}" --threads 1 --run "$folder/two$time" &
    RANK=0 "$roclip" "${words[@]}" --threads 1 --run "$folder/two$time"
    wait
    unset WORLD_SIZE
    echo "$(pace "$folder/one$time") $(pace "$folder/two$time")"
done | tee /dev/stderr | python3 -c '
import statistics, sys
pairs = [tuple(map(float, line.split())) for line in sys.stdin]
ratios = [two / one for one, two in pairs]
for one, two in pairs:
    print(f"1 process x 2 threads {one:8.1f} pairs/s   2 processes x 1 thread {two:8.1f}   ratio {two / one:.2f}")
print(f"median ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")'
