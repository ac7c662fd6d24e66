#!/usr/bin/env bash
# Makes the Python package: one wheel for all Pythons from 3.10 on, which works with the PyTorch 2.11 that lies beside it.
#
#   scripts/wheel.sh           makes target/wheel/roclip-VERSION-....whl
#   scripts/wheel.sh --check   and tries it without Python's part of PyTorch: help, a run, two processes, a PyTorch of another release, none
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
work=$root/target/wheel
tools=$work/tools
fail() { printf 'wheel: %s\n' "$*" >&2; exit 1; }

case "${1:-}" in
  "" | --check) ;;
  *) fail "there is no \`$1\`; the only flag is --check" ;;
esac
[ -d .libtorch/torch/lib ] || fail "there is no libtorch here; run \`make wheel\`, or \`make libtorch\` first"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || fail "Python 3.10 or newer is needed, as python3"
# What was made in another folder, or by a Python that is gone, does not start.
if ! cmp -s crates/roclip-python/tools.txt "$tools/installed" || ! "$tools/bin/maturin" --version >/dev/null 2>&1 ||
  ! "$tools/bin/auditwheel" --version >/dev/null 2>&1; then
  rm -rf "$tools"
  python3 -m venv "$tools" || fail "python3 cannot make an environment (Debian: apt-get install python3-venv)"
  "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement crates/roclip-python/tools.txt ||
    fail "pip could not fetch the tools: check the network (or the proxy), then run it again"
  cp crates/roclip-python/tools.txt "$tools/installed"
fi

# PyTorch's libraries are not put into the package: they are those of the user's own PyTorch.
rm -rf "$work/built" "$work"/*.whl
"$tools/bin/maturin" build --quiet --release --locked --auditwheel skip --manifest-path crates/roclip-python/Cargo.toml --out "$work/built"
PATH="$tools/bin:$PATH" "$tools/bin/auditwheel" repair --plat auto --wheel-dir "$work" \
  --exclude 'libtorch*.so' --exclude 'libc10*.so' "$work"/built/*.whl >/dev/null 2>&1 ||
  fail "auditwheel refuses the package: $("$tools/bin/auditwheel" show "$work"/built/*.whl 2>&1 | tail -3)"
wheel=$(echo "$work"/*.whl)
echo "wheel: ${wheel#"$root"/}, $(du -k "$wheel" | cut -f1) KiB"
[ "${1:-}" = --check ] || exit 0

site=$work/site
rm -rf "$site"
"$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$site" "$wheel"
roclip=("$tools/bin/python" -m roclip)
export PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1
cd "$work"
expect() { # CODE WORDS COMMAND...: the command ends with the code and says the words
  local code=$1 words=$2 found=0 said
  shift 2
  said=$("$@" 2>&1) || found=$?
  [ "$found" = "$code" ] && grep -qF -- "$words" <<<"$said" || { printf 'wheel: %s\ncode %s, not %s with `%s`:\n%s\n' "$*" "$found" "$code" "$words" "$said" >&2; exit 1; }
}

expect 1 "there is no PyTorch beside this Python" "${roclip[@]}" --version
ln -s "$root/.libtorch/torch" "$site/torch"
mkdir "$site/torch-2.10.1.dist-info"
printf 'Metadata-Version: 2.1\nName: torch\nVersion: 2.10.1\n' >"$site/torch-2.10.1.dist-info/METADATA"
expect 1 "PyTorch is 2.10.1, and this roclip is made for 2.11" "${roclip[@]}" --version
rm -r "$site/torch-2.10.1.dist-info"
expect 0 "libtorch 2.11" "${roclip[@]}" --version
expect 2 "unrecognized subcommand" "${roclip[@]}" no-such-command

# A demo starts the program again for each of its rows.
rm -rf demo one two
expect 0 "undefended" "${roclip[@]}" demo --quick --rows undefended --epochs 1 --set data.source.emoji.concepts=24 --jobs 1 --out demo

compare() { # The losses of the runs `one` and `two`.
  python3 - <<'EOF'
import json
loss = lambda run: [json.loads(line)["loss"] for line in open(f"{run}/metrics.jsonl") if '"event":"step"' in line]
one, two = loss("one"), loss("two")
assert one and len(one) == len(two) and all(abs(a - b) < 1e-3 for a, b in zip(one, two)), (one, two)
print(f"wheel: {len(one)} losses of one process and of two differ by at most {max(abs(a - b) for a, b in zip(one, two)):.1e}")
EOF
}

# Two processes give the run of one.
train=("${roclip[@]}" train --train-data emoji --model ViT-tiny-32 --epochs 1 --batch-size 64 --threads 1
  --set data.source.emoji.concepts=40 --set train.log_every_steps=1 --set eval.source.path=none)
expect 0 "" "${train[@]}" --run one
port=$("$tools/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export GLOO_SOCKET_IFNAME=lo MASTER_ADDR=127.0.0.1 MASTER_PORT=$port WORLD_SIZE=2
RANK=1 "${train[@]}" --run two >second.log 2>&1 &
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
RANK=0 expect 0 "" "${train[@]}" --run two
wait $! || fail "the second process: $(cat second.log)"
unset WORLD_SIZE MASTER_ADDR MASTER_PORT
compare

# PyTorch's own launcher, where `make interop` has installed all of PyTorch; the package lies in another folder than that.
if [ -x "$root/.interop/bin/torchrun" ]; then
  rm -rf two alone
  mkdir alone && cp -r "$site"/roclip "$site"/roclip-* alone
  PYTHONPATH=$PWD/alone expect 0 "" "$root/.interop/bin/torchrun" --nproc-per-node 2 --standalone -m -- roclip "${train[@]:3}" --run two
  compare
  # What joins GPUs by NCCL, here over Gloo.
  cat >in_python.py <<'EOF'
from roclip import __main__, process_group
process_group.BACKENDS["cpu"] = "gloo"
join = process_group.join
def spoken(*arguments):
    name = join(*arguments)
    print(f"joined in Python: {name}", flush=True)
    return name
process_group.join = spoken
__main__.main()
EOF
  rm -rf two
  PYTHONPATH=$PWD/alone expect 0 "joined in Python: " "$root/.interop/bin/torchrun" --nproc-per-node 2 --standalone -- in_python.py "${train[@]:3}" --run two
  compare
  echo "wheel: torchrun starts it, and PyTorch's own process group joins it"
fi

# Ctrl-C saves, as ever.
"${train[@]}" --set train.epochs=500 --run stopped >stopped.log 2>&1 &
child=$!
for _ in $(seq 300); do grep -q step stopped/metrics.jsonl 2>/dev/null && break; sleep 0.1; done
kill -INT "$child"
code=0; wait "$child" || code=$?
[ "$code" = 130 ] && grep -q "resume" stopped.log || fail "an interrupt ended it with $code: $(cat stopped.log)"
rm -rf demo one two alone stopped in_python.py
echo "wheel: it works"
