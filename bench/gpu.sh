#!/usr/bin/env bash
# roclip on a GPU: agreement with the CPU, and speed and memory beside PyTorch. One GPU, under 8 minutes.
#
#   bench/gpu.sh pack      where Rust is: builds the programs and puts them, stripped, into target/gpu/programs.tar.gz
#   bench/gpu.sh           where the GPU is: measures with these programs, and prints tables
#   bench/gpu.sh --smoke   every line of it on a CPU, with small models
#
# Needs a python3 (PYTHON) with PyTorch 2.11, whose libraries roclip uses, CUDA's included. The PyTorch side needs open_clip in it, or in a folder
# that PYTHONPATH names; where it is missing, this is said and the rest is measured. Tables go to stdout and to OUT/gpu.md (OUT: target/gpu/out).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
packed=target/gpu/programs.tar.gz
configs=crates/roclip/src/model/configs

if [ "${1:-}" = pack ]; then
  cargo build --release --locked --workspace --bin roclip --example bench
  folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
  strip -o "$folder/roclip" target/release/roclip
  strip -o "$folder/bench" target/release/examples/bench
  mkdir -p target/gpu
  tar -C "$folder" -czf "$packed" roclip bench
  ls -l "$packed"
  exit
fi

device=cuda models="RN50 ViT-B-32" batches="512 256 128 64 32" length=24 threads=$(nproc)
# Seconds for one program, and those after which none is begun.
limit=100 last_start=360
if [ "${1:-}" = --smoke ]; then
  device=cpu models="RN-micro-32 ViT-micro-32" batches="32" length=8 threads=1 limit=300 last_start=1800
fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
out=${OUT:-target/gpu/out}; mkdir -p "$out"
[ -e "$packed" ] || { echo "no $packed: run bench/gpu.sh pack where Rust is" >&2; exit 1; }
tar -C "$work" -xzf "$packed"
export LD_LIBRARY_PATH RUST_BACKTRACE=0
LD_LIBRARY_PATH=$("$python" -c 'import pathlib, torch
assert torch.__version__.startswith("2.11."), f"PyTorch {torch.__version__}, and roclip needs 2.11"
print(pathlib.Path(torch.__file__).parent / "lib")'):${LD_LIBRARY_PATH:-}

say() { echo "$@" | tee -a "$out/gpu.md"; }
# attempt SECONDS COMMAND...: its stdout, or nothing where it fails; what it said goes to $said.
said=$work/said
attempt() {
  [ "$SECONDS" -lt "$last_start" ] || { echo "left out: $last_start s are over" >"$said"; return 1; }
  local seconds=$1; shift
  timeout "$seconds" "$@" 2>"$said" || { local code=$?; [ "$code" != 124 ] || echo "not done after $seconds s" >>"$said"; return 1; }
}
reason() { grep -v '^note: \|^$' "$said" | tail -1 | cut -c1-160 | tr '|' '/'; }

: >"$out/gpu.md"
say "Machine: $(nproc) CPU cores; $( (nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo 'no GPU') | head -1)"
say
say "## Agreement with the CPU"
say
say "The emoji, RoCLIP (one epoch of CLIP, one of matching), batches of 16: the largest difference of the losses of 20 steps from those of the CPU in fp32."
say
say "| model | device | precision | steps | first loss | last loss | largest difference | seconds |"
say "|---|---|---|---|---|---|---|---|"

# train RUN MODEL DEVICE PRECISION [SETTING]...
train() {
  local run=$1 model=$2 where=$3 precision=$4; shift 4
  local settings=(); for setting in "$@"; do settings+=(--set "$setting"); done
  attempt "$limit" "$work/roclip" train --quiet --run "$work/$run" --train-data emoji --model "$model" --batch-size 16 --epochs 2 \
    --objective roclip --device "$where" --threads "$threads" --set "train.precision=$precision" --set data.source.emoji.concepts=7 \
    --set data.source.split=train --set objective.roclip.period=2 --set objective.roclip.pool_size=32 --set train.learning_rate=1e-4 \
    --set train.log_every_steps=1 --set train.keep_checkpoints=1 --set eval.source.path=none "${settings[@]}"
}
# train_two RUN MODEL DEVICE: the same by two processes that share one device
train_two() {
  local -x WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29571 GLOO_SOCKET_IFNAME=lo
  (said=$work/said-1 RANK=1; export RANK; train "$1" "$2" "$3" fp32 >/dev/null) &
  local other=$! code=0
  (export RANK=0; train "$1" "$2" "$3" fp32) || code=$?
  wait "$other" || code=$?
  return "$code"
}
# compare NAME RUN REFERENCE: a row of the table
compare() {
  "$python" - "$@" <<'PYTHON'
import json, sys
name, run, reference = sys.argv[1:]
lines = lambda folder: [json.loads(line) for line in open(f"{folder}/metrics.jsonl")]
steps = lambda folder: [line["loss"] for line in lines(folder) if line["event"] == "step"][:20]
ours, wanted = steps(run), steps(reference)
assert len(ours) == len(wanted) == 20, f"{len(ours)} and {len(wanted)} steps"
apart = max(abs(a - b) for a, b in zip(ours, wanted))
print(f"| {name} | {len(ours)} | {ours[0]:.5f} | {ours[-1]:.5f} | {apart:.1e} | {lines(run)[-1]['elapsed_seconds']:.0f} |")
PYTHON
}
for model in $models; do
  if train cpu-$model "$model" cpu fp32 >"$work/report"; then
    say "$(compare "$model | cpu | fp32" "$work/cpu-$model" "$work/cpu-$model")"
  else
    say "| $model | cpu | fp32 | failed: $(reason) | | | | |"; continue
  fi
  for way in fp32 tf32 bf16 "fp32 train.gradient_checkpointing=true" "fp32 train.encode_batch_size=8"; do
    read -r precision setting <<<"$way"
    case "$model $setting" in RN*encode_batch_size*) continue ;; esac # BatchNorm: another training
    if train "run" "$model" "$device" "$precision" ${setting:+"$setting"} >"$work/report"; then
      say "$(compare "$model | $device | $way" "$work/run" "$work/cpu-$model")"
    else
      say "| $model | $device | $way | failed: $(reason) | | | | |"
    fi
    rm -rf "$work/run"
  done
  # A number, so that both take the one GPU there is.
  if train_two run "$model" "${device/cuda/cuda:0}" >"$work/report"; then
    say "$(compare "$model | $device, two processes | fp32" "$work/run" "$work/cpu-$model")"
  else
    say "| $model | $device, two processes | fp32 | failed: $(reason) | | | | |"
  fi
  rm -rf "$work/run" "$work/cpu-$model"
