"""Figure 3's rows of pictures: input, reconstruction, foreground, background, true mask, inferred mask."""

from __future__ import annotations

import base64
import io
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from benchmarks.errors import BenchmarkError
from benchmarks.files import write_atomic
from data_prep.errors import NO_ARRAY

log = logging.getLogger(__name__)

ROWS = {
    "input": "input",
    "reconstruction": "reconstruction",
    "foreground": "foreground",
    "background": "background",
    "true_mask": "true mask",
    "inferred_mask": "inferred mask",
}
"""The paper's order, top to bottom, and how each row is called."""

PAINTED = ("reconstruction", "foreground", "background")
"""The rows that a method may paint itself."""
PANELS, EXAMPLES = "panels.npz", "examples.npz"
"""What a cell keeps: its first images with all rows, and its worst, median and best ones."""
Panels = dict[str, np.ndarray]
"""Name (a key of ROWS) -> (N, H, W, 3) uint8."""

TILE, GAP, MARGIN, TOP = 112, 6, 124, 30  # pixels


@dataclass(frozen=True)
class Picture:
    """An image of the report."""

    title: str
    about: str
    uri: str
    width: int
    height: int


def make_panels(images: np.ndarray, generated: Panels, truth: np.ndarray, foreground: np.ndarray) -> Panels:
    """All rows of a picture; what the method does not generate is left out.

    images (N, H, W, 3) uint8; truth and foreground (N, H, W) bool. A method without a picture of the
    foreground gets the image cut out by its mask. Raises ValueError for a picture of another name, kind or size.
    """
    for name, picture in generated.items():
        if name not in PAINTED:
            raise ValueError(f"panels gave {name!r}, which is none of {', '.join(PAINTED)}")
        kind = getattr(picture, "dtype", type(picture).__name__)
        if kind != np.uint8 or picture.shape != images.shape:
            shape = getattr(picture, "shape", "")
            raise ValueError(f"panels gave {name} as {kind} {shape} where uint8 {images.shape} is expected")
    cut = np.where(foreground[..., None], images, np.uint8(0))
    panels = {"input": images, "foreground": cut, **generated}
    panels |= {"true_mask": _as_picture(truth), "inferred_mask": _as_picture(foreground)}
    return {name: panels[name] for name in ROWS if name in panels}


