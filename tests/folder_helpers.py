"""Images and masks in two folders, for the tests of what is prepared of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data_prep import folder
from data_prep.build import Options
from data_prep.store import PreparedDataset

QUIET = Options(size=32, progress=False, workers=2)
CAREFREE = Options(size=32, progress=False, workers=2, keep_going=True)
LABELS = np.zeros((60, 100), np.uint8)
LABELS[10:30, 20:50] = 1
LABELS[40:50, 60:90] = 2
SHARE = {1: 20 * 30 / 6000, 2: 10 * 30 / 6000}


def make_pairs(root: Path) -> Path:
    """Ten images a00 to a09 of 100 x 60 pixels with grey masks."""
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number in range(10):
        pixels = np.full((60, 100, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"a{number:02d}.jpg")
        save_mask(root, Image.fromarray((LABELS > 0).astype(np.uint8) * 200), f"a{number:02d}")
    return root


def save_mask(root: Path, mask: Image.Image, stem: str = "a00") -> None:
    mask.save(root / "masks" / f"{stem}.png")


def prepare(root: Path, options: Options = QUIET, **config: object) -> PreparedDataset:
    settings = folder.FolderConfig(**config)  # type: ignore[arg-type]
    return folder.prepare(root / "images", root / "masks", root / "out", settings, options)


def only(root: Path, mask: Image.Image) -> Path:
    """Keep one pair, with this mask."""
    for file in [*(root / "images").iterdir(), *(root / "masks").iterdir()]:
        if file.stem != "a00":
            file.unlink()
    save_mask(root, mask)
    return root
