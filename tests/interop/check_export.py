"""Loads exports of roclip with the libraries they are for, and compares features with those that roclip computed.

    check_export.py FOLDER     holds expected.safetensors, texts.json, open_clip/ and, for a ViT, hugging_face/

Run by `make interop` through crates/roclip/tests/interop.rs.
"""

import json
import pathlib
import sys

import open_clip
import torch
from safetensors.torch import load_file

TOLERANCE = 1e-4


def compare(name, got, wanted):
    worst = (got - wanted).abs().max().item()
    print(f"{name}: {tuple(got.shape)}, largest difference {worst:.2e}")
    assert worst <= TOLERANCE, f"{name} differs by {worst}"


def main():
    folder = pathlib.Path(sys.argv[1])
    expected = load_file(folder / "expected.safetensors")
    texts = json.loads((folder / "texts.json").read_text())
    name = f"local-dir:{folder / 'open_clip'}"
    model, _, _ = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        compare("open_clip image", model.encode_image(expected["images"]), expected["image_features"])
        compare("open_clip text", model.encode_text(tokenizer(texts)), expected["text_features"])
    theirs = folder / "hugging_face"
    if not theirs.exists():
        return
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(theirs).eval()
    tokens = CLIPTokenizer.from_pretrained(theirs)(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=expected["images"]).pooler_output)
        text = model.text_projection(model.text_model(**tokens).pooler_output)
    compare("transformers image", image, expected["image_features"])
    compare("transformers text", text, expected["text_features"])


main()
