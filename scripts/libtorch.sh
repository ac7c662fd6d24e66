#!/usr/bin/env bash
# Fills .libtorch/ with libtorch 2.11, for building and running roclip. A second call does nothing.
#
#   scripts/libtorch.sh          the CPU part of the PyTorch wheel, or your own PyTorch 2.11 where python3 has one
#   scripts/libtorch.sh --cuda   the wheel with everything that a GPU needs
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.11.0
folder=.libtorch
stamp=$folder/.complete
need_mib=2600
wanted=cpu
[ "${1:-}" = --cuda ] && wanted=cuda && need_mib=9000

fail() { printf 'libtorch: %s\n' "$*" >&2; exit 1; }

if [ -f "$stamp" ] && { [ "$(cat "$stamp")" = cuda ] || [ "$(cat "$stamp")" = "$wanted" ] || [ "$(cat "$stamp")" = own ]; }; then
  exit 0
fi
command -v python3 >/dev/null || fail "python3 is missing; install Python 3 with pip (Debian: apt-get install python3-pip)"

# Your own PyTorch of the same release, if there is one: the libraries are the same files.
own=$(python3 - <<EOF 2>/dev/null || true
import importlib.util, pathlib
spec = importlib.util.find_spec("torch")
folder = pathlib.Path(spec.origin).parent
text = (folder / "version.py").read_text()
if "'${version}" in text and (folder / "lib" / "libtorch_cpu.so").exists():
    print(folder)
EOF
)
if [ -n "$own" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  ln -s "$own" "$folder/torch"
  if [ -d "$own/../nvidia" ]; then ln -s "$(cd "$own/../nvidia" && pwd)" "$folder/nvidia"; fi
  echo own >"$stamp"
  echo "libtorch: using the PyTorch $version that python3 has"
  exit 0
fi

python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; install it (Debian: apt-get install python3-pip) or install PyTorch $version yourself"
free_mib=$(df -Pm . | awk 'NR == 2 { print $4 }')
[ "$free_mib" -ge "$need_mib" ] || fail "$free_mib MiB free here, $need_mib MiB needed; make room and run \`make libtorch\` again"

rm -rf "$folder" "$folder.part"
echo "libtorch: fetching PyTorch $version (about 550 MB, for $wanted)"
if [ "$wanted" = cuda ]; then
  packages=("torch==$version")
  options=()
else
  # The CPU library links these two.
  packages=("torch==$version" "nvidia-cuda-runtime>=13,<14" "nvidia-cuda-cupti>=13,<14")
  options=(--no-deps)
fi
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder.part" "${options[@]}" "${packages[@]}" ||
  { rm -rf "$folder.part"; fail "pip could not fetch PyTorch $version: check the network (or the proxy), then run \`make libtorch\` again"; }

# Every library against the checksum that the wheel records for it.
python3 - "$folder.part" <<'EOF' || { rm -rf "$folder.part"; fail "the download is damaged; run \`make libtorch\` again"; }
import base64, csv, hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
checked = 0
for record in root.glob("*.dist-info/RECORD"):
    for name, digest, size in csv.reader(record.open()):
        if not digest.startswith("sha256=") or ".so" not in name:
            continue
        path = root / name
        data = path.read_bytes()
        found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        if len(data) != int(size) or found != digest[len("sha256="):]:
            sys.exit(f"libtorch: {name} is damaged")
        checked += 1
if checked < 5:
    sys.exit(f"libtorch: only {checked} libraries found")
EOF
mv "$folder.part" "$folder"
echo "$wanted" >"$stamp"
echo "libtorch: ready in $folder"
