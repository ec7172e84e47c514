"""Training images straight from a folder of pictures, which needs neither masks nor preparation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drc.pictures import PictureError, find_sources, open_picture
from drc.prepared import ALL, DataError, TrainingImages


def read_picture_folder(
    folder: Path,
    size: int,
    out: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    refused: Callable[[str], None] = lambda why: None,
) -> TrainingImages:
    """All pictures below a folder but those below `out`, by name, squeezed to (N, size, size, 3) uint8.

    `progress(done, total)` counts them, and `refused` is told why one is left out. DataError if none can be read.
    """
    sources = find_sources([folder], out or folder / ".none", {})
    squares: list[np.ndarray] = []
    for done, source in enumerate(sources, start=1):
        try:
            squares.append(open_picture(source.file, size).square)
        except PictureError as error:
            refused(str(error))
        progress(done, len(sources))
    if not squares:
        raise DataError(
            f"{folder} holds neither a prepared data set nor a picture that can be read; name a folder of pictures, "
            "or one that python -m data_prep has made"
        )
    images = np.stack(squares)
    return TrainingImages("pictures", hashlib.sha256(images.tobytes()).hexdigest(), ALL, images)
