#!/usr/bin/env bash
# What the end of an epoch costs beside a step: CPU seconds (user and system) of both, and peak memory.
#   bench/epoch_end.sh [MODEL...]     (needs `make build`, and nothing else running; works in a temporary folder; the models are RN50 and ViT-B-32)
# 40 pairs, batches of 8, 2 threads, EPOCHS epochs (2): without labelled images, and with those of 5 classes and 400 prompts. BINARY names another roclip.
set -euo pipefail
[ $# -gt 0 ] || set -- RN50 ViT-B-32
roclip=${BINARY:-$(cd "$(dirname "$0")/.." && pwd)/target/release/roclip}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
words=(train --quiet --train-data emoji --set data.source.emoji.concepts=5 --set data.captions=first --batch-size 8 --epochs "${EPOCHS:-2}"
    --set train.log_every_steps=1 --set train.keep_checkpoints=1 --threads 2)

# CPU seconds of a step and of an epoch's end (medians), and peak memory of the run in the folder $1, whose command follows.
measure() {
    python3 - "$@" <<'PYTHON'
import atexit, json, os, re, statistics, subprocess, sys, time

run, command = sys.argv[1], sys.argv[2:]
tick = os.sysconf("SC_CLK_TCK")
process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
atexit.register(process.kill)


def cpu_seconds():
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / tick


# Every row of the metrics with the CPU seconds that the process had taken when it appeared.
rows, log, text = [], None, ""
while process.poll() is None:
    try:
        log = log or open(f"{run}/metrics.jsonl")
        now = cpu_seconds()
        *lines, text = (text + log.read()).split("\n")
        rows += [(json.loads(line)["event"], now) for line in lines]
        peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{process.pid}/status").read())[1])
    except (FileNotFoundError, ProcessLookupError, TypeError, IndexError):
        pass  # It has not begun, or has just ended.
    time.sleep(0.01)
if process.returncode:
    sys.exit(f"roclip ended with {process.returncode}")
between = [(before, event, now - then) for (before, then), (event, now) in zip(rows, rows[1:])]
steps = [seconds for before, event, seconds in between if before == event == "step"]
ends = [seconds for before, event, seconds in between if (before, event) == ("trained", "epoch")]
print(f"{statistics.median(steps):.1f} | {statistics.median(ends):.1f} | {peak / 2**20:.2f}")
PYTHON
}

echo "processor: $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep -E '^(avx2|avx512f|avx512_bf16|sha_ni)$' | tr '\n' ' ')"
echo "| model | what an epoch's end does | step, CPU s | end of an epoch, CPU s | peak memory, GiB |"
echo "|---|---|---|---|---|"
for model in "$@"; do
    row() {
        local name=$1; shift
        local measured
        measured=$(measure "$folder/run" "$roclip" "${words[@]}" --model "$model" --run "$folder/run" "$@")
        echo "| $model | $name | $measured |"
        rm -rf "$folder/run"
    }
    row "checkpoint" --val-data none
    row "checkpoint, evaluation" --val-data emoji --set eval.source.emoji.concepts=5
done
