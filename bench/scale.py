#!/usr/bin/env python3
"""What a run costs at sizes that nobody measures twice: a model made of measured parts.

    bench/scale.py measure [--binary target/release/roclip]   measures the parts on this machine (some minutes) and checks the model
    bench/scale.py table                                      prints the tables of docs/scale.md from bench/scale.json
    bench/scale.py checkpointing [--binary ...]               prints the table of gradient checkpointing: memory and CPU seconds of steps

`measure` writes bench/scale.json: the step of one process against its batch (a straight line), what an exchange adds (from two processes at one
batch), and then compares the model with two and four processes that it was not fitted to. Measure on a quiet machine.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEASURED = HERE / "scale.json"
MODEL, CONCEPTS = "ViT-tiny-32", 60
ROUNDS = 3
BATCH, STEPS = 16, 4

# Assumed, not measured: a GPU's dense bf16 rate and the share of it that training reaches, bytes a second between GPUs, and what a step of the
# published towers computes a pair (three times the forward pass; open_clip's published multiply-and-adds, times two).
GPU_FLOPS, REACHED = 989e12, 0.35
BETWEEN_GPUS = {8: 200e9, 64: 25e9}
TOWERS = {  # parameters (an upper bound of what is exchanged: rows of the token table that no caption has read are not), FLOP a pair, width
    "RN50": (102e6, 3 * 2 * 9.16e9, 1024),
    "ViT-B-32": (151e6, 3 * 2 * 7.40e9, 512),
}
# Measured, on the pages that are named.
RELEASED = 282  # pictures of 500 x 375 a second and core (bench/README.md)
INDEX_CPU, INDEX_BYTES, ORDER_BYTES = 10e-6, 56, 8.5  # seconds and bytes a pair (docs/data.md)
EPOCHS = 32


def steps(binary, folder, processes, batch):
    """Seconds a step, the median of those behind the fifth."""
    words = [binary, "train", "--quiet", "--train-data", "emoji", "--model", MODEL, "--batch-size", str(batch), "--epochs", "1", "--threads", "1",
             "--set", f"data.source.emoji.concepts={CONCEPTS}", "--set", "data.source.split=train", "--set", "train.log_every_steps=1",
             "--set", "eval.source.path=none", "--set", "data.workers=1", "--set", "train.keep_checkpoints=1"]
    run = folder / f"{processes}-{batch}-{random.random()}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(random.randint(20000, 40000))}
    if processes > 1:
        environment["WORLD_SIZE"] = str(processes)
    started = [subprocess.Popen([*words, "--run", str(run)], env={**environment, "RANK": str(rank)}, stderr=subprocess.PIPE)
               for rank in range(processes)]
    for process in started:
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"{' '.join(words)}: {said.decode()}")
    lines = [json.loads(line) for line in open(run / "metrics.jsonl")]
    times = [line["elapsed_seconds"] for line in lines if line["event"] == "step"][4:]
    return statistics.median(after - before for before, after in zip(times, times[1:]))


def measure(binary):
    cores = os.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        def median(processes, batch):
            return statistics.median(steps(binary, Path(folder), processes, batch) for _ in range(ROUNDS))

        alone = {batch: median(1, batch) for batch in (16, 32, 64, 128)}
        mean_batch, mean_seconds = statistics.mean(alone), statistics.mean(alone.values())
        pair = sum((b - mean_batch) * (s - mean_seconds) for b, s in alone.items()) / sum((b - mean_batch) ** 2 for b in alone)
        fixed = mean_seconds - pair * mean_batch
        share = lambda processes, batch: max(1, processes / cores) * (fixed + pair * batch / processes)
        two = median(2, 64)
        exchange = max(0.0, two - share(2, 64))
        checks = []
        for processes, batch in ((2, 32), (2, 128), (4, 64), (4, 128)):
            measured = median(processes, batch)
            modelled = share(processes, batch) + max(1, processes / cores) * exchange
            checks.append({"processes": processes, "batch": batch, "measured": measured, "modelled": modelled})
    found = {"machine": machine(), "model": MODEL, "alone": {str(b): s for b, s in alone.items()}, "fixed_seconds": fixed, "pair_seconds": pair,
             "exchange_seconds": exchange, "fitted": {"processes": 2, "batch": 64, "measured": two}, "checks": checks}
    MEASURED.write_text(json.dumps(found, indent=1) + "\n")
    print(MEASURED.read_text())


def first_steps(binary, folder, model, batch, settings):
    """CPU seconds of a step, the median of those behind the first, and the peak of memory in GiB. The run is ended then."""
    run = folder / f"{model}-{random.random()}"
    words = [binary, "train", "--quiet", "--run", str(run), "--train-data", "emoji", "--model", model, "--batch-size", str(batch), "--epochs", "1",
             "--threads", "2", "--set", "data.workers=1", "--set", "data.source.split=train", "--set", "train.log_every_steps=1", "--set",
             "eval.source.path=none", *[word for setting in settings for word in ("--set", setting)]]
    # Threads that wait do not count.
    process = subprocess.Popen(words, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
    ticks, seen = [], 0
    while len(ticks) < STEPS:
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(words)}: ended with {process.returncode}")
        written = (run / "metrics.jsonl").read_text().split("\n")[:-1] if (run / "metrics.jsonl").exists() else []
        lines = [line for line in map(json.loads, written) if line["event"] == "step"]
        if len(lines) > seen:
            seen = len(lines)
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks.append((seen, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")))
        time.sleep(0.02)
    process.kill()
    process.wait()
    seconds = [(after - before) / (to - of) for (of, before), (to, after) in zip(ticks, ticks[1:])]
    return statistics.median(seconds), lines[-1]["peak_memory_bytes"] / 2**30


def checkpointing(binary):
    print(f"{machine()}; 2 threads, batch {BATCH}, medians of {STEPS - 1} steps\n")
    print("| model | gradient checkpointing | peak memory, GiB | CPU s a step |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in ("ViT-B-32", "RN50"):
            for on in ("false", "true"):
                seconds, peak = first_steps(binary, Path(folder), model, BATCH, [f"train.gradient_checkpointing={on}"])
                print(f"| {model} | {'yes' if on == 'true' else 'no'} | {peak:.2f} | {seconds:.1f} |", flush=True)


def machine():
    facts = dict(line.split(":", 1) for line in open("/proc/cpuinfo").read().split("\n\n")[0].splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    wide = next((level for level in ("avx512f", "avx2") if level in facts.get("flags", "")), "no AVX2")
    return f"{os.cpu_count()} cores, {facts.get('model name', 'unknown')}, {wide}"


def table():
    found = json.loads(MEASURED.read_text())
    print(f"{found['machine']}; {found['model']}, one thread a process, medians of {ROUNDS} runs\n")
    print("| processes | batch | measured, s a step | modelled | ratio |\n|---|---|---|---|---|")
    for batch, seconds in found["alone"].items():
        modelled = found["fixed_seconds"] + found["pair_seconds"] * int(batch)
        print(f"| 1 | {batch} | {seconds:.3f} | {modelled:.3f} (fitted) | {seconds / modelled:.2f} |")
    fitted = found["fitted"]
    print(f"| {fitted['processes']} | {fitted['batch']} | {fitted['measured']:.3f} | {fitted['measured']:.3f} (fitted) | 1.00 |")
    for check in found["checks"]:
        ratio = check["measured"] / check["modelled"]
        print(f"| {check['processes']} | {check['batch']} | {check['measured']:.3f} | {check['modelled']:.3f} | {ratio:.2f} |")
    print(f"\n| tower | pairs | GPUs | pairs a second | hours, {EPOCHS} epochs | exchange, share of a step | cores that decode | bounded by |")
    print("|---|---|---|---|---|---|---|---|")
    for tower, (parameters, flop, width) in TOWERS.items():
        for pairs in (1e6, 12e6, 400e6):
            for gpus in (1, 8, 64):
                batch = 512 * gpus
                compute = batch / gpus * flop / (GPU_FLOPS * REACHED)
                bandwidth = BETWEEN_GPUS.get(gpus)
                bytes_moved = 2 * (gpus - 1) / gpus * 4 * parameters + 4 * batch * 2 * width
                exchange = bytes_moved / bandwidth if bandwidth else 0.0
                rate = batch / (compute + exchange)
                needed = rate / RELEASED
                bound = "the exchange" if exchange > compute / 3 else "decoding, where a GPU has fewer cores" if needed > 16 * gpus else "the towers"
                print(f"| {tower} | {pairs / 1e6:.0f} M | {gpus} | {rate:,.0f} | {EPOCHS * pairs / rate / 3600:,.1f} | {exchange / (compute + exchange):.0%} "
                      f"| {needed:,.0f} | {bound} |")
    print("\n| pairs | index, made once (CPU) | index on disk | order in memory, each process | decoding, core hours an epoch (released augmentation) |")
    print("|---|---|---|---|---|")
    for pairs in (1e6, 12e6, 400e6):
        print(f"| {pairs / 1e6:.0f} M | {pairs * INDEX_CPU / 60:,.1f} min | {pairs * INDEX_BYTES / 1e9:,.1f} GB | {pairs * ORDER_BYTES / 1e6:,.0f} MB "
              f"| {pairs / RELEASED / 3600:,.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "table", "checkpointing"))
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/roclip"))
    arguments = parser.parse_args()
    {"measure": lambda: measure(arguments.binary), "table": table, "checkpointing": lambda: checkpointing(arguments.binary)}[arguments.what]()


if __name__ == "__main__":
    main()
