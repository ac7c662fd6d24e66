"""Writes jpeg.json: kinds of JPEG, and what Pillow makes of them.

    pip install pillow==13.0.0 numpy && python3 jpeg.py
"""
import base64
import io
import json

import numpy as np
from PIL import Image

y, x = np.mgrid[0:120, 0:161]
array = np.stack([127 + 120 * np.sin(x / 17 + y / 31), 255 * x / 161, (x + y) % 256], -1)
array[10:40, 20:95] = [250, 30, 60]
image = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))
rows = []


def add(name, data):
    picture = Image.open(io.BytesIO(data))
    picture.load()
    rgb = np.asarray(picture.convert("RGB"), dtype=np.float64)
    height, width = rgb.shape[:2]
    averages = []
    for row in range(8):
        for column in range(8):
            part = rgb[row * height // 8 : (row + 1) * height // 8, column * width // 8 : (column + 1) * width // 8]
            averages.append([round(float(value), 2) for value in part.mean((0, 1))])
    rows.append({"name": name, "jpeg": base64.b64encode(data).decode(), "averages": averages})


def encode(picture=image, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **{"quality": 60, **options})
    return buffer.getvalue()


for progressive in (False, True):
    kind = "progressive" if progressive else "baseline"
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        add(f"{kind} {subsampling}", encode(subsampling=subsampling, progressive=progressive))
    add(f"{kind} optimized", encode(optimize=True, progressive=progressive))
    add(f"{kind} grey", encode(image.convert("L"), progressive=progressive))
    add(f"{kind} cmyk", encode(image.convert("CMYK"), progressive=progressive))
    add(f"{kind} restart blocks", encode(restart_marker_blocks=3, progressive=progressive))
    add(f"{kind} restart rows", encode(restart_marker_rows=1, progressive=progressive))
    add(f"{kind} small", encode(image.resize((17, 9)), progressive=progressive))
    add(f"{kind} garbage behind", encode(progressive=progressive) + b"\x00garbage\xff\xd8\xff\xd9 more" * 9)
    add(f"{kind} fill bytes", encode(progressive=progressive).replace(b"\xff\xda", b"\xff\xff\xff\xda", 1))
add("quality 100", encode(quality=100))
add("quality 1", encode(quality=1))
add("rgb", encode(keep_rgb=True))
exif = Image.Exif()
exif[0x0112] = 6
add("exif and comment", encode(exif=exif, comment=b"with \xff\xd9 in it", icc_profile=bytes(range(256)) * 3))
json.dump(rows, open(__file__.replace(".py", ".json"), "w"), separators=(",", ":"))
print(len(rows))
