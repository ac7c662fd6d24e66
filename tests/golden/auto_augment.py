"""Writes auto_augment.json: AutoAugment's operations by torchvision 0.26 on a PIL image."""

import json
import pathlib

import numpy
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

random = numpy.random.default_rng(0)
width, height = 29, 23
smooth = numpy.linspace(20, 220, width)[None, :, None] + numpy.linspace(-15, 30, height)[:, None, None]
pixels = numpy.clip(smooth + random.normal(0, 25, (height, width, 3)), 3, 250).astype("uint8")
picture = Image.fromarray(pixels)
cases = [(name, m) for name, ms in {
    "ShearX": [0.1, -0.1, 0.16667, 0.3],
    "Rotate": [10.0, -10.0, 26.66667, -26.66667, 30.0],
    "Color": [-0.9, 0.0, 0.4, 0.8],
    "Contrast": [0.8, -0.8],
    "Sharpness": [0.7, -0.7],
    "Posterize": [8, 6, 5, 4],
    "Solarize": [255.0, 141.66667, 113.33333, 28.33333, 56.66667],
    "AutoContrast": [0.0],
    "Equalize": [0.0],
    "Invert": [0.0],
}.items() for m in ms]
golden = {
    "width": width,
    "height": height,
    "picture": pixels.flatten().tolist(),
    "cases": [{
        "operation": name,
        "magnitude": m,
        "output": numpy.asarray(_apply_op(picture, name, m, InterpolationMode.NEAREST, None)).flatten().tolist(),
    } for name, m in cases],
}
pathlib.Path(__file__).with_name("auto_augment.json").write_text(json.dumps(golden))
