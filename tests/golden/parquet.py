"""Writes parquet.json: small Parquet files as pyarrow, `datasets` and img2dataset lay them out.

    pip install pyarrow==22.0.0 pillow==13.0.0 && python3 parquet.py > parquet.json
"""

import base64
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(colour):
    out = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(out, "JPEG")
    return out.getvalue()


def file(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return base64.b64encode(out.getvalue()).decode()


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
red, green = picture((250, 0, 0)), picture((0, 250, 0))
hugging_face = pa.table(
    {
        "image": pa.array(
            [
                {"bytes": red, "path": "a.jpg"},
                {"bytes": red, "path": "a.jpg"},
                {"bytes": green, "path": "a.jpg"},
                {"bytes": green, "path": None},
                {"bytes": None, "path": "beside.jpg"},
                None,
            ],
            IMAGE,
        ),
        "caption": pa.array(["A red one", "red", "green", "x", "y", "z"]),
        "label": pa.array([0, 0, 1, 1, 1, 0], pa.int64()),
        "score": pa.array([0.5, None, 1, 2, 3, 4], pa.float64()),
    }
)
features = {"label": {"names": ["rose", "leaf"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
hugging_face = hugging_face.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
unlabelled = pa.table({"image": pa.array([red, green], pa.binary()), "label": pa.array([-1, 1], pa.int64())})
unlabelled = unlabelled.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
lists = pa.table(
    {
        "img": pa.array([red, green], pa.binary()),
        "captions": pa.array([["A red one", "red"], ["green"]], pa.list_(pa.string())),
        "split": ["train", "test"],
    }
)
groups = pa.table(
    {
        "image": pa.array([{"bytes": picture((6 * n, 250 - 6 * n, n)), "path": None} for n in range(40)], IMAGE),
        "caption": [f"number {n}" for n in range(40)],
    }
)
some = groups.slice(0, 12)
fixed = pa.table({"image": pa.array([picture((9 * n, 9, n)).ljust(900, b"\0") for n in range(12)], pa.binary(900)), "caption": ["x"] * 12})
empty = pa.table({"image": pa.array([{"bytes": red, "path": "a.jpg"}, {"bytes": b"", "path": "b.jpg"}], IMAGE), "caption": ["x", "y"]})
paths = pa.table({"filepath": ["a.jpg", "a.jpg", None], "title": ["A dog", "dogs", "x"], "__index_level_0__": [0, 1, 2]})
img2dataset = pa.table(
    {
        "url": ["https://a.b/1.jpg", "https://a.b/2.jpg", "https://a.b/3.jpg"],
        "key": ["000000000", "000000001", "000000002"],
        "status": ["success", "failed_to_download", "success"],
        "caption": ["A dog", "dogs", "x"],
        "width": [10, None, 10],
    }
)
addresses = img2dataset.select(["url", "caption"])
print(
    json.dumps(
        {
            "hugging_face": file(hugging_face),
            "hugging_face_zstd": file(hugging_face, compression="zstd", row_group_size=2, data_page_version="2.0"),
            "hugging_face_gzip": file(hugging_face, compression="gzip", use_dictionary=False),
            # Groups of some pages each, of which the first begins with a dictionary that does not take all.
            "groups": file(groups, row_group_size=13, data_page_size=2000, dictionary_pagesize_limit=1500, write_batch_size=3),
            "delta": file(
                some,
                compression="none",
                use_dictionary=False,
                column_encoding={"image.bytes": "DELTA_LENGTH_BYTE_ARRAY", "image.path": "PLAIN", "caption": "DELTA_BYTE_ARRAY"},
            ),
            "delta_v2": file(
                some,
                compression="none",
                use_dictionary=False,
                data_page_version="2.0",
                column_encoding={"image.bytes": "DELTA_BYTE_ARRAY", "image.path": "PLAIN", "caption": "DELTA_LENGTH_BYTE_ARRAY"},
            ),
            "unlabelled": file(unlabelled),
            "fixed": file(fixed),
            "empty": file(empty),
            "lists": file(lists),
            "paths": file(paths, compression="none"),
            "img2dataset": file(img2dataset),
            "addresses": file(addresses),
        },
        indent=0,
    )
)
