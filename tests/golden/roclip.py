"""Writes roclip.safetensors: ten steps of RoCLIP's matching loss and pool in plain PyTorch, as the released code computes them.

    pip install torch==2.11.0 safetensors && python3 roclip.py
"""
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

STEPS, BATCH, DIM, POOL = 10, 6, 8, 20
torch.manual_seed(0)
scale = torch.tensor(17.0)
images = F.normalize(torch.randn(STEPS, BATCH, DIM), dim=-1)
texts = F.normalize(torch.randn(STEPS, BATCH, DIM), dim=-1)
start = torch.randn(POOL, DIM)
out = {"images": images, "texts": texts, "pool": start, "scale": scale}
targets = torch.arange(BATCH)
for mode in ("truncate", "wrap"):
    pool, pointer = start.clone(), 0
    losses, neighbours, gradients = [], [], []
    for step in range(STEPS):
        image = images[step].clone().requires_grad_(True)
        nearest = (image @ F.normalize(pool, dim=-1).T).argmax(1)
        matched = pool[nearest].detach()
        logits = scale * matched @ image.T
        loss = (F.cross_entropy(logits.T, targets) + F.cross_entropy(logits, targets)) / 2
        loss.backward()
        losses.append(loss.detach())
        neighbours.append(nearest)
        gradients.append(image.grad)
        room = POOL - pointer
        if BATCH >= room:
            pool[pointer:] = texts[step][:room]
            pointer = 0
            if mode == "wrap":
                pool[: BATCH - room] = texts[step][room:]
                pointer = BATCH - room
        else:
            pool[pointer : pointer + BATCH] = texts[step]
            pointer += BATCH
    out[f"{mode}.losses"] = torch.stack(losses)
    out[f"{mode}.neighbours"] = torch.stack(neighbours)
    out[f"{mode}.gradients"] = torch.stack(gradients)
    out[f"{mode}.pool"] = pool
    out[f"{mode}.pointer"] = torch.tensor(pointer)
clip_losses = []
for step in range(STEPS):
    logits = scale * images[step] @ texts[step].T
    clip_losses.append((F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2)
out["clip.losses"] = torch.stack(clip_losses)
save_file(out, "roclip.safetensors")
