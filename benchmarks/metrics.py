"""IoU, Dice and foreground ARI: one value per image; a table prints the mean over images.

Conventions, where the formulas leave 0/0: a prediction and a truth that are both empty agree, so IoU and Dice
are 1. The foreground ARI of an image without any true object is undefined (NaN) and left out of the mean.
"""

from __future__ import annotations

import numpy as np


def iou(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union: (N, H, W) bool, twice -> (N,) float64 in [0, 1]."""
    shared, predicted, true = _areas(prediction, truth)
    union = predicted + true - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def dice(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice coefficient, 2|A∩B| / (|A| + |B|): (N, H, W) bool, twice -> (N,) float64 in [0, 1]."""
    shared, predicted, true = _areas(prediction, truth)
    total = predicted + true
    return np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0)


def foreground_ari(regions: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Adjusted Rand index (Hubert & Arabie, 1985) over the pixels of true objects only.

    regions: (N, H, W) integers >= 0, the region each pixel was assigned to; objects: (N, H, W) integers,
    0 background (ignored), k the k-th object. Returns (N,) float64, at most 1; NaN where there is no object.
    """
    counts = _contingency(regions, objects)  # (N, objects, regions)
    pixels = counts.sum(axis=(1, 2))
    together = _pairs(counts).sum(axis=(1, 2))
    in_objects = _pairs(counts.sum(axis=2)).sum(axis=1)
    in_regions = _pairs(counts.sum(axis=1)).sum(axis=1)
    expected = in_objects * in_regions / np.maximum(_pairs(pixels), 1)
    highest = (in_objects + in_regions) / 2
    spread = highest - expected
    # spread is 0 when both partitions are one cluster, or both single pixels: they agree
    score = np.where(spread > 0, (together - expected) / np.where(spread > 0, spread, 1), 1.0)
    return np.where(pixels > 0, score, np.nan)


def _areas(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shared, predicted and true pixels of each image."""
    if prediction.shape != truth.shape or prediction.dtype != bool or truth.dtype != bool:
        raise ValueError(
            f"masks must be bool and of one shape, not {prediction.dtype} {prediction.shape} "
            f"and {truth.dtype} {truth.shape}"
        )
    a, b = prediction.reshape(len(prediction), -1), truth.reshape(len(truth), -1)
    return (a & b).sum(axis=1), a.sum(axis=1), b.sum(axis=1)


def _contingency(regions: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Pixels of each (image, object, region): (N, O, R) int64, background left out."""
    images, n_objects, n_regions = len(objects), int(objects.max(initial=0)), int(regions.max(initial=0)) + 1
    image, *_ = where = np.nonzero(objects)
    cell = (image * n_objects + (objects[where].astype(np.int64) - 1)) * n_regions + regions[where]
    return np.bincount(cell, minlength=images * n_objects * n_regions).reshape(images, n_objects, n_regions)


def _pairs(count: np.ndarray) -> np.ndarray:
    """Unordered pairs among `count` things."""
    return count * (count - 1) / 2
