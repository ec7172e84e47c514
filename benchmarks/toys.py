"""Toys on which a re-implementation must show that it can do what it is made for, small enough for two CPU cores.

`two_textures` is for methods that redraw regions: one disc on a background, each with stripes and a colour of its own.
The colours of disc and background are independent of each other and differ from image to image; the stripes always
run across the background and along the disc. So each region can be painted anew without a look at the other, and
nothing but the object can: the assumption that ReDO is made on.

`coloured_sprites` is for methods of slots: three plain sprites on a plain background, as in Multi-dSprites.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from data_prep.tm_dsprites import SHAPES, Sprite, sprite_coverage

CYCLES = 4  # stripes a side
CONTRAST = 0.15  # amplitude of the stripes; channels go from 0 to 1
COLOURS = (CONTRAST, 1 - CONTRAST)  # mean colours, uniform for each channel
CENTRES = (0.35, 0.65)  # of the disc, as shares of the side
RADII = (0.25, 0.38)  # of the disc, likewise

SPRITES = 3
BACKGROUND = 0.25  # grey
SIDES = (0.28, 0.4)  # of a sprite, square root of its area as a share of the image's side
PAINTS = np.array([c for c in product((0.0, 1.0), repeat=3) if len(set(c)) > 1])  # neither black nor white
VISIBLE = 0.9  # least share of a sprite that others leave uncovered


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


def coloured_sprites(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, size, size, 3) uint8 and objects (count, size, size) uint8: 0 background, k the k-th sprite.

    Squares, ellipses and hearts of different colours on one uniform grey.
    """
    rng = np.random.default_rng(seed)
    scenes = [sprite_scene(rng, size) for _ in range(count)]
    return np.stack([image for image, _ in scenes]), np.stack([objects for _, objects in scenes])


def sprite_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One image and its objects; drawn anew until enough of every sprite can be seen."""
    while True:
        image = np.full((size, size, 3), BACKGROUND)
        objects = np.zeros((size, size), np.uint8)
        areas = []
        for k, paint in enumerate(PAINTS[rng.choice(len(PAINTS), SPRITES, replace=False)], start=1):
            side = rng.uniform(*SIDES)
            x, y = rng.uniform(side / 2, 1 - side / 2, size=2)
            shape = rng.choice(list(SHAPES))
            window, coverage = sprite_coverage(
                Sprite(shape, side, (x, y), rng.uniform(0, 2 * math.pi), paint), size
            )
            image[window] += coverage[:, :, None] * (paint - image[window])
            objects[window][coverage > 0.5] = k
            areas.append((coverage > 0.5).sum())
        seen = np.bincount(objects.ravel(), minlength=SPRITES + 1)[1:]
        if (seen >= VISIBLE * np.array(areas)).all():
            return (255 * image).round().astype(np.uint8), objects
