"""The other side of bench/run.sh and bench/loader.sh: the same work by PyTorch, open_clip, torchvision and PIL, as the released code does it.

    with_pytorch.py step MODEL.json BATCH TEXT_LENGTH THREADS
    with_pytorch.py plain FOLDER SIZE
    with_pytorch.py augment FOLDER SIZE
"""

import json
import pathlib
import statistics
import sys
import time

import torch


def median_seconds(run):
    times, started = [], time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - started < 6 and len(times) < 100):
        at = time.perf_counter()
        run()
        times.append(time.perf_counter() - at)
    return statistics.median(times[2:])


def step(config, batch, length, threads):
    from open_clip.loss import ClipLoss
    from open_clip.model import CLIP

    torch.set_num_threads(threads)
    config = json.loads(pathlib.Path(config).read_text())
    model = CLIP(**config).train()
    side = config["vision_cfg"]["image_size"]
    images = torch.randn(batch, 3, side, side)
    # open_clip pads every caption to the whole context.
    context = config["text_cfg"]["context_length"]
    tokens = torch.zeros(batch, context, dtype=torch.long)
    tokens[:, :length] = torch.randint(1, config["text_cfg"]["vocab_size"], (batch, length))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    loss = ClipLoss()

    def run():
        optimizer.zero_grad()
        image, text, scale = model(images, tokens)
        loss(image, text, scale).backward()
        optimizer.step()

    return median_seconds(run)


NORMALISE = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def released_augmentation(size):
    """RoCLIP repository, utils/augment_image.py."""
    from torchvision import transforms

    return [
        transforms.RandomHorizontalFlip(),
        transforms.RandomResizedCrop(size),
        transforms.RandomApply([transforms.ColorJitter(0.5, 0.5, 0.5, 0.1)], p=0.8),
        transforms.RandomGrayscale(0.2),
        transforms.GaussianBlur(21, (0.1, 2.0)),
    ]


def images(name, folder, size):
    """Images a second of processor time, on one thread and without the transport between DataLoader processes."""
    from PIL import Image
    from torchvision import transforms

    torch.set_num_threads(1)
    if name == "plain":
        # CLIP's preprocessing.
        changes = [
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
        ]
    else:
        # Then CLIP's preprocessing (the picture has its size already).
        changes = released_augmentation(size)
    pipeline = transforms.Compose([*changes, transforms.ToTensor(), transforms.Normalize(*NORMALISE)])
    files = sorted(pathlib.Path(folder).rglob("*.jpg"))[:200]
    started = time.process_time()
    for file in files:
        pipeline(Image.open(file).convert("RGB"))
    return len(files) / (time.process_time() - started)


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if name == "step":
        print(f"{step(rest[0], *map(int, rest[1:])):.6f}")
    else:
        print(f"{images(name, rest[0], int(rest[1])):.6f}")
