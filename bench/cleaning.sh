#!/usr/bin/env bash
# Every cleaning method on backdoored victims, with the rebound test. About half an hour a seed on one core.
#
#     bench/cleaning.sh FOLDER [SEED...]        (seeds 0 1 2 when none is given)
#
# VICTIM=tuned: BadCLIP's own victim instead, the clean surrogate fine-tuned on poisoned pairs (recipes/emoji-victims-tuned.toml), with a
# larger patch that the surrogate itself already obeys; cleaned on 2,000 pairs at each rate of LR ("1e-3 3e-3" when it is not given), the
# models of a rate in FOLDER/lr-RATE. About half an hour a seed; give it another FOLDER than the victims from scratch.
#
# In FOLDER: a surrogate on clean data (seed 10) and BadCLIP's patch against it; in FOLDER/seed-N: a victim with three backdoors
# (recipes/emoji-victims.toml) and one cleaned model a method, all on the same 5,325 trusted pairs. `cleaning_tables.py` beside this script
# prints the tables from the summaries (of FOLDER, or of FOLDER/lr-RATE). Runs that are finished are not repeated. METHODS="cleanclip finetune" runs only those.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
roclip=${ROCLIP:-$root/target/release/roclip}
mkdir -p "$1"
cd "$1"
shift

finished() { [ -f "$1/summary.json" ]; }

# The surrogate is the victim's recipe without its attacks.
sed '/^\[\[poison/,$d' "$root/recipes/emoji-victims.toml" >surrogate.toml
finished surrogate || "$roclip" train --config surrogate.toml --seed 10 --run surrogate >/dev/null 2>surrogate.log
case ${VICTIM:-scratch} in
scratch) rates=own recipe=emoji-victims.toml patch=(--patch-pixels 8 --patch-epochs 10 --patch-lr 0.01) ;;
tuned)
    rates=${LR:-1e-3 3e-3} recipe=emoji-victims-tuned.toml patch=(--patch-pixels 12 --patch-epochs 6 --patch-lr 0.03)
    ;;
*) echo "VICTIM is $VICTIM; say scratch or tuned" >&2 && exit 2 ;;
esac
[ -f patch.png ] || "$roclip" poison patch surrogate --target cactus "${patch[@]}" --out patch.png 2>patch.log | tee patch.txt

# The settings of victims from scratch were chosen on seed 10 for CleanCLIP, and are shared; PAR wants small batches and a rate of its own.
# ABD's patch of the tuned victims is as large as their trigger. `abd+reference` has the backdoor term, with the surrogate as the clean model.
flags() { # METHOD RATE
    case ${VICTIM:-scratch}-$1 in
    tuned-abd) echo --pairs 2000 --epochs 10 --lr "$2" --set clean.abd.patch_area=0.1407 ;;
    tuned-abd+reference) echo "$(flags abd "$2")" --set clean.abd.reference=surrogate ;;
    tuned-par) echo --pairs 2000 --epochs 10 --lr "$2" --batch-size 64 ;;
    tuned-*) echo --pairs 2000 --epochs 10 --lr "$2" ;;
    *-cleanclip | *-ta-cleaner) echo --epochs 10 --lr 3e-3 --inmodal-weight 8 ;;
    *-finetune | *-abd) echo --epochs 10 --lr 3e-3 ;;
    *-par) echo --epochs 10 --batch-size 64 --lr 1e-3 ;;
    esac
}

[ $# -gt 0 ] || set -- 0 1 2
for seed in "$@"; do
    mkdir -p "seed-$seed"
    finished "seed-$seed/victim" || "$roclip" train --config "$root/recipes/$recipe" --seed "$seed" \
        --run "seed-$seed/victim" >/dev/null 2>"seed-$seed/victim.log"
    for rate in $rates; do
        folder=seed-$seed
        [ "$rate" = own ] || folder=lr-$rate/seed-$seed
        mkdir -p "$folder"
        for method in ${METHODS:-finetune cleanclip ta-cleaner abd par}; do
            run=$folder/$method
            # shellcheck disable=SC2046  # the flags are words
            finished "$run" || "$roclip" clean "seed-$seed/victim" --method "${method%+*}" --run "$run" --rebound-lr 1e-4 $(flags "$method" "$rate") \
                >"$run.txt" 2>"$run.log"
        done
    done
done
