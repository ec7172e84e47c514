"""Training images straight from a folder of pictures, which needs neither masks nor preparation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drc.pictures import PictureError, find_sources, open_picture
from drc.prepared import ALL, DataError, TrainingImages

PICTURES = "pictures"
"""What a folder of them is called as a data set: none of the paper's, so it is trained as birds are."""


def read_picture_folder(
    folder: Path,
    size: int,
    out: Path | None,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    refused: Callable[[str], None] = lambda why: None,
) -> TrainingImages:
    """The first pictures below a folder but those below `out`, by name, squeezed to (N, size, size, 3) uint8.

    That is at most `limit` of them, or all. `progress(done, total)` counts them, and `refused` is told why one is left
    out. DataError if none can be read.
    """
    sources = find_sources([folder], out or folder / ".none", {})
    squares: list[np.ndarray] = []
    for source in sources:
        if len(squares) == limit:
            break
        try:
            squares.append(open_picture(source.file, size).square)
        except PictureError as error:
            refused(str(error))
        progress(len(squares), len(sources) if limit is None else min(limit, len(sources)))
    if not squares:
        raise DataError(
            f"{folder} holds neither a prepared data set nor a picture that can be read; name a folder of pictures, "
            "or one that python -m data_prep has made"
        )
    images = np.stack(squares)
    return TrainingImages(PICTURES, hashlib.sha256(images.tobytes()).hexdigest(), ALL, images)
