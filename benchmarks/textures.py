"""A toy for methods that redraw regions: one disc on a background, each with stripes and a colour of its own.

The colours of disc and background are independent of each other and differ from image to image; the stripes always
run across the background and along the disc. So each region can be painted anew without a look at the other, and
nothing but the object can: the case in which ReDO's authors show that it works.
"""

from __future__ import annotations

import numpy as np

CYCLES = 4  # stripes a side
CONTRAST = 0.15  # amplitude of the stripes; channels go from 0 to 1
COLOURS = (CONTRAST, 1 - CONTRAST)  # mean colours, uniform for each channel
CENTRES = (0.35, 0.65)  # of the disc, as shares of the side
RADII = (0.25, 0.38)  # of the disc, likewise


def two_textures(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, size, size, 3) uint8 and the true discs (count, size, size) bool, which cover 31 %."""
    rng = np.random.default_rng(seed)
    place = np.arange(size) / size
    stripes = CONTRAST * np.sin(2 * np.pi * CYCLES * place)

    def layer(pattern: np.ndarray) -> np.ndarray:
        return rng.uniform(*COLOURS, (count, 1, 1, 3)) + pattern[None, :, :, None]

    background, disc = layer(stripes[None, :]), layer(stripes[:, None])
    x, y = rng.uniform(*CENTRES, (2, count, 1, 1))
    radius = rng.uniform(*RADII, (count, 1, 1))
    truth = (place[None, None, :] - x) ** 2 + (place[None, :, None] - y) ** 2 < radius**2
    return (255 * np.where(truth[..., None], disc, background)).round().astype(np.uint8), truth
