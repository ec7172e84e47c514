"""From images to one line of scores per image, the same way for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from baselines.matching import STRATEGIES, applicable, one_hot
from benchmarks.data import Evaluation, object_boxes
from benchmarks.metrics import dice, foreground_ari, iou
from benchmarks.uncertainty import Interval, bootstrap

CHUNK = 1000
"""Images segmented at once, so that soft masks of a whole data set need not fit in memory."""


@dataclass(frozen=True)
class Scores:
    """What a method's masks are worth."""

    table: pd.DataFrame
    """One line per image: id, iou, dice, fg_ari (NaN without objects)."""
    foreground: np.ndarray
    """(N, H, W) bool, as judged."""
    alternatives: dict[str, dict[str, float]]
    """Strategy -> mean iou and dice, for the strategies that the method might also be judged by."""
    failures: int
    """Images on which the method gave up and was scored with an empty mask."""

    @property
    def iou(self) -> Interval:
        """Mean IoU over images."""
        return bootstrap(self.table["iou"].to_numpy())

    @property
    def dice(self) -> Interval:
        """Mean Dice over images."""
        return bootstrap(self.table["dice"].to_numpy())

    @property
    def fg_ari(self) -> float | None:
        """Mean foreground ARI over the images with objects, None if there are none."""
        defined = self.table["fg_ari"].dropna()
        return float(defined.mean()) if len(defined) else None


def score(method: Any, data: Evaluation, strategy: str, progress: Any = None) -> Scores:
    """Segment the images and judge the masks.

    The strategy is a key of baselines.matching.STRATEGIES. Raises ValueError if the masks break the contract.
    """
    hard, failures = [], 0
    total = len(data.images)
    for start in range(0, total, CHUNK):
        part = slice(start, start + CHUNK)
        options: dict[str, Any] = {"progress": progress}
        if getattr(method, "needs_boxes", False):
            options["boxes"] = object_boxes(data.objects[part])
        images = data.images[part]
        masks = check_masks(method.segment(images, **options), images, method.name)
        failures += getattr(method, "failures", 0)
        hard.append(one_hot(masks))
    regions, truth = np.concatenate(hard), data.truth
    foreground = STRATEGIES[strategy](regions, truth)
    table = pd.DataFrame(
        {
            "id": data.ids,
            "iou": iou(foreground, truth),
            "dice": dice(foreground, truth),
            "fg_ari": foreground_ari(regions.argmax(axis=1), data.objects),
        }
    )
    others = [s for s in applicable(regions.shape[1], method.names_foreground) if s != strategy]
    return Scores(table, foreground, score_by(others, regions, truth), failures)


def score_by(strategies: list[str], regions: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean IoU and Dice of one-hot regions (N, K, H, W) by each strategy."""
    found = {}
    for strategy in strategies:
        foreground = STRATEGIES[strategy](regions, truth)
        found[strategy] = {
            "iou": float(iou(foreground, truth).mean()),
            "dice": float(dice(foreground, truth).mean()),
        }
    return found


def check_masks(masks: np.ndarray, images: np.ndarray, name: str) -> np.ndarray:
    """The masks as they came, once they are known to be (N, K, H, W) floats in [0, 1] that sum to 1 over K.

    Raises ValueError otherwise.
    """
    if not isinstance(masks, np.ndarray) or masks.dtype.kind != "f":
        kind = getattr(masks, "dtype", type(masks).__name__)
        raise ValueError(f"{name} gave masks of type {kind}; they must be a NumPy array of float32")
    count, height, width = images.shape[:3]
    if masks.ndim != 4 or masks.shape[0] != count or masks.shape[2:] != (height, width) or masks.shape[1] < 2:
        raise ValueError(
            f"{name} gave masks of shape {masks.shape} for images of shape {images.shape}; they must be "
            f"({count}, K, {height}, {width}) with at least two regions K"
        )
    if not np.isfinite(masks).all() or masks.min(initial=0) < -1e-6:
        raise ValueError(
            f"{name} gave masks with negative or non-finite values; they must be numbers from 0 to 1"
        )
    if np.abs(masks.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise ValueError(f"{name} gave masks that do not sum to 1 over regions")
    return masks
