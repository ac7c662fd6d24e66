"""Loads a checkpoint of roclip into open_clip, strictly, and encodes something with it.

    pip install torch==2.11.0 open_clip_torch==3.3.0
    python3 load_in_open_clip.py runs/demo/clean-data-seed0/checkpoints/step_N
"""
import json
import pathlib
import sys

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file

folder = pathlib.Path(sys.argv[1])
config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
model = CLIP(**config)
weights = load_file(folder / "model.safetensors")
missing, unexpected = model.load_state_dict(weights, strict=False)
# The attention mask is a buffer that open_clip makes itself.
assert [name for name in missing if name != "attn_mask"] == [] and unexpected == [], (missing, unexpected)
model.eval()
size = config["vision_cfg"]["image_size"]
with torch.no_grad():
    image = model.encode_image(torch.randn(2, 3, size, size), normalize=True)
    text = model.encode_text(torch.randint(1, config["text_cfg"]["vocab_size"], (2, config["text_cfg"]["context_length"])), normalize=True)
assert torch.isfinite(image).all() and torch.isfinite(text).all()
print(f"{len(weights)} tensors loaded; image {tuple(image.shape)}, text {tuple(text.shape)}, scale {model.logit_scale.exp().item():.2f}")
