"""Writes formats.json: small GIF, BMP and TIFF pictures of many kinds, and the RGB pixels that Pillow sees in their first frame, transparent
ones on white.

    pip install pillow==13.0.0 && python3 formats.py > formats.json
"""

import base64
import io
import json
import random

from PIL import Image

random.seed(3)
WIDTH, HEIGHT = 13, 9


def texture(mode):
    picture = Image.new("RGBA", (WIDTH, HEIGHT))
    pixels = [
        (random.randrange(256), 20 * y, 19 * x, 0 if (x + y) % 5 == 0 else 255) for y in range(HEIGHT) for x in range(WIDTH)
    ]
    picture.putdata(pixels)
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


def encoded(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def transparent_palette():
    picture = texture("P")
    picture.info["transparency"] = picture.getpixel((0, 0))
    return picture


kinds = {
    "GIF": encoded(texture("P"), "GIF"),
    "GIF interlaced": encoded(texture("P"), "GIF", interlace=1),
    "GIF transparent": encoded(transparent_palette(), "GIF", transparency=transparent_palette().info["transparency"]),
    "GIF animated": encoded(texture("P"), "GIF", save_all=True, append_images=[texture("P"), texture("P")], duration=40),
    "GIF grey": encoded(texture("L"), "GIF"),
    "BMP": encoded(texture("RGB"), "BMP"),
    "BMP palette": encoded(texture("P"), "BMP"),
    "BMP grey": encoded(texture("L"), "BMP"),
    "BMP one bit": encoded(texture("1"), "BMP"),
    "TIFF": encoded(texture("RGB"), "TIFF"),
    "TIFF LZW": encoded(texture("RGB"), "TIFF", compression="tiff_lzw"),
    "TIFF deflate": encoded(texture("RGB"), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF packbits": encoded(texture("RGB"), "TIFF", compression="packbits"),
    "TIFF grey": encoded(texture("L"), "TIFF"),
    "TIFF transparent": encoded(texture("RGBA"), "TIFF"),
    "TIFF two pages": encoded(texture("RGB"), "TIFF", save_all=True, append_images=[texture("RGB")]),
}
rows = []
for name, data in kinds.items():
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    pixels = Image.alpha_composite(white, picture).convert("RGB").tobytes()
    rows.append({"name": name, "data": base64.b64encode(data).decode(), "rgb": base64.b64encode(pixels).decode()})
print(json.dumps(rows, indent=0))
