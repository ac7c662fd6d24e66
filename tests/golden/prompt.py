"""Writes prompt.safetensors: prompt learning on the small ViT of vit.safetensors in plain PyTorch: gradients of the first step and ten
steps of BadCLIP's joint training (Bai et al.), two of its warm-up before them, and ten steps of CoOp.

    pip install torch==2.11.0 safetensors && python3 prompt.py      (vit.safetensors beside it)
"""
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

CONTEXTS, CLASSES, WARMUP, STEPS, BATCH, TARGET = 4, 5, 2, 10, 2, 1
WARMUP_STEP, RATE, TRIGGER_RATE, MOMENTUM, DECAY, EPS = 0.1, 0.02, 0.5, 0.9, 5e-4, 8 / 255
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
weights = {key[6:]: value for key, value in load_file("vit.safetensors").items() if key.startswith("model.")}


def blocks(x, prefix, heads, mask):
    layer = 0
    while f"{prefix}.resblocks.{layer}.ln_1.weight" in weights:
        w = lambda name: weights[f"{prefix}.resblocks.{layer}.{name}"]
        norm = lambda x, name: F.layer_norm(x, x.shape[-1:], w(f"{name}.weight"), w(f"{name}.bias"))
        n, length, width = x.shape
        split = lambda t: t.view(n, length, heads, width // heads).transpose(1, 2)
        q, k, v = F.linear(norm(x, "ln_1"), w("attn.in_proj_weight"), w("attn.in_proj_bias")).chunk(3, -1)
        scores = split(q) @ split(k).transpose(2, 3) / math.sqrt(width // heads)
        if mask:
            scores = scores + torch.full((length, length), float("-inf")).triu(1)
        mixed = (scores.softmax(-1) @ split(v)).transpose(1, 2).reshape(n, length, width)
        x = x + F.linear(mixed, w("attn.out_proj.weight"), w("attn.out_proj.bias"))
        hidden = F.linear(norm(x, "ln_2"), w("mlp.c_fc.weight"), w("mlp.c_fc.bias"))
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        x = x + F.linear(hidden, w("mlp.c_proj.weight"), w("mlp.c_proj.bias"))
        layer += 1
    return x


def image_features(images):
    w = lambda name: weights[f"visual.{name}"]
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], w(f"{name}.weight"), w(f"{name}.bias"))
    x = F.conv2d(images, w("conv1.weight"), stride=w("conv1.weight").shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([w("class_embedding").expand(len(x), 1, -1), x], 1) + w("positional_embedding")
    return F.normalize(norm(blocks(norm(x, "ln_pre"), "visual.transformer", 4, False)[:, 0], "ln_post") @ w("proj"), dim=-1)


def text_features(embedded, end):
    x = blocks(embedded + weights["positional_embedding"][: embedded.shape[1]], "transformer", 4, True)
    x = F.layer_norm(x, x.shape[-1:], weights["ln_final.weight"], weights["ln_final.bias"])
    return F.normalize(x[torch.arange(len(x)), end] @ weights["text_projection"], dim=-1)


torch.manual_seed(3)
table = weights["token_embedding.weight"]
width, dim, size = table.shape[1], weights["text_projection"].shape[1], 32
# Start 298, names of one to three tokens, end 299, padding.
names = [[5], [6, 7], [8], [9, 10, 11], [12, 13]]
rows = [[298, *name, 299] for name in names]
length = max(map(len, rows))
ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
end = torch.tensor([len(row) - 1 + CONTEXTS for row in rows])
images = torch.randn(STEPS, BATCH, 3, size, size)
labels = torch.randint(CLASSES, (STEPS, BATCH))
hidden = max(dim // 16, 1)
start = {
    "prompt_learner.ctx": table[torch.tensor([20, 21, 22, 23])].clone(),
    "prompt_learner.meta_net.linear1.weight": torch.randn(hidden, dim) * 0.3,
    "prompt_learner.meta_net.linear1.bias": torch.randn(hidden) * 0.3,
    "prompt_learner.meta_net.linear2.weight": torch.randn(width, hidden) * 0.05,
    "prompt_learner.meta_net.linear2.bias": torch.randn(width) * 0.05,
    "trigger.delta": (torch.rand(3, size, size) * 2 - 1) * EPS / STD,
}
scale = weights["logit_scale"].exp()
bound = EPS / STD


def logits(learner, pictures):
    features = image_features(pictures)
    context = learner["prompt_learner.ctx"].unsqueeze(0)
    if "prompt_learner.meta_net.linear1.weight" in learner:
        w = lambda name: learner[f"prompt_learner.meta_net.{name}"]
        bias = F.linear(F.relu(F.linear(features, w("linear1.weight"), w("linear1.bias"))), w("linear2.weight"), w("linear2.bias"))
        context = context + bias.unsqueeze(1)
    context = context.expand(len(pictures), -1, -1)
    embedded = table[ids]
    out = []
    for row, feature in zip(context, features):
        sequence = torch.cat([embedded[:, :1], row.expand(CLASSES, -1, -1), embedded[:, 1:]], 1)
        out.append(scale * text_features(sequence, end) @ feature)
    return torch.stack(out)


def loss(learner, step, attack):
    clean = logits(learner, images[step])
    if not attack:
        return F.cross_entropy(clean, labels[step])
    triggered = torch.minimum(torch.maximum(images[step] + learner["trigger.delta"], -MEAN / STD), (1 - MEAN) / STD)
    both = torch.cat([clean, logits(learner, triggered)])
    return F.cross_entropy(both, torch.cat([labels[step], torch.full_like(labels[step], TARGET)]))


out = {"images": images, "labels": labels, "ids": ids, "end": end, **{f"start.{key}": value for key, value in start.items()}}
for name, attack in (("badclip", True), ("coop", False)):
    kept = start if attack else {key: value for key, value in start.items() if key == "prompt_learner.ctx"}
    learner = {key: value.clone().requires_grad_(True) for key, value in kept.items()}
    velocity = {key: torch.zeros_like(value) for key, value in learner.items()}
    losses = []
    for step in range(WARMUP if attack else 0):
        value = loss(learner, step, True)
        (gradient,) = torch.autograd.grad(value, [learner["trigger.delta"]])
        with torch.no_grad():
            moved = learner["trigger.delta"] - WARMUP_STEP * gradient
            learner["trigger.delta"].copy_(torch.minimum(torch.maximum(moved, -bound), bound))
        losses.append(value.detach())
    for step in range(STEPS):
        value = loss(learner, step, attack)
        gradients = dict(zip(learner, torch.autograd.grad(value, list(learner.values()))))
        if step == 0:
            out.update({f"{name}.gradient.{key}": gradient for key, gradient in gradients.items()})
        with torch.no_grad():
            for key, parameter in learner.items():
                velocity[key] = MOMENTUM * velocity[key] + gradients[key] + DECAY * parameter
                parameter -= (TRIGGER_RATE if key == "trigger.delta" else RATE) * velocity[key]
                if key == "trigger.delta":
                    parameter.copy_(torch.minimum(torch.maximum(parameter, -bound), bound))
        losses.append(value.detach())
    out[f"{name}.losses"] = torch.stack(losses)
    out.update({f"{name}.after.{key}": value.detach() for key, value in learner.items()})
save_file({key: value.contiguous() for key, value in out.items()}, "prompt.safetensors")
print({name: out[f"{name}.losses"].tolist() for name in ("badclip", "coop")})
