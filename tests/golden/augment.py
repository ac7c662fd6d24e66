"""Writes augment.json: torchvision's operations on a PIL image.

    pip install torch==2.11.0 torchvision==0.26.0 pillow numpy && python3 augment.py
"""
import base64
import json

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode

rng = np.random.default_rng(0)
y, x = np.mgrid[0:54, 0:70]
array = np.stack([127 + 120 * np.sin(x / 7 + y / 11), 255 * x / 70, (x * y) % 256], -1)
array[10:30, 20:45] = [250, 30, 60]
array = np.clip(array + rng.normal(0, 12, array.shape), 0, 255).astype(np.uint8)
image = Image.fromarray(array)


def pack(picture):
    return {"width": picture.width, "height": picture.height, "rgb": base64.b64encode(picture.tobytes()).decode()}


cases = {}
for factor in (0.55, 1.45):
    cases[f"brightness {factor}"] = F.adjust_brightness(image, factor)
    cases[f"contrast {factor}"] = F.adjust_contrast(image, factor)
    cases[f"saturation {factor}"] = F.adjust_saturation(image, factor)
for factor in (-0.1, -0.03, 0.07, 0.1):
    cases[f"hue {factor}"] = F.adjust_hue(image, factor)
cases["grayscale"] = F.rgb_to_grayscale(image, 3)
for sigma in (0.1, 0.7, 2.0):
    cases[f"blur {sigma}"] = F.gaussian_blur(image, [21, 21], [sigma, sigma])
for top, left, height, width in ((5, 8, 40, 50), (0, 0, 54, 70), (20, 30, 17, 15)):
    cases[f"crop {top} {left} {height} {width}"] = F.resized_crop(image, top, left, height, width, [32, 32], InterpolationMode.BILINEAR)
for size in (32, 64):
    resized = F.resize(image, size, InterpolationMode.BICUBIC)
    cases[f"preprocess {size}"] = F.center_crop(resized, [size, size])
# The whole released pipeline with fixed draws: flip, crop, saturation, hue, brightness, contrast, blur.
step = F.resized_crop(F.hflip(image), 5, 8, 40, 50, [32, 32], InterpolationMode.BILINEAR)
step = F.adjust_contrast(F.adjust_brightness(F.adjust_hue(F.adjust_saturation(step, 0.6), 0.06), 1.3), 0.8)
cases["pipeline"] = F.gaussian_blur(step, [21, 21], [1.1, 1.1])
json.dump({"input": pack(image), "cases": {k: pack(v) for k, v in cases.items()}}, open("augment.json", "w"))
