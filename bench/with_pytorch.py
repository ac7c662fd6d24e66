"""The other side of bench/run.sh, bench/loader.sh and bench/gpu.sh: the same work by PyTorch, open_clip, torchvision and PIL, as the released code does it.

    with_pytorch.py step MODEL.json BATCH TEXT_LENGTH THREADS [DEVICE PRECISION]

With a device (cpu, cuda or cuda:N) and a precision (fp32 as the released recipe has it: PyTorch's defaults, which let convolutions of a GPU use
TensorFloat-32; tf32 for matrix products, too; amp_bf16, open_clip's autocast) it prints seconds and the peak of the device's memory in MiB
(of the process on cpu).

    with_pytorch.py plain FOLDER SIZE
    with_pytorch.py augment FOLDER SIZE

    with_pytorch.py flop MODEL.json PAIRS.csv     GFLOP of a training step a pair: captions padded to the whole context, and of their own mean length
    with_pytorch.py product THREADS               GFLOP/s of a large product of matrices
"""

import contextlib
import json
import pathlib
import resource
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


def step(config, batch, length, threads, device="cpu", precision="fp32"):
    """Seconds, and the peak of memory in MiB."""
    from open_clip.loss import ClipLoss
    from open_clip.model import CLIP

    if precision not in ("fp32", "tf32", "amp_bf16"):
        sys.exit(f"unknown precision {precision}: fp32, tf32 or amp_bf16")
    torch.set_num_threads(threads)
    device = torch.device(device)
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    config = json.loads(pathlib.Path(config).read_text())
    model = CLIP(**config).train().to(device)
    side = config["vision_cfg"]["image_size"]
    images = torch.randn(batch, 3, side, side).to(device)
    # open_clip pads every caption to the whole context.
    context = config["text_cfg"]["context_length"]
    tokens = torch.zeros(batch, context, dtype=torch.long)
    tokens[:, :length] = torch.randint(1, config["text_cfg"]["vocab_size"], (batch, length))
    tokens = tokens.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    loss = ClipLoss()

    def autocast():
        # The loss is within it, as in open_clip's training loop.
        return torch.autocast(device.type, torch.bfloat16) if precision == "amp_bf16" else contextlib.nullcontext()

    def run():
        optimizer.zero_grad()
        with autocast():
            image, text, scale = model(images, tokens)
            total = loss(image, text, scale)
        total.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    seconds = median_seconds(run)
    if device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated(device) / 2**20
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def gflop_a_pair(config, pairs):
    """Of the products and convolutions of a forward and a backward pass, with padded captions and with those of the pairs' mean length."""
    import csv

    import open_clip
    from open_clip.model import CLIP
    from torch.utils.flop_counter import FlopCounterMode

    config = json.loads(pathlib.Path(config).read_text())
    captions = [row["caption"] for row in csv.DictReader(open(pairs, newline=""))]
    own = round((open_clip.get_tokenizer("RN50")(captions) != 0).sum(1).float().mean().item())
    side = config["vision_cfg"]["image_size"]
    counts = []
    for length in (config["text_cfg"]["context_length"], own):
        model = CLIP(**{**config, "text_cfg": {**config["text_cfg"], "context_length": length}}).train()
        with FlopCounterMode(display=False) as counter:
            # Two pairs, since BatchNorm over one picture of one place cannot be trained.
            image, text, _ = model(torch.randn(2, 3, side, side), torch.randint(1, config["text_cfg"]["vocab_size"], (2, length)))
            (image.sum() + text.sum()).backward()
        counts.append(counter.get_total_flops() / 2 / 1e9)
    return counts


def product(threads):
    torch.set_num_threads(threads)
    left, right = torch.randn(4096, 4096), torch.randn(4096, 4096)
    return 2 * 4096**3 / 1e9 / median_seconds(lambda: left @ right)


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
        seconds, peak = step(rest[0], *map(int, rest[1:4]), *rest[4:])
        print(f"{seconds:.6f} {peak:.1f}" if rest[4:] else f"{seconds:.6f}")
    elif name == "flop":
        print(*(f"{count:.3f}" for count in gflop_a_pair(*rest)))
    elif name == "product":
        print(f"{product(int(rest[0])):.1f}")
    else:
        print(f"{images(name, rest[0], int(rest[1])):.6f}")
