"""Writes the class names of ImageNet as open_clip 3.3.0 has them (MIT licence), in ImageNet's order."""

import json
import pathlib

from open_clip import IMAGENET_CLASSNAMES

root = pathlib.Path(__file__).resolve().parents[2]
path = root / "crates/roclip/src/eval/templates/imagenet-1k.json"
path.write_text(json.dumps(list(IMAGENET_CLASSNAMES), ensure_ascii=False, indent=0) + "\n")
