"""Writes wanet.json: a smooth field and a warped picture by PyTorch, as the released WaNet code makes them."""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(0)
side = 32
coarse = torch.rand(1, 2, 4, 4) * 2 - 1
coarse = coarse / coarse.abs().mean()
smooth = F.interpolate(coarse, size=side, mode="bicubic", align_corners=True)
field = torch.rand(1, 2, side, side) * 2 - 1
field = field / field.abs().mean()
strength = 1.5
line = torch.linspace(-1, 1, side)
rows, columns = torch.meshgrid(line, line, indexing="ij")
identity = torch.stack((columns, rows), 2)[None]
grid = torch.clamp(identity + strength * field.permute(0, 2, 3, 1) / side, -1, 1)
picture = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8)
values = picture.permute(2, 0, 1)[None].float() / 255
warped = F.grid_sample(values, grid, align_corners=True)[0].mul(255).byte().permute(1, 2, 0)
golden = {
    "coarse": coarse.flatten().tolist(),
    "smooth": smooth[0, 0].flatten().tolist(),
    "field": field.flatten().tolist(),
    "strength": strength,
    "picture": picture.flatten().tolist(),
    "warped": warped.flatten().tolist(),
}
# Only the first plane of the coarse grid is compared.
golden["coarse"] = golden["coarse"][:16]
pathlib.Path(__file__).with_name("wanet.json").write_text(json.dumps(golden))
