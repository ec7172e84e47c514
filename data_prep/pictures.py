"""Reading, cropping and resizing images and masks; every fault names its file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
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
    with _open(file) as opened:
        return _decode(file, opened, mode)


def _open(file: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file)
    except FileNotFoundError as error:
        raise ItemError(f"{file} is missing") from error
    except _UNREADABLE as error:
        raise ItemError(f"{file} is not a whole picture ({one_line(error)})") from error


def _decode(file: Path, opened: Image.Image, mode: str | None) -> Image.Image:
    try:
        opened.load()
        return opened.convert(mode) if mode and opened.mode != mode else opened
    except _UNREADABLE as error:
        raise ItemError(f"{file} is not a whole picture ({one_line(error)})") from error


def square_around(
    box: tuple[float, float, float, float], size: tuple[int, int], *, half: float, file: Path
) -> Crop:
    """The square around the centre of `box` (x, y, width, height), clipped to an image of (width, height).

    Its half-side is int(half · max(box width, box height)); where it is clipped it is no longer square.
    Raises ItemError naming the image's `file` if the box is empty or leads outside the image.
    """
    (x, y, w, h), (width, height) = box, size
    if w < 1 or h < 1:
        raise ItemError(f"{file}: the box {box} has no area")
    if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        raise ItemError(f"{file}: the box {box} leads outside the image of {width} x {height} pixels")
    centre_x, centre_y, reach = int(x + w / 2), int(y + h / 2), max(1, int(half * max(w, h)))
    left, top = max(0, centre_x - reach), max(0, centre_y - reach)
    return left, top, min(width, centre_x + reach), min(height, centre_y + reach)


def centre_square(size: tuple[int, int]) -> Crop:
    """The largest square in the middle of an image of (width, height)."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def resize_image(image: Image.Image, box: tuple[float, float, float, float] | None, size: int) -> np.ndarray:
    """Crop an RGB picture and resize it with antialiased bilinear weights: (size, size, 3) uint8."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def cut_out(file: Path, find_crop: Callable[[tuple[int, int]], Crop | None], size: int) -> np.ndarray:
    """Decode a picture, crop it to find_crop((width, height)), None being the whole, and resize it.

    A JPEG at least twice as large as the result is decoded at a half, a quarter or an eighth of its size, which
    saves most of the time and changes a pixel by about 1 of 255. Returns (size, size, 3) uint8 RGB.
    Raises ItemError if the picture is missing or damaged, and whatever find_crop raises.
    """
    with _open(file) as opened:
        width, height = opened.size
        left, top, right, bottom = find_crop(opened.size) or (0, 0, width, height)
        scale = min(right - left, bottom - top) / size
        if scale >= 2:
            opened.draft(None, (math.ceil(width / scale), math.ceil(height / scale)))
        image = _decode(file, opened, "RGB")
    across, down = image.width / width, image.height / height
    box = left * across, top * down, min(right * across, image.width), min(bottom * down, image.height)
    return resize_image(image, box, size)


def resize_labels(labels: np.ndarray, crop: Crop | None, size: int) -> np.ndarray:
    """Crop a label map (H,W) uint8 and resize it by nearest neighbour: (size, size) uint8."""
    picture = Image.fromarray(labels)
    return np.asarray(picture.resize((size, size), Image.Resampling.NEAREST, box=crop))


def check_same_size(image: tuple[int, int], mask: tuple[int, int], image_file: Path, mask_file: Path) -> None:
    """Raise ItemError unless a mask is as large as its image; sizes are (width, height)."""
    if image != mask:
        raise ItemError(
            f"{mask_file} is {mask[0]} x {mask[1]} pixels and its image {image_file} {image[0]} x {image[1]}"
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
