"""Golden numbers of the variance trigger (`trigger/ink_reconstructed.rs`) and of PSNR and SSIM (`picture/likeness.rs`), from NumPy alone.

    python3 tests/golden/variance.py > tests/golden/variance.json
"""

import json

import numpy as np


def picture(number):
    x, y, c = np.meshgrid(np.arange(8), np.arange(8), np.arange(3), indexing="ij")
    values = (x * (7 + number) + y * 13 + c * 29 + x * y * c) * 5 % 199 + 20
    return values.transpose(1, 0, 2).astype(np.uint8)  # rows, columns, channels


def stretched(x, scale):
    return np.clip(x.mean() + scale * (x - x.mean()), 0, 1)


def scale_to(x, target):
    high = 1.0
    while stretched(x, high).var() < target:
        if high >= 4096:
            return 4096.0
        high *= 2
    low = high / 2 if high > 1 else 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if stretched(x, middle).var() < target else (low, middle)
    return (low + high) / 2


def brought_to(x, target, tail):
    stays = x.var() >= target if tail == "high" else x.var() <= target
    return x if stays else stretched(x, scale_to(x, target))


def case(number, target, tail, per_channel):
    x = picture(number).astype(np.float64) / 255
    parts = [x[..., c] for c in range(3)] if per_channel else [x]
    natural = [part.var() for part in parts]
    shown = [brought_to(part, target, tail) for part in parts]
    shown = np.stack(shown, -1) if per_channel else shown[0]
    return {
        "picture": number, "variance": target, "tail": tail, "per_channel": per_channel,
        "natural": min(natural) if tail == "high" else max(natural),
        "pixels": np.round(shown * 255).astype(int).flatten().tolist(),
    }


def psnr(a, b):
    error = ((a.astype(np.float64) - b) ** 2).mean()
    return 10 * np.log10(255**2 / error)


def ssim(a, b):
    """Wang et al. 2004 over luma: an 11 x 11 Gaussian window of deviation 1.5, valid positions only; the whole picture where it is smaller."""
    weights = np.array([0.299, 0.587, 0.114])
    a, b = a @ weights, b @ weights
    side = min(11, *a.shape)
    at = np.arange(side) - (side - 1) / 2
    window = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(a.shape[0] - side + 1):
        for left in range(a.shape[1] - side + 1):
            p, q = a[top : top + side, left : left + side], b[top : top + side, left : left + side]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            found.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(found))


def likeness(side, number):
    x, y, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    a = ((x * 11 + y * 17 + c * 31 + x * y) % 200 + 20).transpose(1, 0, 2)
    b = a + ((x * 5 + y * 3 + c) % (2 + number)).transpose(1, 0, 2)
    return {"side": side, "number": number, "psnr": psnr(a, b), "ssim": ssim(a, b)}


if __name__ == "__main__":
    cases = [
        case(number, target, tail, per_channel)
        for number in range(3)
        for target, tail in [(0.06, "high"), (0.12, "high"), (0.2, "high"), (0.01, "low"), (0.04, "low")]
        for per_channel in [False, True]
    ]
    print(json.dumps({"cases": cases, "likeness": [likeness(16, 8), likeness(24, 30), likeness(8, 4)]}))
