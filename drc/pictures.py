"""A user's own pictures: finding them, reading any that Pillow can, and refusing the rest by name."""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from drc.files import printable

log = logging.getLogger(__name__)

PREVIEW = 1024  # pixels of the longer side
MATTE = (255, 255, 255)  # what is seen through transparent pixels
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, MemoryError, RuntimeError,
)  # fmt: skip
"""What reading a file raises that is no picture, or not a whole one."""
KINDS = ("masks", "overlays", "panels")  # folders of results
SHEET = "contact-sheet-"  # what those of the results' sheets begin with
AREAS = "areas.csv"  # what folders of results hold
MADE_HERE = (AREAS, "progress.jsonl")  # ... and of trainings
LONGEST = 200  # bytes of one part of a result's name; file systems take 255 with its ending


class PictureError(Exception):
    """A file is no picture that can be read; the message names it and says why."""


class Source(NamedTuple):
    """A file to segment."""

    file: Path
    name: str  # of its results, a path without ending; no two sources share one, however letters are cased


def read_picture(file: Path) -> Image.Image:
    """A picture as RGB, upright: EXIF orientation followed, alpha laid over white, grey of any depth brought to 8 bits.

    Of an animation it is the first frame. PictureError if it is missing, damaged, no picture, or too large to decode.
    """
    try:
        if file.is_dir():
            raise PictureError(
                f"{file}: is a directory; name its pictures, or make it one that can be listed"
            )
        if file.exists() and not file.is_file():  # a pipe, say, that would be waited for
            raise PictureError(f"{file}: is not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as opened:
                opened.load()
                return _to_rgb(_upright(opened))
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise PictureError(f"{file}: has more than {limit} million pixels; make it smaller first") from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{file}: is not a picture that Pillow knows") from error
    except FileNotFoundError as error:
        raise PictureError(f"{file}: there is no such file") from error
    except UNREADABLE as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PictureError(f"{file}: cannot be read as a picture ({why})") from error


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; one that cannot be read is none."""
    try:
        return ImageOps.exif_transpose(picture)
    except UNREADABLE:
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return _grey_to_8_bits(picture).convert("RGB")
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, MATTE), over).convert("RGB")
    return picture.convert("RGB")


def _grey_to_8_bits(picture: Image.Image) -> Image.Image:
    """16 bits from their whole range; 32 bits and floating point, which have none, from the picture's own."""
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite numbers")
    low, high = (0.0, 65535.0) if picture.mode.startswith("I;16") else (values.min(), values.max())
    return Image.fromarray(((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8))


class Picture(NamedTuple):
    """What is kept of a picture while it is segmented."""

    square: np.ndarray  # (S, S, 3) uint8: squeezed to the model's square with antialiased bilinear weights
    size: tuple[int, int]  # its own width and height
    preview: Image.Image  # RGB, small

    @property
    def key(self) -> int:
        """What its chain's noise is keyed by: its content, so that no other picture has a say in its mask."""
        return int.from_bytes(hashlib.sha256(self.square.tobytes()).digest()[:8])


def open_picture(file: Path, size: int, preview: int = PREVIEW) -> Picture:
    """Read a picture for a model of `size` pixels a side; PictureError as in `read_picture`.

    `preview` is the most pixels that a side of its preview has.
    """
    rgb = read_picture(file)
    square = np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR))
    own_size = rgb.size
    rgb.thumbnail((preview, preview))
    return Picture(square, own_size, rgb)


def find_sources(paths: Iterable[Path], out: Path, earlier: Mapping[Path, str]) -> list[Source]:
    """The files to segment: those named, and in folders, however deep, those whose ending is a picture's.

    Links to folders are followed. Hidden files are passed over, and so are folders of trainings and of results in them,
    and `out`; where a folder that is named holds results itself, or is `out`, only these are. A folder that cannot be
    looked into stands for the files in it, to be refused. Names follow the folders; files that would share one keep
    their ending in it, or get a number. `earlier` holds the names of files that have results in `out`, by what they are
    `known_as`: they keep them.
    """
    endings, taken = readable_endings(), {name.casefold() for name in earlier.values()}
    names = dict(earlier)
    sources: dict[Path, Source] = {}
    paths = list(paths)
    for path in paths:
        found = [(path, PurePath(path.name))]
        if os.path.isdir(path):  # noqa: PTH112, which is False and no error for a path that cannot be one
            base = PurePath(real_path(path).name if len(paths) > 1 else "")
            below = _below(path, endings, real_path(out), {real_path(path) for path in paths})
            found = [(file, base / file.relative_to(path)) for file in below]
        for file, place in found:
            real = real_path(file)
            if real not in sources:
                sources[real] = Source(file, names.pop(known_as(file), "") or _free_name(place, taken))
    return list(sources.values())


def real_path(file: Path) -> Path:
    """Where a path leads through its links, as far as they can be followed."""
    return Path(os.path.realpath(file))


def known_as(file: Path) -> Path:
    """What a file that has results is known by: the real path of its absolute one as a table holds it."""
    return real_path(Path(printable(str(file.absolute()))))


def readable_endings() -> set[str]:
    """Lower-case endings, with their dot, of the formats that Pillow reads."""
    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _made_here(folder: Path, named: Container[Path]) -> bool:
    """Whether a folder is one of results or of a training; it is said, for somebody's pictures may lie there too."""
    for name in MADE_HERE:
        if os.path.exists(folder / name):  # noqa: PTH110, as above
            if real_path(folder) not in named:
                log.warning("%s is passed over: it holds %s, as results and trainings do", folder, name)
            return True
    return False


def _below(folder: Path, endings: set[str], out: Path, named: Container[Path]) -> Iterator[Path]:
    closed: list[Path] = []
    met, ours = set(), {out, *(out / kind for kind in KINDS)}
    walk = os.walk(folder, onerror=lambda error: closed.append(Path(error.filename)), followlinks=True)
    for parent, folders, names in walk:
        here = real_path(Path(parent))
        if here in met:  # a link led here
            folders.clear()
            continue
        met.add(here)
        results = here == out or AREAS in names
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and real_path(Path(parent) / name) not in ours
            and not (results and name in KINDS)
            and not _made_here(Path(parent) / name, named)
        )
        passed_over = (".", SHEET) if results else (".",)
        for name in sorted(names):
            if not name.startswith(passed_over) and Path(name).suffix.lower() in endings:
                yield Path(parent) / name
    yield from closed


def _free_name(place: PurePath, taken: set[str]) -> str:
    *folders, last = map(_short, place.parts or ("unnamed",))
    # No folder may have the name of a result.
    folders = [f"{part}_" if part.casefold().endswith(".png") else part for part in folders]
    place = PurePath(*folders, last)
    plain, whole = place.with_suffix("").as_posix(), place.as_posix()
    names = chain((plain, whole), (f"{whole}-{number}" for number in count(2)))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def _short(part: str) -> str:
    """A part of a path in its printable form, of at most LONGEST bytes."""
    return printable(part).encode()[:LONGEST].decode(errors="ignore")
