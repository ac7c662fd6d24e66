"""roclip beside the released program (released.py), as whole programs in turn on the same pairs: medians and ranges.

    bench/released_pairs.py PAIRS.csv [MODEL...]      needs `make build` and `make interop`; works in a temporary folder

PAIRS.csv has the columns `image` and `caption`. The models are RN50 and ViT-B-32. ROUNDS (5), BATCH (16) and THREADS (2) are read from the
environment. Each program trains two epochs, of which the second matches; first of all, both take one step from the same weights on the same 16
pictures without augmentation, and their losses are printed. GFLOP/s are those of the first epoch's step: what the products and convolutions of its
pairs compute (captions padded there, of their own length here), by the step's seconds.
"""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = os.environ.get("ROCLIP_INTEROP_PYTHON", ROOT / ".interop/bin/python")
ROUNDS, BATCH, THREADS = (int(os.environ.get(name, usual)) for name, usual in (("ROUNDS", 5), ("BATCH", 16), ("THREADS", 2)))


def released(model, pairs, run, batch, epochs, *more):
    config = ROOT / f"crates/roclip/src/model/configs/{model}.json"
    return [PYTHON, ROOT / "bench/released.py", config, pairs, run, batch, epochs, THREADS, 1, *more]


def ours(model, pairs, run, batch, epochs, *more):
    rows = min(21_845, sum(1 for _ in csv.reader(open(pairs, newline=""))) - 1)
    return [
        ROOT / "target/release/roclip", "train", "--quiet", "--preset", "roclip-released", "--train-data", pairs, "--val-data", "none",
        "--model", model, "--run", run, "--batch-size", batch, "--epochs", epochs, "--threads", THREADS, "--workers", 1,
        "--set", "train.log_every_steps=1", "--set", f"objective.roclip.pool_size={rows}", *more,
    ]  # fmt: skip


def run(command, log):
    """Seconds of the whole program, its processor seconds, its largest process's peak memory in GiB."""
    started = time.perf_counter()
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def steps_of_ours(folder):
    """(epoch, loss, seconds) of each step but the first of an epoch."""
    rows = [json.loads(line) for line in open(folder / "metrics.jsonl")]
    rows = [row for row in rows if row["event"] == "step"]
    between = zip(rows, rows[1:])
    return [(b["epoch"], b["loss"], b["elapsed_seconds"] - a["elapsed_seconds"]) for a, b in between if a["epoch"] == b["epoch"]]


def steps_of_released(log):
    rows = [json.loads(line) for line in open(log)]
    return [(b["epoch"], b["loss"], b["seconds"]) for a, b in zip(rows, rows[1:]) if a["epoch"] == b["epoch"]]


def first_losses(model, pairs, folder):
    """Of both programs, from the same weights, on the first 16 pairs."""
    few = pairs.with_name(f".{pairs.name}.first16.csv")
    rows = list(csv.DictReader(open(pairs, newline="")))[:16]
    with open(few, "w", newline="") as out:
        writer = csv.DictWriter(out, ["image", "caption"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    try:
        weights = folder / "weights.safetensors"
        run(released(model, few, folder / "theirs", 16, 1, "--plain", "--weights", weights), folder / "theirs.log")
        plain = ["--set", "augment=", "--set", f"model.weights={weights}"]
        run(ours(model, few, folder / "ours", 16, 1, *plain), folder / "ours.log")
    finally:
        few.unlink()
    theirs = json.loads(open(folder / "theirs.log").readline())["loss"]
    mine = next(row["loss"] for row in map(json.loads, open(folder / "ours/metrics.jsonl")) if row["event"] == "step")
    return mine, theirs


def said_by_pytorch(*words):
    said = subprocess.run([PYTHON, ROOT / "bench/with_pytorch.py", *map(str, words)], check=True, capture_output=True, text=True).stdout
    return list(map(float, said.split()))


def median(values, digits=2):
    values = sorted(values)
    return f"{statistics.median(values):.{digits}f} [{values[0]:.{digits}f}, {values[-1]:.{digits}f}]"


def compare(model, pairs, folder):
    mine, theirs = first_losses(model, pairs, folder)
    print(f"{model}: first loss of roclip {mine:.5f}, of the released program {theirs:.5f}", flush=True)
    measured = {name: [] for name in ("whole program, s", "processor, s", "peak memory, GiB", "step, s", "matching step, s")}
    for number in range(ROUNDS):
        sides = []
        for name, command, steps in (("ours", ours, steps_of_ours), ("theirs", released, steps_of_released)):
            place, log = folder / f"{name}{number}", folder / f"{name}{number}.log"
            figures = run(command(model, pairs, place, BATCH, 2), log)
            taken = steps(place if name == "ours" else log)
            of = lambda epoch: statistics.median(seconds for at, _, seconds in taken if at == epoch)
            sides.append((*figures, of(1), of(2)))
            subprocess.run(["rm", "-rf", place])
        for values, pair in zip(measured.values(), zip(*sides)):
            values.append(pair)
    padded, own = said_by_pytorch("flop", ROOT / f"crates/roclip/src/model/configs/{model}.json", pairs)
    measured["step, GFLOP/s"] = [(BATCH * own / ours, BATCH * padded / theirs) for ours, theirs in measured["step, s"]]
    for name, values in measured.items():
        left, right = zip(*values)
        # More is better of GFLOP/s, and less of everything else.
        ratio = [a / b if name.endswith("/s") else b / a for a, b in values]
        print(f"| {model} | {name} | {median(left)} | {median(right)} | {median(ratio)} |", flush=True)


def main():
    pairs, *models = sys.argv[1:]
    print(f"batches of {BATCH}, {THREADS} threads, {ROUNDS} rounds")
    print(f"a large product of matrices: {said_by_pytorch('product', THREADS)[0]:.0f} GFLOP/s")
    print("| model | what | roclip | released program | ratio |")
    print("|---|---|---|---|---|")
    for model in models or ["RN50", "ViT-B-32"]:
        with tempfile.TemporaryDirectory() as folder:
            compare(model, pathlib.Path(pairs).resolve(), pathlib.Path(folder))


if __name__ == "__main__":
    main()
