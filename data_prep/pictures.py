"""Reading, cropping and resizing images and masks; every fault names its file."""

from __future__ import annotations

import os
import re
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from data_prep.build import Fault
from data_prep.errors import ItemError, one_line

Crop = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""
HALF_SIDE = 0.75
"""Half-side of a square crop as a multiple of the box's longer side, as in the authors' code."""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
MATTE = (255, 255, 255)  # what is seen through transparent pixels, in `drc` as well
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only twice that size is refused
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, NotImplementedError, Image.DecompressionBombError,
    TypeError, LookupError, struct.error,  # of Pillow, where a later page is damaged
)  # fmt: skip
_TURNED = range(2, 9)  # EXIF orientations other than upright


def read_picture(file: Path, mode: str | None = None, *, alone: bool = False) -> Image.Image:
    """Decode a picture whole as it is stored, in PIL mode `mode` ("RGB", "L", ...) unless that is None.

    Of a file with several pictures, such as the pages of a TIFF, it is the first, or with `alone` none.

    16 bits a pixel become 8 from their whole range; RGB is laid over white where it is transparent. Raises ItemError if
    it is missing, truncated, no picture, or where `mode` wants 8 bits, has pixels of 32, whose range nothing tells, or
    of 16 that would all become black.
    """
    try:
        with Image.open(file) as opened:
            # Colours of 16 bits, of which Pillow keeps the upper 8.
            narrowed = not opened.mode.startswith("I") and re.search(r";16[BLNS]", str(opened.tile))
            opened.load()
            if alone and (count := getattr(opened, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {count} pictures; save the one that is meant")
            if narrowed and not np.asarray(opened.convert("RGB")).any() and _has_colours(file):
                raise ValueError("its 16 bits hold no value above 255: save it with 8")
            return _in_mode(opened, mode) if mode else opened
    except FileNotFoundError as error:
        raise ItemError(f"{file} is missing") from error
    except _UNREADABLE as error:
        raise ItemError(f"{file} is not a whole picture ({one_line(error)})") from error


def _has_colours(file: Path) -> bool:
    """Whether any colour is stored, however dark."""
    stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return stored is not None and bool(np.atleast_3d(stored)[..., :3].any())


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        if 0 < values.max() <= 256:  # all of which would be black
            raise ValueError("its 16 bits hold no value above 256: save it with 8, or name labels as such")
        picture = Image.fromarray((values // 257).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, in no known range; save it with 8 or 16")
    if mode == "RGB" and picture.has_transparency_data:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, MATTE), over)
    return picture if picture.mode == mode else picture.convert(mode)


def check_upright(file: Path) -> None:
    """Raise ItemError if a picture's EXIF wants it turned or mirrored: a mask may be drawn for either way."""
    try:
        # Not loaded, for Pillow turns a TIFF then and forgets that it did.
        with Image.open(file) as opened:
            orientation = opened.getexif().get(ExifTags.Base.Orientation)
    except _UNREADABLE as error:
        raise ItemError(f"{file} has damaged EXIF ({one_line(error)}); save it without") from error
    if orientation in _TURNED:
        raise ItemError(
            f"{file} is stored turned (EXIF orientation); save it upright, and its mask or image with it"
        )


def box_around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width and height in pixels of what is not 0 in a mask (H,W); all 0 where nothing is."""
    left, top, width, height = cv2.boundingRect((mask != 0).astype(np.uint8))
    return left, top, width, height


def square_around(box: tuple[float, float, float, float], size: tuple[int, int], *, file: Path) -> Crop:
    """The square around the centre of `box` (x, y, width, height), clipped to an image of (width, height).

    Its half-side is int(HALF_SIDE · max(box width, box height)); where it is clipped it is no longer square.
    The box may pass the image's edges, as one of CUB's does. Raises ItemError naming the image's `file` if it is empty
    or its centre is not inside the image.
    """
    (x, y, w, h), (width, height) = box, size
    if not (w >= 1 and h >= 1):  # so that what is no number does not pass either
        raise ItemError(f"{file}: the box {box} has no area")
    across, down = x + w / 2, y + h / 2
    if not (0 < across < width and 0 < down < height):
        raise ItemError(
            f"{file}: the box {box} leads outside the image of {width} x {height} pixels, its centre included"
        )
    centre_x, centre_y, reach = int(across), int(down), max(1, int(HALF_SIDE * max(w, h)))
    left, top = max(0, centre_x - reach), max(0, centre_y - reach)
    return left, top, min(width, centre_x + reach), min(height, centre_y + reach)


def centre_square(size: tuple[int, int]) -> Crop:
    """The largest square in the middle of an image of (width, height)."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def resize_image(image: Image.Image, crop: Crop | None, size: int) -> np.ndarray:
    """Crop an RGB picture, then resize it with antialiased bilinear weights: (size, size, 3) uint8."""
    inside = image.crop(crop) if crop else image  # resize(box=...) would mix in pixels from around the crop
    return np.asarray(inside.resize((size, size), Image.Resampling.BILINEAR))


def resize_labels(labels: Image.Image, crop: Crop | None, size: int) -> np.ndarray:
    """Crop a label map (mode L) and resize it by nearest neighbour: (size, size) uint8."""
    return np.asarray(labels.resize((size, size), Image.Resampling.NEAREST, box=crop))


def check_same_size(image: tuple[int, int], mask: tuple[int, int], image_file: Path, mask_file: Path) -> None:
    """Raise ItemError unless a mask is as large as its image; sizes are (width, height)."""
    if image != mask:
        raise ItemError(
            f"{mask_file} is {mask[0]} x {mask[1]} pixels and its image {image_file} {image[0]} x {image[1]}"
        )


def list_pictures(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Pictures below `folder` by relative path, sorted, and those whose name is not UTF-8 or that are no files.

    Links to folders are followed, unless they lead back to one that they lie in. Hidden files and folders are passed
    over. Folders that cannot be read are among the faults.
    """
    names: list[str] = []
    closed: list[OSError] = []
    for inside, folders, files in os.walk(folder, followlinks=True, onerror=closed.append):
        place = Path(inside).relative_to(folder).as_posix()
        around = {above.resolve() for above in (Path(inside), *Path(inside).parents)}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (Path(inside) / name).resolve() not in around
        ]
        names += [f"{place}/{file}".removeprefix("./") for file in files if not file.startswith(".")]
    found: dict[str, Path] = {}
    faults = [Fault(str(e.filename), f"{e.filename} cannot be read ({e.strerror})") for e in closed]
    for name in sorted(names):
        if not name.lower().endswith(ENDINGS):
            continue
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            faults.append(Fault(ascii(name), f"{folder} has a file whose name is not UTF-8, {name!a}"))
        else:
            file = folder / name
            if re.search(r"[\0-\x1f\x7f]", name):
                faults.append(
                    Fault(ascii(name), f"{folder} has a file whose name holds a control character, {name!a}")
                )
            elif file.exists() and not file.is_file():  # a pipe, say, that would be waited for
                faults.append(Fault(name, f"{file} is not a regular file"))
            else:
                found[name] = file
    return found, faults
