"""Writes beside itself: tiny random models as open_clip and transformers write them, and what each makes of three pictures and four texts.

    pip install torch==2.11.0 torchvision==0.26.0 open_clip_torch==3.3.0 transformers==5.23.0 && python3 write_models.py

Neither model is preprocessed as CLIP is, so that what a loader does not take from the files beside the weights shows in the features. One picture has the models' size: resizing may differ by a level of
255 from Pillow's.
"""
import json
import pathlib
import types

import numpy
import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

TEXTS = ["a photo of a cat", "two dogs, running!", "", "café naïve 123 and a caption that is longer than the context of these models"]
FOLDER = pathlib.Path(__file__).resolve().parent


def pictures():
    for name, (width, height) in {"exact.png": (16, 16), "wide.png": (47, 30), "high.png": (22, 51)}.items():
        y, x = numpy.mgrid[0:height, 0:width].astype(float)
        waves = [128 + 120 * numpy.sin(x / a + phase) * numpy.cos(y / b) for a, b, phase in [(5, 9, 0), (3, 6, 1), (8, 4, 2)]]
        Image.fromarray(numpy.stack(waves, -1).round().astype(numpy.uint8)).save(FOLDER / name)
        yield name, Image.open(FOLDER / name)


def vary(model):
    """Fresh biases are zero, and norms' scales one, which would hide mistakes."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("bias") or "norm" in name or "ln_" in name:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
            elif tensor.dim() > 1:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))


def round_to(model, kind):
    """The weights that the file will hold, in single precision."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(tensor.to(kind).float())


def write(name, image, text):
    numbers = {"texts": TEXTS, "image_features": image.tolist(), "text_features": text.tolist()}
    (FOLDER / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(name, image.shape, text.shape)


def of_open_clip(shown):
    torch.manual_seed(1)
    config = {
        "embed_dim": 6,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 8, "patch_size": 8, "head_width": 4, "mlp_ratio": 4.0},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 2, "pool_type": "argmax"},
    }
    model = open_clip.CLIP(**config).eval()
    vary(model)
    round_to(model, torch.float16)
    preprocess = dict(mean=(0.5, 0.45, 0.4), std=(0.5, 0.4, 0.3), interpolation="bilinear", resize_mode="squash", size=16)
    open_clip.model.set_model_preprocess_cfg(model, {**preprocess, "size": (16, 16), "mode": "RGB", "fill_color": 0})
    cfg = open_clip.transform.PreprocessCfg(**{**preprocess, "size": (16, 16)})
    transform = open_clip.transform.image_transform_v2(cfg, is_train=False)
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=12)(TEXTS)
    with torch.no_grad():
        image = model.encode_image(torch.stack([transform(picture) for _, picture in shown]))
        text = model.encode_text(tokens)
    write("open_clip", image, text)
    # The tokenizer of the model is the library's own, which writes nothing.
    tokenizer = types.SimpleNamespace(save_pretrained=lambda folder: None)
    save_for_hf(model.half(), tokenizer, config, FOLDER / "open_clip", safe_serialization=True)
    return tokens


def of_transformers(shown, tokens):
    torch.manual_seed(2)
    sizes = dict(num_hidden_layers=2, num_attention_heads=2)
    config = CLIPConfig(
        text_config=dict(hidden_size=4, intermediate_size=16, vocab_size=49408, max_position_embeddings=12, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407, **sizes),
        vision_config=dict(hidden_size=8, intermediate_size=32, image_size=16, patch_size=4, **sizes),
        projection_dim=6,
    )
    model = CLIPModel(config).eval()
    vary(model)
    round_to(model, torch.bfloat16)
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], resample=3)
    pixels = processor(images=[picture for _, picture in shown], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        text = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    write("transformers", image, text)
    model.to(torch.bfloat16).save_pretrained(FOLDER / "transformers")
    processor.save_pretrained(FOLDER / "transformers")


shown = list(pictures())
of_transformers(shown, of_open_clip(shown))
