"""Two answers that look at no pixel: what a method must beat before its score means anything.

`all-foreground` scores the mean share of foreground; `centred-ellipse` scores what centring alone gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FloorConfig:
    """Settings of a floor."""

    area: float
    """Share of the image that is called foreground."""


class _Floor:
    """The method contract for one constant mask; channel 0 is the foreground."""

    name: str
    names_foreground = True
    variants = ("fixed",)
    area: float

    @classmethod
    def skip(cls) -> str | None:
        """A floor runs anywhere."""
        return None

    @classmethod
    def configure(cls, *, variant: str, preset: str, dataset: str, image_size: int) -> FloorConfig:
        """The one setting there is, whatever the preset; ValueError for an unknown variant."""
        if variant not in cls.variants:
            raise ValueError(
                f"{cls.name} has no variant {variant!r}: choose one of {', '.join(cls.variants)}"
            )
        return FloorConfig(area=cls.area)

    def fit(
        self,
        images: np.ndarray,
        *,
        config: FloorConfig,
        seed: int,
        device: str,
        checkpoint_dir: Path,
        progress: Any,
    ) -> None:
        """Nothing to train."""

    def segment(self, images: np.ndarray, *, progress: Any = None) -> np.ndarray:
        """The same mask for every image: (N, H, W, 3) uint8 -> (N, 2, H, W) float32."""
        foreground = self.mask(*images.shape[1:3]).astype(np.float32)
        return np.repeat(np.stack([foreground, 1 - foreground])[None], len(images), axis=0)

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """A floor generates no pictures."""
        return {}

    @classmethod
    def mask(cls, height: int, width: int) -> np.ndarray:
        """The foreground as (H, W) bool: an axis-parallel ellipse with the image's aspect, at the given area.

        An area of 1 is the whole image.
        """
        y = (np.arange(height)[:, None] + 0.5) / height - 0.5
        x = (np.arange(width)[None, :] + 0.5) / width - 0.5
        inside = x**2 + y**2 <= cls.area / np.pi
        return np.ones_like(inside) if cls.area >= 1 else inside


class AllForeground(_Floor):
    """Everything is foreground."""

    name = "all-foreground"
    area = 1.0


class CentredEllipse(_Floor):
    """A centred ellipse that covers half of the image."""

    name = "centred-ellipse"
    area = 0.5
