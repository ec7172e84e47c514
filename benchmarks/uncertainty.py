"""How sure a mean over images is: bootstrap intervals, and differences of two methods on the same images."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
ENDS = (2.5, 97.5)
"""Percentiles that bound a 95 % interval."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: np.ndarray) -> Interval:
    """The mean of values (N,) with its percentile bootstrap interval; the same values give the same interval.

    The values are drawn N at a time with replacement: the interval says what another draw of images would
    change, and nothing of what another training would.
    """
    means = resample_weights(len(values)) @ values.astype(np.float32)
    # Rounded weights miss a sum of 1 a little, and no mean lies outside of its values.
    low, high = np.clip(np.percentile(means, ENDS), values.min(), values.max())
    return Interval(float(values.mean()), float(low), float(high))


def paired_difference(one: np.ndarray, other: np.ndarray) -> Interval:
    """How far `one` lies above `other`, (N,) each, the same images in the same order; see bootstrap.

    Raises ValueError if the lengths differ.
    """
    if one.shape != other.shape:
        raise ValueError(f"a paired difference needs the same images, not {len(one)} and {len(other)}")
    return bootstrap(one - other)


@functools.lru_cache(maxsize=2)
def resample_weights(count: int) -> np.ndarray:
    """How much each of `count` values weighs in each resample: (RESAMPLES, count) float32, rows sum to 1."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return (drawn / count).astype(np.float32)
