#!/usr/bin/env bash
# The loader beside torchvision with PIL, in the same run: each pair of programs in turn, five rounds, the median of the ratios; and what the loader
# holds ahead of training, by workers. Images a second are of processor time, so that other work on the machine does not count.
#
#   bench/loader.sh FOLDER_OF_JPEGS [BENCH_PROGRAM]     needs torchvision (`make interop`, or ROCLIP_INTEROP_PYTHON)
set -euo pipefail
folder=$(realpath "${1:?a folder of .jpg files}")
cd "$(dirname "$0")/.."
python=${ROCLIP_INTEROP_PYTHON:-.interop/bin/python}
ours=${2:-target/release/examples/bench}
[ $# -gt 1 ] || cargo build --release --locked --quiet --workspace --example bench

grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /processor: /'
"$python" -c '
import pathlib, statistics, sys
from PIL import Image, features
import torchvision
files = sorted(pathlib.Path(sys.argv[1]).rglob("*.jpg"))[:200]
sides = [max(Image.open(file).size) for file in files]
kilobytes = statistics.median(file.stat().st_size for file in files) / 1000
print(f"{len(files)} pictures of {statistics.median(sides):.0f} pixels (longer side) and {kilobytes:.0f} kB, medians")
turbo = features.version("libjpeg_turbo")
print(f"torchvision {torchvision.__version__}, libjpeg-turbo {turbo}")' "$folder"
echo
echo "| what | roclip | torchvision | times as fast | range of 5 |"
echo "|---|---|---|---|---|"
for what in plain augment; do
  for _ in 1 2 3 4 5; do echo "$("$ours" $what "$folder" 224) $("$python" bench/with_pytorch.py $what "$folder" 224)"; done |
    "$python" -c '
import statistics, sys
pairs = [tuple(map(float, line.split())) for line in sys.stdin]
ratios = sorted(a / b for a, b in pairs)
ours, theirs = (statistics.median(column) for column in zip(*pairs))
print(f"| {sys.argv[1]} to 224 px (images/s of a core) | {ours:.0f} | {theirs:.0f} | {statistics.median(ratios):.1f} | {ratios[0]:.1f} to {ratios[-1]:.1f} |")' $what
done
echo
echo "| workers | MiB that the loader holds at batch 512, 224 px, two batches ahead | first batch |"
echo "|---|---|---|"
for workers in 1 8 16; do
  said=$( { "$ours" ahead "$folder" 224 512 $workers; } 2>&1 )
  echo "$said" | "$python" -c '
import re, sys
said = sys.stdin.read()
seconds = re.search("after ([0-9.]+) s", said)[1]
print(f"| {sys.argv[1]} | {float(said.split()[-1]):.0f} | {seconds} s |")' $workers
done
