#!/usr/bin/env python3
"""What `roclip detect pairs` takes of many pairs, by method, beside the time that encoding them takes.

    bench/detect_scale.py [--binary target/release/roclip] [--pairs 1000000] [--dim 512] [--threads 2] [--methods clip-score lid]
                          [--encode-rate PAIRS_A_SECOND | --model RUN] [--folder FOLDER]

Writes synthetic unit features (32-bit floats, 4.1 GB for a million pairs of 512 values) and a CSV of the pairs to a temporary folder, looks
with all methods and then with each alone, and removes it. `--pairs 20000` tries it in a minute. A line of a table is printed for each look:
seconds, seconds of the processor, peak memory without mapped files, and the share of the time that encoding the pairs takes. Each look reads
the features and writes scores.jsonl and the page; `clip-score` has little else to do, so that its line is what a look costs in itself. No
poison is known of these pairs, so that no method is judged.

The time of encoding is the number of pairs by the rate given, or by that of RUN, a finished run, whose own pairs are encoded and looked at,
and looked at again by the features that were kept: the difference of the two is what encoding took.
"""
import argparse
import array
import math
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from data_scale import run, write_csv

METHODS = "clip-score k-dist slof lid dao isolation-forest plausibility picture-copies conformal".split()


def unit(values):
    length = math.sqrt(sum(value * value for value in values))
    return array.array("f", (value / length for value in values))


def write_features(folder, ids, dim):
    """Features as `--features` takes them. Each row is one of a few drawn vectors, turned around by some places: rows differ, and a row of the
    image and its text are as like as the vectors are."""
    drawn = random.Random(0)
    bases = math.ceil(len(ids) / dim)
    image = [[drawn.gauss(0, 1) for _ in range(dim)] for _ in range(bases)]
    text = [[value + drawn.gauss(0, 1.5) for value in row] for row in image]
    folder.mkdir()
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(ids)}, {dim}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    for name, rows in (("image", image), ("text", text)):
        rows = [unit(row).tobytes() for row in rows]
        with open(folder / f"{name}.npy", "wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
            for number in range(len(ids)):
                turns, base = divmod(number, bases)
                file.write(rows[base][4 * turns:] + rows[base][:4 * turns])
    with open(folder / "pairs.jsonl", "w") as file:
        file.writelines(f'{{"id": "{name}"}}\n' for name in ids)


def measured_rate(binary, model, scratch, threads):
    """Pairs a second that `model` encodes."""
    kept, machine = scratch / "kept", ["--methods", "clip-score", "--threads", str(threads)]
    first = [binary, "detect", "pairs", str(model), "--out", str(scratch / "encoded"), "--write-features", str(kept), *machine]
    manifest = Path(model) / "manifest.jsonl"
    data = ["--config", str(Path(model) / "run.toml"), *(["--manifest", str(manifest)] if manifest.is_file() else [])]
    again = [binary, "detect", "pairs", "--features", str(kept), "--out", str(scratch / "again"), *data, *machine]
    encoded, looked = run(first)[0], run(again)[0]
    with open(kept / "pairs.jsonl") as file:
        pairs = sum(1 for _ in file)
    return pairs / max(encoded - looked, 1e-9)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/roclip")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS, metavar="METHOD", help="looked with alone, beside all")
    encoding = parser.add_mutually_exclusive_group()
    encoding.add_argument("--encode-rate", type=float, help="pairs that are encoded a second")
    encoding.add_argument("--model", help="a finished run, whose rate is measured")
    parser.add_argument("--folder", help="where the temporary folder is made")
    given = parser.parse_args()
    if sys.byteorder != "little":
        raise SystemExit("features are written on machines whose bytes stand the little end first")
    scratch = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        rate = given.encode_rate or (given.model and measured_rate(given.binary, given.model, scratch, given.threads))
        source = write_csv(scratch, given.pairs)
        with open(source) as file:
            next(file)
            ids = [line.split(",", 1)[0] for line in file]
        write_features(scratch / "features", ids, given.dim)
        del ids
        print(f"{given.pairs:,} pairs of {given.dim} values, {given.threads} threads")
        encoding_seconds = rate and given.pairs / rate
        if encoding_seconds:
            print(f"encoding them: {encoding_seconds:,.0f} s at {rate:,.1f} pairs a second")
        print("\n| methods | seconds | CPU seconds | peak memory, MiB | of the time of encoding |")
        print("|---|---|---|---|---|")
        for methods in [METHODS, *([method] for method in given.methods)]:
            out = scratch / "out"
            look = [given.binary, "detect", "pairs", "--features", str(scratch / "features"), "--train-data", str(source), "--out", str(out)]
            seconds, processor, memory, _ = run([*look, "--threads", str(given.threads), "--methods", ",".join(methods)])
            share = f"{100 * seconds / encoding_seconds:.1f} %" if encoding_seconds else "-"
            name = "all" if methods == METHODS else methods[0]
            print(f"| {name} | {seconds:.1f} | {processor:.1f} | {memory / 2**20:,.0f} | {share} |", flush=True)
            shutil.rmtree(out)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