done

say
say "## A training step"
say
say "Both towers, loss and AdamW on pictures that lie on the device, without the loader; the median, the device waited for after each. Captions of $length tokens, which PyTorch's side pads to the model's context. The first of the batches $batches that fits."
say
say "| model | program | precision | batch | s a step | pairs a second | peak memory, MiB |"
say "|---|---|---|---|---|---|---|"
# step_row MODEL PROGRAM PRECISION COMMAND...: BATCH in the command is the batch
step_row() {
  local model=$1 program=$2 precision=$3 batch figures; shift 3
  for batch in $batches; do
    if figures=$(attempt "$limit" "${@/#BATCH/$batch}"); then
      say "$(echo "$figures" | awk -v row="| $model | $program | $precision | $batch" -v batch="$batch" \
        '{ printf "%s | %.4f | %.1f | %.0f |", row, $1, batch / $1, $2 }')"
      return
    fi
    # Smaller batches help against nothing but want of memory.
    grep -qi 'out of memory' "$said" || break
  done
  say "| $model | $program | $precision | | $(reason) | | |"
}
for model in $models; do
  for precision in fp32 tf32 bf16; do
    step_row "$model" roclip "$precision" "$work/bench" step "$model" BATCH "$length" "$threads" "$device" "$precision"
  done
  for precision in amp_bf16 fp32; do
    program="open_clip"; [ "$precision" = amp_bf16 ] || program="released recipe (PyTorch's defaults)"
    step_row "$model" "$program" "$precision" "$python" bench/with_pytorch.py step "$configs/$model.json" BATCH "$length" "$threads" "$device" "$precision"
  done
done
say
say "$SECONDS s in all."