def extremes(values: np.ndarray, each: int) -> np.ndarray:
    """Places of the lowest, the middle and the highest of values (N,), `each` of them, or fewer where N is small."""
    order = np.argsort(values, kind="stable")
    each = min(each, len(order) // 3)
    middle = (len(order) - each) // 2
    return np.concatenate([order[:each], order[middle : middle + each], order[len(order) - each :]])


def save_panels(path: Path, panels: Panels) -> None:
    """Write panels as a compressed .npz, atomically."""
    buffer = io.BytesIO()
    members: dict[str, Any] = dict(panels)
    np.savez_compressed(buffer, **members)
    write_atomic(path, buffer.getvalue())


def load_panels(path: Path) -> Panels:
    """Read what save_panels wrote. Raises BenchmarkError if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ROWS if name in archive}
    except (OSError, RuntimeError, zlib.error, *NO_ARRAY) as error:
        raise BenchmarkError(f"{path} is not a readable picture archive: {error}") from error


def panels_of(cell: Path | None, name: str) -> Panels | None:
    """What `save_panels` left in a cell; None where there is none, or it is damaged, which a log tells."""
    if cell is None or not (cell / name).exists():
        return None
    try:
        return load_panels(cell / name)
    except BenchmarkError as error:
        log.warning("not drawn anew: %s", error)
        return None


def draw_panels(blocks: dict[str, Panels], said: Mapping[str, str] | None = None) -> bytes:
    """Blocks of panels (title -> panels) side by side, rows labelled on the left, as PNG; `said` goes into its text."""
    names = [n for n in ROWS if any(n in panels for panels in blocks.values())]
    columns = [len(panels["input"]) for panels in blocks.values()]
    step = TILE + GAP
    width = MARGIN + sum(n * step + 2 * GAP for n in columns)
    canvas = Image.new("RGB", (width, TOP + len(names) * step + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for r, name in enumerate(names):
        place = (MARGIN - 2 * GAP, TOP + r * step + TILE // 2)
        draw.text(place, ROWS[name], fill="black", font=_font(14), anchor="rm")
    x = MARGIN
    for (title, panels), count in zip(blocks.items(), columns, strict=True):
        _write_title(draw, title, x, count * step - GAP)
        for r, name in enumerate(names):
            for c, picture in enumerate(panels.get(name, ())):
                left, above = x + c * step, TOP + r * step
                canvas.paste(_tile(picture), (left, above))
                draw.rectangle((left - 1, above - 1, left + TILE, above + TILE), outline="#b0b0b0")
        x += count * step + 2 * GAP
    return _as_png(canvas, said or {})


def beside(pictures: Mapping[str, bytes]) -> bytes:
    """Pictures of one block each, as draw_panels makes them, as one picture; each has a new title, its key."""
    drawn = [Image.open(io.BytesIO(png)).convert("RGB") for png in pictures.values()]
    tallest = max(drawn, key=lambda image: image.height)
    width = MARGIN + sum(image.width - MARGIN for image in drawn)
    canvas = Image.new("RGB", (width, tallest.height), "white")
    canvas.paste(tallest.crop((0, TOP, MARGIN - GAP, tallest.height)), (0, TOP))  # what the rows are called
    draw, x = ImageDraw.Draw(canvas), MARGIN
    for title, image in zip(pictures, drawn, strict=True):
        block = image.crop((MARGIN - GAP, TOP - GAP, image.width - GAP, image.height))
        canvas.paste(block, (x - GAP, TOP - GAP))
        _write_title(draw, title, x, image.width - MARGIN - 3 * GAP)
        x += image.width - MARGIN
    return _as_png(canvas, {})


def embedded(title: str, about: str, png: bytes) -> Picture:
    """A picture inside the report, in a palette, which halves its size."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
        buffer = io.BytesIO()
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(title, about, uri, width, height)


def as_pdf(png: bytes) -> bytes:
    """A page that holds the picture, the same bytes each time."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(buffer, "PDF", resolution=150, creationDate=None, modDate=None)
    return buffer.getvalue()


def _write_title(draw: ImageDraw.ImageDraw, title: str, x: int, width: int) -> None:
    """Over the middle of a block of that width, which begins at x: smaller and in several lines where it is longer."""
    for size, most in ((15, 1), (11, 2), (7, 3)):
        lines = _wrapped(draw, title, _font(size), width)
        if len(lines) <= most:
            break
    middle = (x + width // 2, TOP // 2 if len(lines) == 1 else (TOP - GAP) // 2)
    text = "\n".join(lines)
    draw.text(middle, text, fill="black", font=_font(size), anchor="mm", align="center", spacing=1)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> list[str]:
    """The words in lines of at most `width` pixels, or of one word."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _as_png(canvas: Image.Image, said: Mapping[str, str]) -> bytes:
    buffer, text = io.BytesIO(), PngInfo()
    for key, value in said.items():
        text.add_itxt(key, value)
    canvas.save(buffer, "PNG", optimize=True, pnginfo=text)
    return buffer.getvalue()


def _tile(picture: np.ndarray) -> Image.Image:
    """One picture at the tile's size; small ones keep their pixels visible."""
    small = picture.shape[0] < TILE
    size = (TILE, TILE)
    return Image.fromarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if small else cv2.INTER_AREA)
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _as_picture(mask: np.ndarray) -> np.ndarray:
    """(N, H, W) bool -> (N, H, W, 3) uint8, white on black."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)
