#!/usr/bin/env bash
# Every cleaning method on backdoored victims, with the rebound test. Most of an hour a seed on one core.
#
#     bench/cleaning.sh FOLDER [SEED...]        (seeds 0 1 2 when none is given)
#
# For each seed, in FOLDER/seed-N: a surrogate on clean data, BadCLIP's patch against it, a victim with three backdoors
# (recipes/emoji-victims.toml), and one cleaned model a method, all on the same 5,325 trusted pairs. `cleaning_tables.py` beside this script
# prints the tables from the summaries. Runs that are finished are not repeated.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
roclip=${ROCLIP:-$root/target/release/roclip}
out=$1
shift
mkdir -p "$out"

finished() { [ -f "$1/summary.json" ]; }

[ $# -gt 0 ] || set -- 0 1 2
for seed in "$@"; do
    mkdir -p "$out/seed-$seed"
    cd "$out/seed-$seed"
    common=(--config "$root/recipes/emoji-victims.toml" --seed "$seed")
    # The surrogate is the victim's recipe without its attacks.
    sed '/^\[\[poison/,$d' "$root/recipes/emoji-victims.toml" >surrogate.toml
    finished surrogate || "$roclip" train --config surrogate.toml --seed "$seed" --run surrogate >/dev/null 2>surrogate.log
    [ -f patch.png ] || "$roclip" poison patch surrogate --target cactus --patch-pixels 8 --patch-epochs 10 --patch-lr 0.01 \
        --out patch.png 2>patch.log | tee patch.txt
    finished victim || "$roclip" train "${common[@]}" --run victim >/dev/null 2>victim.log
    clean() { # NAME METHOD FLAGS...
        finished "$1" || "$roclip" clean victim --method "$2" --run "$1" --rebound "${@:3}" >"$1.txt" 2>"$1.log"
    }
    clean finetune finetune --epochs 5 --lr 1e-3
    clean cleanclip cleanclip --epochs 5 --lr 1e-3 --inmodal-weight 4
    clean ta-cleaner ta-cleaner --epochs 5 --lr 1e-3 --inmodal-weight 4
    clean abd abd --epochs 10 --lr 1e-3
    clean par par --epochs 10 --batch-size 64 --lr 1e-3
done
