#!/usr/bin/env python3
"""Writes Parquet files of pictures in groups of several sizes, and measures how fast roclip reads their pictures in place, in a random order.

    pip install pyarrow pillow
    cargo build --release -p roclip-data --example in_place
    bench/parquet_groups.py [--program target/release/examples/in_place] [--pictures 10000] [--rows 100 1000 10000] [--codecs snappy zstd none]

Pictures are JPEGs of noise of about 28 kB, as photographs of 256 pixels have. Seconds are of CPU; the first pass unpacks each page once.
"""
import argparse
import io
import random
import re
import subprocess
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number):
    """A JPEG of about 28 kB."""
    noise = random.Random(number).randbytes(160 * 160 * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (160, 160), noise).resize((256, 256)).save(out, "JPEG", quality=70)
    return out.getvalue()


def write(path, pictures, rows, codec):
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema, compression=codec) as writer:
        for first in range(0, len(pictures), rows):
            some = pictures[first : first + rows]
            images = [{"bytes": one, "path": None} for one in some]
            captions = [f"picture {first + at}" for at in range(len(some))]
            writer.write_table(pa.table([images, captions], schema=schema), row_group_size=rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/examples/in_place")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--codecs", nargs="+", default=["snappy"])
    parser.add_argument("--passes", type=int, default=2)
    arguments = parser.parse_args()
    different = [picture(number) for number in range(500)]
    # Each differs, so that no two are one sample.
    pictures = [different[n % 500] + n.to_bytes(4, "big") for n in range(arguments.pictures)]
    print("| codec | rows a group |" + "".join(f" pass {number} |" for number in range(arguments.passes)) + " peak memory |")
    print("|---|---|" + "---|" * arguments.passes + "---|")
    with tempfile.TemporaryDirectory() as folder:
        for codec in arguments.codecs:
            for rows in arguments.rows:
                path = Path(folder) / "pairs.parquet"
                write(path, pictures, rows, codec)
                command = [arguments.program, str(path), str(arguments.passes)]
                said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
                passes = " | ".join(re.findall(r"[\d.]+ ms", said))
                peak = int(re.search(r"peak memory (\d+)", said)[1]) >> 10
                print(f"| {codec} | {rows:,} | {passes} | {peak} MiB |", flush=True)


if __name__ == "__main__":
    main()
