"""TM-dSprites, re-made: coloured sprites over one of twenty textures of Textured MNIST.

The authors of DRC never released their generator. Backgrounds are the single-frequency gratings of Textured
MNIST (Greff et al., 2016); foregrounds are one to three dSprites shapes, described by formulas and not by
files. Their size is set so that the foreground covers 7.3 % of an image on average, which is what the paper's
figures for methods that call everything foreground imply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.errors import DataPrepError
from data_prep.parallel import ordered_map
from data_prep.store import DatasetWriter, PreparedDataset

TILE = 38
"""Side of the texture's spectrum, and of the tile it gives."""
CROP = 28
"""Side of the random piece of the tile that becomes the background."""
TEXTURES = tuple((f1, f2 + row) for row, f1 in enumerate((4, 10, 21, 32, 37)) for f2 in (0, 4, 8, 12))
"""The (f1, f2) places of the one non-zero coefficient."""

SIDE = 0.2575
"""Largest sprite: square root of its area, as a share of the image's side."""
SCALES = (0.5, 1.0)
"""Sprites are drawn uniformly between these multiples of SIDE, the range of dSprites, which has a few of them."""
REACH = 0.76
"""No shape of unit area reaches further than this from its centre, so a sprite stays inside the image."""
MAX_SPRITES = 3

VARIANTS: dict[str, Callable[[np.ndarray, Texture], np.ndarray | Texture]] = {
    "tm-dsprites": lambda colour, texture: colour,
    "tm-dsprites-grey": lambda colour, texture: np.repeat(colour[:1], 3),
    "tm-dsprites-textured": lambda colour, texture: texture,
}
"""What a sprite is painted with, of a uniformly random colour and of one of the textures, which the image has once."""
SPLIT_CODES = {"train": 0, "test": 1}


# --- shapes of unit area: signed distance (negative inside) at (u, v), v pointing down --------------------


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to the square of side 1."""
    return np.maximum(np.abs(u), np.abs(v)) - 0.5


def ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance, to first order at the edge, to the ellipse whose axes have dSprites' ratio."""
    ratio = 1.8
    b = math.sqrt(1 / (math.pi * ratio))
    a = ratio * b
    level = np.hypot(u / a, v / b) + 1e-6
    slope = np.hypot(u / a**2, v / b**2) + 1e-6
    return (level - 1) * level / slope


def heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a heart: a square on its corner with half a disc on each upper side."""
    side = 1 / math.sqrt(1 + math.pi / 4)
    u = np.abs(u)
    diamond = (u + np.abs(v)) / math.sqrt(2) - side / 2
    offset = side / math.sqrt(8)
    disc = np.hypot(u - offset, v + offset) - side / 2
    return np.minimum(diamond, disc)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "square": square,
    "ellipse": ellipse,
    "heart": heart,
}


# --- settings and scenes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TMDspritesConfig:
    """What fixes a TM-dSprites data set, to the last byte. Raises DataPrepError on a value out of range."""

    variant: str = "tm-dsprites"
    """One of VARIANTS."""
    shapes: tuple[str, ...] = tuple(SHAPES)
    """Categories the sprites are drawn from."""
    count: int = 20_000
    """Training images; the first 1,000 are the paper's evaluation subset."""
    heldout: int = 1_000
    """Images of split `test`, which no method trains on."""
    size: int = 128
    """Height and width in pixels, 16 to 256. A scene is the same at any size."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise DataPrepError(f"There is no variant {self.variant!r}; choose from {', '.join(VARIANTS)}.")
        unknown = [shape for shape in self.shapes if shape not in SHAPES]
        if unknown or not self.shapes:
            raise DataPrepError(
                f"There is no shape {', '.join(unknown) or '(none)'}; choose from {', '.join(SHAPES)}."
            )
        if len(set(self.shapes)) != len(self.shapes):
            raise DataPrepError(f"Shapes {', '.join(self.shapes)} name one of them twice; name each once.")
        if not 16 <= self.size <= 256:
            raise DataPrepError(f"Image size {self.size} is out of range; choose 16 to 256 pixels.")
        if self.count < 1 or self.heldout < 0:
            raise DataPrepError("At least 1 training image and no fewer than 0 held-out ones are needed.")
        if self.seed < 0:
            raise DataPrepError(f"Seed {self.seed} is negative; choose 0 or more.")

    @property
    def name(self) -> str:
        """The data set's name: the variant, then the shapes if not all are used, as in tm-dsprites-hearts."""
        chosen = [f"-{shape}s" for shape in SHAPES if shape in self.shapes]
        return self.variant + ("" if len(chosen) == len(SHAPES) else "".join(chosen))


@dataclass(frozen=True)
class Texture:
    """One grating: which of TEXTURES, its phase as a share of a turn, where its crop begins (row, column)."""

    number: int
    phase: float
    corner: tuple[int, int]


@dataclass(frozen=True)
class Sprite:
    """One shape: centre (x, y) and side as shares of the image's side, angle in radians."""

    shape: str
    side: float
    centre: tuple[float, float]
    angle: float
    paint: np.ndarray | Texture
    """Colour (3,) in [0, 1], or a texture."""


@dataclass(frozen=True)
class Scene:
    """Everything random about an image; `render` turns it into pixels of any size."""

    background: Texture
    sprites: tuple[Sprite, ...]


