#!/usr/bin/env bash
# roclip beside PyTorch, in the same run: each pair of programs in turn, five rounds, the median of the ratios.
#
#   bench/run.sh     needs `make interop` (open_clip); the loader is measured by bench/loader.sh
set -euo pipefail
cd "$(dirname "$0")/.."
python=${ROCLIP_INTEROP_PYTHON:-.interop/bin/python}
configs=crates/roclip/src/model/configs
cargo build --release --locked --quiet -p roclip --example bench
ours=target/release/examples/bench

# compare NAME OURS... -- THEIRS...
compare() {
  local name=$1; shift
  local left=() ; while [ "$1" != -- ]; do left+=("$1"); shift; done; shift
  for _ in 1 2 3 4 5; do echo "$("$ours" "${left[@]}") $("$python" bench/with_pytorch.py "$@")"; done |
    "$python" -c '
import statistics, sys
name = sys.argv[1]
pairs = [tuple(map(float, line.split())) for line in sys.stdin]
ratios = sorted(b / a for a, b in pairs)
ours, theirs = (statistics.median(column) for column in zip(*pairs))
print(f"| {name} | {ours:.4g} | {theirs:.4g} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")' "$name"
}

echo "| what | roclip | PyTorch | times as fast | range of 5 |"
echo "|---|---|---|---|---|"
compare "training step, ViT-tiny-32, batch 64, captions of 16 tokens, 1 thread (s)" step ViT-tiny-32 64 16 1 -- step $configs/ViT-tiny-32.json 64 16 1
compare "training step, RN50, batch 4, captions of 16 tokens, 2 threads (s)" step RN50 4 16 2 -- step $configs/RN50.json 4 16 2
compare "training step, ViT-B-32, batch 8, captions of 16 tokens, 2 threads (s)" step ViT-B-32 8 16 2 -- step $configs/ViT-B-32.json 8 16 2

echo
echo "| lookup of 512 images in a pool, 2 threads | s |"
echo "|---|---|"
for pool in "21845 1024 512 2" "21845 1024 512 2 dedup" "200000 1024 512 2" "200000 1024 512 2 dedup"; do
  # Without quotes: each word is an argument.
  read -r rows dim _ _ dedup <<<"$pool"
  echo "| $rows rows of $dim${dedup:+, no row for two images} | $("$ours" pool $pool) |"
done
