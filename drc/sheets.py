"""The rows of the paper's Figure 3, and contact sheets of them: one column a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from drc.model import Regions

ROWS = ("input", "reconstruction", "foreground", "background", "mask")  # top to bottom
TILE, GAP, MARGIN, HEAD = 112, 6, 116, 24  # pixels


def figure_panels(regions: Regions) -> dict[str, np.ndarray]:
    """What was painted, as in Figure 3: reconstruction, foreground and background -> (B, H, W, 3) uint8."""
    return {
        "reconstruction": to_uint8(regions.image),
        "foreground": to_uint8((regions.content_fg + 1) * regions.pi[:, :1] - 1),
        "background": to_uint8(regions.content_bg),
    }


def figure_columns(inputs: np.ndarray, regions: Regions) -> list[dict[str, np.ndarray]]:
    """The rows of Figure 3 for each of the images (B, S, S, 3) uint8: name in ROWS -> (S, S, 3) uint8."""
    mask = to_uint8(2 * regions.pi[:, :1].expand(-1, 3, -1, -1) - 1)
    panels = {"input": inputs, **figure_panels(regions), "mask": mask}
    return [{name: row[i] for name, row in panels.items()} for i in range(len(inputs))]


def to_uint8(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8."""
    scaled = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def column(panels: dict[str, np.ndarray]) -> Image.Image:
    """One picture's panels, each (S, S, 3) uint8 under its name in ROWS, one below the other: S by 5S pixels."""
    return Image.fromarray(np.concatenate([panels[name] for name in ROWS]))


def sheet(columns: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Columns side by side, rows labelled on the left and captions, shortened in the middle, above."""
    step = TILE + GAP
    page = Image.new("RGB", (MARGIN + len(columns) * step, HEAD + len(ROWS) * step), "white")
    draw = ImageDraw.Draw(page)
    for r, name in enumerate(ROWS):
        place = (MARGIN - 2 * GAP, HEAD + r * step + TILE // 2)
        draw.text(place, name, fill="black", font=ImageFont.load_default(14), anchor="rm")
    for c, (picture, caption) in enumerate(zip(columns, captions, strict=True)):
        left = MARGIN + c * step
        draw.text(
            (left + TILE // 2, HEAD // 2), _short(caption), "black", ImageFont.load_default(11), anchor="mm"
        )
        side = picture.width
        kind = Image.Resampling.NEAREST if side < TILE else Image.Resampling.BOX
        for r in range(len(ROWS)):
            tile = picture.crop((0, r * side, side, (r + 1) * side)).resize((TILE, TILE), kind)
            page.paste(tile, (left, HEAD + r * step))
    return page


def _short(caption: str) -> str:
    """At most 18 characters that any font has."""
    plain = caption.encode("ascii", "replace").decode()
    return plain if len(plain) <= 18 else f"{plain[:9]}..{plain[-7:]}"
