"""Writes ImageNet-1k's WordNet ids in the order of its classes, one a line, as timm 1.0.31 lists them (a public fact: they are sorted)."""

import importlib.resources
import pathlib

wnids = importlib.resources.files("timm").joinpath("data/_info/imagenet_synsets.txt").read_text().split()
assert len(wnids) == 1000 and wnids == sorted(wnids)
root = pathlib.Path(__file__).resolve().parents[2]
(root / "crates/roclip/src/eval/templates/imagenet-wnids.txt").write_text("\n".join(wnids) + "\n")
