"""What a picture in results/figures says of itself: from which rows it was drawn, so that it can be used again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from benchmarks.cells import Row
from benchmarks.rows import file_name
from benchmarks.tables import Entry


def source_of(rows: Iterable[Row]) -> str:
    """The rows that something was drawn of, as one word, in whatever order they come."""
    names = sorted({file_name(row) for row in rows})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def text_of(png: bytes) -> dict[str, str]:
    """What was written into a picture's text; OSError, SyntaxError or ValueError if it is not whole."""
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


def cell_picture(table: str, preset: str, entry: Entry, kind: str) -> str:
    """What the picture of a cell's panels or examples (`kind`: the archive they lie in) is called."""
    what = f"{entry.method}-{entry.variant}-{entry.dataset}-{entry.split}"
    return f"{table}-{preset}-{Path(kind).stem}-{what}.png"


def drawn_before(path: Path, source: str) -> bytes | None:
    """A picture of that very source, drawn where its images or scores lay; None if there is none."""
    try:
        png = path.read_bytes()
        return png if text_of(png).get("Source") == source else None
    except (OSError, SyntaxError, ValueError):  # not there, or no picture
        return None