def draw_scene(config: TMDspritesConfig, split: str, number: int) -> Scene:
    """The scene of image `number` (from 0) of a split: a function of the seed, the split and the number."""
    rng = np.random.default_rng([config.seed, SPLIT_CODES[split], number])
    textures = rng.permutation(len(TEXTURES))
    background = _draw_texture(rng, textures[0])
    shapes = [shape for shape in SHAPES if shape in config.shapes]
    sprites = []
    for k in range(rng.integers(1, MAX_SPRITES + 1)):
        shape = shapes[rng.integers(len(shapes))]
        side = SIDE * rng.uniform(*SCALES)
        x, y = rng.uniform(REACH * side, 1 - REACH * side, size=2)
        angle = rng.uniform(0, 2 * math.pi)
        colour = rng.random(3)
        texture = _draw_texture(rng, textures[k + 1])
        paint = VARIANTS[config.variant](colour, texture)
        sprites.append(Sprite(shape, side, (x, y), angle, paint))
    return Scene(background, tuple(sprites))


def _draw_texture(rng: np.random.Generator, number: int) -> Texture:
    phase = rng.random()
    row, column = rng.integers(TILE - CROP + 1, size=2)
    return Texture(int(number), phase, (int(row), int(column)))


# --- pixels -----------------------------------------------------------------------------------------------


def _texture_waves() -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of each texture at phase 0, (20, TILE, TILE) float32."""
    row, column = np.mgrid[:TILE, :TILE]
    turns = np.stack([(f1 * row + f2 * column) % TILE for f1, f2 in TEXTURES]) / TILE
    return np.cos(2 * math.pi * turns).astype(np.float32), np.sin(2 * math.pi * turns).astype(np.float32)


COSINES, SINES = _texture_waves()


def texture_tile(number: int, phase: float) -> np.ndarray:
    """The tile of one texture, (TILE, TILE) float32 in [0, 1].

    It is the real part of the inverse Fourier transform of a spectrum that is zero but for exp(2πi·phase) at
    TEXTURES[number], scaled to the full range; written out, a cosine.
    """
    angle = 2 * math.pi * phase
    tile = COSINES[number] * np.float32(math.cos(angle)) - SINES[number] * np.float32(math.sin(angle))
    low, high = tile.min(), tile.max()
    return (tile - low) / (high - low)


def texture_image(texture: Texture, size: int) -> np.ndarray:
    """A grating as wide as the image, (size, size) float32, 0 to 255: the texture's crop, resized."""
    row, column = texture.corner
    crop = texture_tile(texture.number, texture.phase)[row : row + CROP, column : column + CROP]
    method = cv2.INTER_LINEAR if size >= CROP else cv2.INTER_AREA
    return cv2.resize(crop * np.float32(255), (size, size), interpolation=method)


def sprite_coverage(sprite: Sprite, size: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """How much of each pixel a sprite covers, in [0, 1], and the rows and columns this is given for."""
    side, (x, y) = sprite.side * size, (sprite.centre[0] * size, sprite.centre[1] * size)
    reach = REACH * side + 1
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    bottom, right = min(size, math.ceil(y + reach)), min(size, math.ceil(x + reach))
    v = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None] / np.float32(side)
    u = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x))[None, :] / np.float32(side)
    cos, sin = np.float32(math.cos(sprite.angle)), np.float32(math.sin(sprite.angle))
    distance = SHAPES[sprite.shape](cos * u + sin * v, cos * v - sin * u) * np.float32(side)
    return (slice(top, bottom), slice(left, right)), np.clip(0.5 - distance, 0, 1)


def render(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The image (size, size, 3) uint8 and its mask (size, size) uint8: k where the k-th sprite is on top."""
    background = (texture_image(scene.background, size) + 0.5).astype(np.uint8)
    image = cv2.cvtColor(background, cv2.COLOR_GRAY2RGB)
    mask = np.zeros((size, size), dtype=np.uint8)
    for k, sprite in enumerate(scene.sprites, start=1):
        window, coverage = sprite_coverage(sprite, size)
        if isinstance(sprite.paint, Texture):
            paint = texture_image(sprite.paint, size)[window][:, :, None]
        else:
            paint = (255 * sprite.paint).astype(np.float32)
        behind = image[window]
        image[window] = behind + coverage[:, :, None] * (paint - behind) + np.float32(0.5)
        mask[window][coverage > 0.5] = k
    return image, mask


# --- the data set -----------------------------------------------------------------------------------------


def sample(config: TMDspritesConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` training images (count,H,W,3) and masks (count,H,W), both uint8, without a store."""
    pairs = [render(draw_scene(config, "train", number), config.size) for number in range(count)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def generate(
    out: str | Path,
    config: TMDspritesConfig,
    *,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
    command: str = "",
) -> PreparedDataset:
    """Write the data set to folder `out` and open it; the content does not depend on `workers`.

    Raises StoreError if the folder is taken (and not `force`) or the disk refuses.
    """
    counts = {"train": config.count, "test": config.heldout}
    plan = ((split, number) for split, count in counts.items() for number in range(count))

    def make(item: tuple[str, int]) -> tuple[tuple[str, int], Scene, np.ndarray, np.ndarray]:
        scene = draw_scene(config, *item)
        return item, scene, *render(scene, config.size)

    writer = DatasetWriter(
        out,
        name=config.name,
        size=(config.size, config.size),
        settings=asdict(config),
        licence="Generated by this program: no rights of others.",
        command=command,
        expected=config.count + config.heldout,
        force=force,
    )
    with writer, closing(ordered_map(make, plan, workers=workers, group=16)) as made:
        bar = tqdm(made, total=writer.expected, desc=config.name, unit="image", disable=not progress)
        for (split, number), scene, image, mask in bar:
            writer.add(
                image,
                mask,
                id=f"{split}-{number:06d}",
                split=split,
                source="generated",
                shapes=" ".join(sprite.shape for sprite in scene.sprites),
                texture=scene.background.number,
            )
    return writer.dataset
