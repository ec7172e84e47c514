"""Stand-ins for Mask R-CNN, and a picture that they understand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_prep.annotations import Instance


class BrightThings:
    """A stand-in for Mask R-CNN: everything bright is one dog, and the red value is its score."""

    def __init__(self, stop_after: int | None = None, min_score: float = 0.3) -> None:
        self.seen: list[int] = []
        self.stop_after = stop_after
        self.min_score = min_score

    def settings(self) -> dict[str, Any]:
        return {"annotator": "bright things", "min_score": self.min_score}

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        if self.stop_after is not None and sum(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(len(images))
        found = []
        for image in images:
            mask = image[:, :, 1] > 128
            score = float(image[mask][:, 0].mean()) / 255 if mask.any() else 0.0
            found.append([Instance("dog", score, mask)] if mask.any() else [])
        return found


class CentralThing:
    """A stand-in that needs no clues: in every image one object, the ellipse nine tenths as wide and high."""

    def __init__(self, category: str) -> None:
        self.category = category

    def settings(self) -> dict[str, Any]:
        return {"annotator": "central thing", "category": self.category}

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        return [[Instance(self.category, 0.97, ellipse(*image.shape[:2]))] for image in images]


def ellipse(height: int, width: int) -> np.ndarray:
    """A mask (height, width) bool."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (x / 0.9) ** 2 + (y / 0.9) ** 2 < 1


def picture(score: float) -> Image.Image:
    """A bright square on grey; its red value is the score the stand-in gives it."""
    pixels = np.full((80, 120, 3), 60, np.uint8)
    pixels[25:55, 45:75] = (round(255 * score), 255, 0)
    return Image.fromarray(pixels)
