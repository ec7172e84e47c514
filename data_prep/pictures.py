"""Reading, cropping and resizing images and masks; every fault names its file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.build import Fault
from data_prep.errors import ItemError, one_line

Crop = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""
ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_picture(file: Path, mode: str | None = None) -> Image.Image:
    """Decode a picture whole, turned to PIL mode `mode` ("RGB", "L", ...) unless that is None.

    Raises ItemError if it is missing, truncated, or no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                opened.load()
                return opened.convert(mode) if mode and opened.mode != mode else opened
    except FileNotFoundError as error:
        raise ItemError(f"{file} is missing") from error
    except _UNREADABLE as error:
        raise ItemError(f"{file} is not a whole picture ({one_line(error)})") from error


def square_around(box: tuple[float, float, float, float], size: tuple[int, int], *, half: float) -> Crop:
    """The square around the centre of `box` (x, y, width, height), clipped to an image of (width, height).

    Its half-side is int(half · max(box width, box height)); where it is clipped it is no longer square.
    Raises ItemError (without the file's name) if the box is empty or leads outside the image.
    """
    (x, y, w, h), (width, height) = box, size
    if w < 1 or h < 1:
        raise ItemError(f"the box {box} has no area")
    if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        raise ItemError(f"the box {box} leads outside the image of {width} x {height} pixels")
    centre_x, centre_y, reach = int(x + w / 2), int(y + h / 2), max(1, int(half * max(w, h)))
    left, top = max(0, centre_x - reach), max(0, centre_y - reach)
    return left, top, min(width, centre_x + reach), min(height, centre_y + reach)


def centre_square(size: tuple[int, int]) -> Crop:
    """The largest square in the middle of an image of (width, height)."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def resize_image(image: Image.Image, crop: Crop | None, size: int) -> np.ndarray:
    """Crop an RGB picture and resize it with antialiased bilinear weights: (size, size, 3) uint8."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=crop))


def resize_labels(labels: np.ndarray, crop: Crop | None, size: int) -> np.ndarray:
    """Crop a label map (H,W) uint8 and resize it by nearest neighbour: (size, size) uint8."""
    picture = Image.fromarray(labels)
    return np.asarray(picture.resize((size, size), Image.Resampling.NEAREST, box=crop))


def check_same_size(image: Image.Image, mask: Image.Image, image_file: Path, mask_file: Path) -> None:
    """Raise ItemError unless a mask is as large as its image."""
    if image.size != mask.size:
        raise ItemError(
            f"{mask_file} is {mask.width} x {mask.height} pixels and its image {image_file} "
            f"{image.width} x {image.height}"
        )


def list_pictures(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Pictures below `folder` by relative path, sorted, and those whose name is not UTF-8.

    Hidden files are passed over.
    """
    found, faults = {}, []
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in ENDINGS or file.name.startswith("."):
            continue
        name = file.relative_to(folder).as_posix()
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            faults.append(Fault(ascii(name), f"{folder} has a file whose name is not UTF-8, {name!a}"))
        else:
            found[name] = file
    return found, faults
