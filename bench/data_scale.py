#!/usr/bin/env python3
"""Start, memory and speed of roclip on synthetic data of 10 thousand to 10 million pairs.

    bench/data_scale.py [--binary target/release/roclip] [--pairs 10000 1000000 10000000] [--tar-pairs 10000 1000000] [--folder FOLDER]

Writes to a temporary folder (1.4 GB for a CSV of ten million rows, 2.5 GB for a million samples in tars) and removes it. CSV rows name a few
pictures under as many names as there are rows, by way of links; a picture in a tar is a PNG of 16 x 16 pixels. One line of a table is printed
for each size and format.
"""
import argparse
import io
import json
import os
import random
import signal
import statistics
import struct
import subprocess
import tarfile
import tempfile
import time
import zlib
from pathlib import Path

WORDS = """a the red green blue old young small large dog cat horse car bus tree house street river mountain beach man woman child
people table chair window door plate food pizza cake ball kite umbrella bicycle train plane boat clock sign light field grass snow sky
standing sitting running holding wearing near under over with of in on at behind""".split()
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def png(shade):
    """A PNG of 16 x 16 pixels of noise around a shade."""
    noise = random.Random(shade)
    rows = b"".join(b"\0" + bytes((shade + noise.randrange(64)) % 256 for _ in range(48)) for _ in range(16))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def captions(count):
    drawn = random.Random(0)
    for number in range(count):
        yield " ".join(drawn.choices(WORDS, k=9)) + f" {number}"


def write_csv(folder, count):
    for number in range(1000):
        (folder / f"{number:03}").symlink_to(".")
    for picture in range(100):
        (folder / f"p{picture:02}.png").write_bytes(png(picture))
    path = folder / "pairs.csv"
    with open(path, "w") as file:
        file.write("filepath,title\n")
        for number, caption in enumerate(captions(count)):
            thousands, ones = divmod(number // 100, 1000)
            file.write(f"{thousands:03}/{ones:03}/p{number % 100:02}.png,{caption}\n")
    return path


def write_tars(folder, count):
    pictures = [png(shade) for shade in range(100)]
    texts = captions(count)
    for first in range(0, count, 10_000):
        with tarfile.open(folder / f"{first // 10_000:05}.tar", "w") as archive:
            for number in range(first, min(first + 10_000, count)):
                for ending, data in (("png", pictures[number % 100]), ("txt", next(texts).encode())):
                    member = tarfile.TarInfo(f"{number:09}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return folder


def run(command):
    """Seconds, seconds of CPU, peak resident memory in bytes (without mapped files), and stdout."""
    started = time.monotonic()
    output = tempfile.TemporaryFile()
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    anonymous = 0
    while True:
        ended, code, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
        anonymous = max(anonymous, *(int(kib) * 1024 for kib in found), 0)
        time.sleep(0.01)
    if code != 0:
        raise SystemExit(f"{command} failed")
    output.seek(0)
    return time.monotonic() - started, used.ru_utime + used.ru_stime, anonymous, output.read().decode()


def step_milliseconds(binary, base, run_folder):
    """Median milliseconds of a step, behind the first hundred of five hundred."""
    words = ["--set", "train.log_every_steps=1", "--index", "always", "--run", str(run_folder)]
    process = subprocess.Popen([binary, "train", *base, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, times = run_folder / "metrics.jsonl", []
    while len(times) < 500 and process.poll() is None:
        time.sleep(0.2)
        # A line that is being written has no end yet.
        lines = metrics.read_text().split("\n")[:-1] if metrics.exists() else []
        rows = [json.loads(line) for line in lines]
        times = [row["elapsed_seconds"] for row in rows if row["event"] == "step"]
    process.send_signal(signal.SIGINT)
    process.wait()
    times = times[100:500]
    if len(times) < 400:
        raise SystemExit("training ended before its five hundredth step")
    return f"{1000 * statistics.median(b - a for a, b in zip(times, times[1:])):.1f} ms"


def measure(binary, data, count, kind, folder):
    model = folder / "model.json"
    model.write_text(json.dumps(MODEL))
    labelled = folder / "labelled"
    for name in ("dog", "cat", "bus", "tree"):
        (labelled / name).mkdir(parents=True)
        for number in range(8):
            (labelled / name / f"{number}.png").write_bytes(png(number * 20))
    base = ["--train-data", str(data), "--val-data", str(labelled), "--model", str(model), "--batch-size", "64", "--set",
            "model.compact_vocabulary=false"]
    making, making_cpu, making_memory, told = run([binary, "data", "index", "--train-data", str(data), "--json"])
    index = json.loads(told)
    assert index["pictures"] == count, index

    def start(how):
        return run([binary, "train", *base, "--index", how, "--dry-run", "--run", str(folder / "run")])[:3]

    start("always")  # Once unmeasured: the file is in the system's cache then, as after any index that was just made.
    step = step_milliseconds(binary, base, folder / "steps")
    attack = (
        'poison.attacks=[{name="b",badnets={patch_pixels=4},target="dog",count=50},'
        '{name="t",targeted={targets=2,captions_per_target=20}}]'
    )
    poison = ["poison", "make", *base[:6], "--index", "always", "--set", attack, "--out", str(folder / "manifest.jsonl")]
    measured = [(making, making_cpu, making_memory), start("always")]
    measured += [start("never")] if count <= 1_000_000 else []
    measured.append(run([binary, *poison])[:3])
    shown = [f"{seconds:.1f} s ({cpu:.1f} s), {memory / (1 << 20):.0f} MiB" for seconds, cpu, memory in measured]
    shown[2:-1] = shown[2:-1] or ["-"]
    print(f"| {kind} | {count:,} | {index['bytes'] / count:.0f} | {' | '.join(shown)} | {step} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/roclip")
    parser.add_argument("--pairs", type=int, nargs="*", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--tar-pairs", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--folder", help="where the temporary data is written")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    print("| data | pairs | index, bytes a pair | making it | start with it | start without | `poison make` | a step |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, sizes, write in (("CSV", arguments.pairs, write_csv), ("tar", arguments.tar_pairs, write_tars)):
        for count in sizes:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                data = Path(folder) / "data"
                data.mkdir()
                measure(binary, write(data, count), count, kind, Path(folder))


if __name__ == "__main__":
    main()
