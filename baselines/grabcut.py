"""GrabCut (Rother et al., 2004) by OpenCV, started from a named rectangle.

The paper does not say which rectangle its figures used, so three are offered:

- `border`: everything but a frame of one pixel (OpenCV needs some certain background);
- `center60`: the centred square from 1/5 to 4/5 of each side, a plain centre prior;
- `bbox`: the box around the true masks of all objects. It uses annotation, and is labelled so wherever it is printed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from baselines.arrays import check_images

log = logging.getLogger(__name__)

Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True)
class GrabCutConfig:
    """Settings of GrabCut."""

    rectangle: str = "border"
    """Name of the rectangle outside which all is certain background: a key of RECTANGLES, or `bbox`."""
    iterations: int = 5
    """Rounds of fitting colour models and cutting (the customary value)."""


def border(height: int, width: int) -> Box:
    """All but a frame of one pixel."""
    return 1, 1, width - 2, height - 2


def center60(height: int, width: int) -> Box:
    """The centred rectangle with 60 % of each side."""
    left, top = width // 5, height // 5
    return left, top, 4 * width // 5 - left, 4 * height // 5 - top


RECTANGLES: dict[str, Callable[[int, int], Box]] = {"border": border, "center60": center60}


class GrabCut:
    """The method contract around `cv2.grabCut`; nothing is learned, channel 0 is the foreground.

    An image on which OpenCV fails gets an empty mask; `failures` counts these in the last `segment`.
    """

    name = "GrabCut"
    names_foreground = True
    variants = ("border", "center60", "bbox")

    def __init__(self) -> None:
        self.config = GrabCutConfig()
        self.failures = 0

    @classmethod
    def skip(cls) -> str | None:
        """GrabCut runs wherever OpenCV does."""
        return None

    @classmethod
    def configure(cls, *, variant: str, preset: str, dataset: str, image_size: int) -> GrabCutConfig:
        """The settings of a variant; they are the same under every preset and on every data set.

        Raises ValueError for an unknown variant.
        """
        if variant not in cls.variants:
            raise ValueError(f"GrabCut has no variant {variant!r}: choose one of {', '.join(cls.variants)}")
        return GrabCutConfig(rectangle=variant)

    @property
    def needs_boxes(self) -> bool:
        """Whether `segment` must be given the annotated boxes."""
        return self.config.rectangle == "bbox"

    def fit(
        self,
        images: np.ndarray,
        *,
        config: GrabCutConfig,
        seed: int,
        device: str,
        checkpoint_dir: Path,
        progress: Any,
    ) -> None:
        """Keep the settings; there is nothing to train."""
        self.config = config

    def segment(
        self, images: np.ndarray, *, boxes: np.ndarray | None = None, progress: Any = None
    ) -> np.ndarray:
        """Cut every image.

        images: (N, H, W, 3) uint8 RGB; boxes: (N, 4) int, x, y, width, height in pixels, for `bbox` only.
        Returns (N, 2, H, W) float32: 1 where the region (0 foreground, 1 background) is. Raises ValueError
        for an array of another kind, and if boxes are needed and there is not one for each image.
        """
        check_images(images)
        height, width = images.shape[1:3]
        if not self.needs_boxes:
            boxes = np.tile(RECTANGLES[self.config.rectangle](height, width), (len(images), 1))
        elif boxes is None or np.shape(boxes) != (len(images), 4):
            raise ValueError(
                "the GrabCut variant bbox needs the annotated box of each image: pass boxes=(N, 4) x, y, w, h"
            )
        self.failures = 0
        foreground = np.zeros(images.shape[:3], np.float32)
        for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
            foreground[i] = self._cut(image, _inside_frame(box, height, width))
            if progress is not None:
                progress(i + 1, len(images))
        if self.failures:
            log.warning("OpenCV failed on %d of %d images: empty masks", self.failures, len(images))
        return np.stack([foreground, 1 - foreground], axis=1)

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """GrabCut generates no pictures."""
        return {}

    def _cut(self, image: np.ndarray, box: Box) -> np.ndarray:
        """The foreground of one image as (H, W) bool; empty and counted where OpenCV fails."""
        labels = np.zeros(image.shape[:2], np.uint8)
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # the mask of an image must not depend on the images before it
        try:
            cv2.grabCut(
                np.ascontiguousarray(image),
                labels,
                box,
                background,
                foreground,
                self.config.iterations,
                cv2.GC_INIT_WITH_RECT,
            )
        except cv2.error as error:
            self.failures += 1
            log.debug("grabCut failed: %s", error)
            return np.zeros(image.shape[:2], bool)
        return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _inside_frame(box: Any, height: int, width: int) -> Box:
    """The box without what it has of the outermost pixels: OpenCV refuses one that fills the image."""
    x, y, w, h = (int(v) for v in box)
    left, top = max(x, 1), max(y, 1)
    return left, top, max(min(x + w, width - 1) - left, 0), max(min(y + h, height - 1) - top, 0)
