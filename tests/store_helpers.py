"""What the tests of the store share: a writer of a tiny data set, and what to fill it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.store import DatasetWriter


def fill(writer: DatasetWriter, count: int = 6, size: int = 8) -> None:
    for i in range(count):
        image = np.full((size, size, 3), 10 * i, dtype=np.uint8)
        mask = np.eye(size, dtype=np.uint8) * (i % 3)
        split = "train" if i < count - 2 else "test"
        writer.add(image, mask, id=f"{i:03d}", split=split, source=f"im{i}.png", label=i)


def new_writer(path: Path, **kwargs: object) -> DatasetWriter:
    return DatasetWriter(path, name="toy", size=(8, 8), settings={"seed": 0}, **kwargs)
