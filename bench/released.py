"""The released RoCLIP program, followed step by step in PyTorch (BigML-CS-UCLA/RoCLIP: `src/train.py`, `src/memory_bank.py`,
`utils/augment_image.py`), with open_clip's model of the same shape.

    released.py MODEL.json PAIRS.csv RUN BATCH EPOCHS THREADS WORKERS [--weights FILE] [--plain]

Captions are padded to 77 tokens, pictures are augmented by PIL and torchvision in worker processes, everything is computed in 32 bits, and each
epoch ends with a checkpoint of weights and moments in RUN. Even epochs match with a pool of 21,845 rows, or one a pair of fewer. The program's augmentation of captions is left out: it
is done once, before training. `--plain` leaves out that of pictures, too. Prints a line of JSON a step: epoch, loss, seconds.
"""

import argparse
import csv
import json
import math
import pathlib
import time

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms
from with_pytorch import NORMALISE, released_augmentation

POOL_ROWS, PERIOD, WARMUP_STEPS, PEAK_RATE = 21_845, 2, 10_000, 5e-5
UNDECAYED = ("bn", "ln", "bias", "logit_scale")


class Pairs(torch.utils.data.Dataset):
    def __init__(self, file, size, augment):
        rows = list(csv.DictReader(open(file, newline="")))
        self.folder = pathlib.Path(file).parent
        self.files = [row["image"] for row in rows]
        self.tokens = open_clip.get_tokenizer("RN50")([row["caption"] for row in rows])
        changes = released_augmentation(size) if augment else []
        self.transform = transforms.Compose([
            *changes,
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALISE),
        ])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, number):
        return self.transform(Image.open(self.folder / self.files[number]).convert("RGB")), self.tokens[number]


class Pool:
    """lightly's `NNMemoryBankModule` as the released code has it: noise at first, all rows made unit ones for each query."""

    def __init__(self, rows, dim):
        self.rows, self.at = torch.randn(rows, dim), 0

    def nearest(self, query):
        similarity = F.normalize(query, dim=1) @ F.normalize(self.rows, dim=1).T
        return self.rows[similarity.argmax(1)]

    def store(self, features):
        self.nearest(features)  # Computed and thrown away there, too.
        kept = features[: len(self.rows) - self.at]
        self.rows[self.at : self.at + len(kept)] = kept
        self.at = 0 if self.at + len(features) >= len(self.rows) else self.at + len(features)


def rate(step, steps):
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    return 0.5 * PEAK_RATE * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


def both_ways(logits):
    diagonal = torch.arange(len(logits))
    return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("pairs", type=pathlib.Path)
    parser.add_argument("run", type=pathlib.Path)
    for name in ("batch", "epochs", "threads", "workers"):
        parser.add_argument(name, type=int)
    parser.add_argument("--weights", type=pathlib.Path, help="begin with these, or write them there where there are none")
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)

    config = json.loads(options.model.read_text())
    model = CLIP(**config).train()
    if options.weights and options.weights.exists():
        model.load_state_dict(load_file(options.weights))
    elif options.weights:
        save_file(model.state_dict(), options.weights)
    loader = torch.utils.data.DataLoader(
        Pairs(options.pairs, config["vision_cfg"]["image_size"], not options.plain),
        batch_size=options.batch, shuffle=True, drop_last=True, num_workers=options.workers,
    )
    named = list(model.named_parameters())
    plain = lambda name: any(part in name for part in UNDECAYED)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for name, p in named if plain(name)], "weight_decay": 0},
            {"params": [p for name, p in named if not plain(name)], "weight_decay": 0.1},
        ],
        lr=PEAK_RATE, betas=(0.9, 0.999), eps=1e-8,
    )
    pool, steps = None, len(loader) * options.epochs
    for epoch in range(1, options.epochs + 1):
        started = time.perf_counter()
        for number, (images, tokens) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = rate(len(loader) * epoch + number, steps)
            optimizer.zero_grad()
            image, text, scale = model(images, tokens)
            if epoch % PERIOD == 0:
                pool = pool or Pool(min(POOL_ROWS, len(loader.dataset)), image.shape[1])
                matched = pool.nearest(image.detach())
                pool.store(text.detach())
                loss = both_ways(scale * matched @ image.T) + 0 * both_ways(scale * image @ text.T)
            else:
                loss = both_ways(scale * image @ text.T)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, 4.6052)
            now = time.perf_counter()
            print(json.dumps({"epoch": epoch, "loss": loss.item(), "seconds": now - started}), flush=True)
            started = now
        torch.save({"epoch": epoch, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, options.run / f"epoch_{epoch}.pt")


if __name__ == "__main__":
    main()
