"""The other side of bench/run.sh, bench/loader.sh and bench/gpu.sh: the same work by PyTorch, open_clip, torchvision and PIL, as the released code does it.

    with_pytorch.py step MODEL.json BATCH TEXT_LENGTH THREADS [DEVICE PRECISION]

With a device (cpu, cuda or cuda:N) and a precision (fp32 as the released recipe has it: PyTorch's defaults, which let convolutions of a GPU use
TensorFloat-32; tf32 for matrix products, too; amp_bf16, open_clip's autocast) it prints seconds and the peak of the device's memory in MiB
(of the process on cpu).

    with_pytorch.py plain FOLDER SIZE
    with_pytorch.py augment FOLDER SIZE
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
    else:
        print(f"{images(name, rest[0], int(rest[1])):.6f}")
