"""Writes rn.safetensors and vit.safetensors: open_clip models of small width, their inputs and features.

    pip install torch==2.11.0 open_clip_torch==3.3.0 && python3 models.py
"""
import json

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

TEXT = dict(context_length=20, vocab_size=300, width=32, heads=4, layers=2)
MODELS = {
    "rn": dict(embed_dim=24, quick_gelu=False, vision_cfg=dict(image_size=64, layers=[1, 2, 1, 1], width=4), text_cfg=TEXT),
    "vit": dict(embed_dim=24, quick_gelu=True, vision_cfg=dict(image_size=32, layers=2, width=32, patch_size=8, head_width=8), text_cfg=TEXT),
}
for name, config in MODELS.items():
    torch.manual_seed(1)
    model = CLIP(**config)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            # Fresh models have zero scales and unit statistics, which would hide mistakes.
            if key.endswith("running_mean") or key.endswith("bias"):
                tensor.normal_(0, 0.1)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif ".bn" in key and key.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
    weights = {f"model.{key}": value.clone() for key, value in model.state_dict().items() if key != "attn_mask"}
    size = config["vision_cfg"]["image_size"]
    images = torch.randn(3, 3, size, size)
    tokens = torch.randint(1, 298, (3, 20))
    for row, end in enumerate([19, 7, 3]):
        tokens[row, end] = 299
        tokens[row, end + 1 :] = 0
    model.eval()
    with torch.no_grad():
        image, text = model.encode_image(images), model.encode_text(tokens)
        model.train()
        image_train = model.encode_image(images)
    out = {**weights, "images": images, "tokens": tokens, "image_features": image, "text_features": text, "image_features_train": image_train}
    save_file({k: v.contiguous() for k, v in out.items()}, f"{name}.safetensors", metadata={"format": "pt"})
    json.dump(config, open(f"{name}.json", "w"), indent=1)
    print(name, sum(w.numel() for w in weights.values()))
