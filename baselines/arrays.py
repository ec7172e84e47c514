"""What every method asks of the images that it is given."""

from __future__ import annotations

import numpy as np


def check_images(images: np.ndarray, size: int | None = None) -> None:
    """ValueError unless images are (N, H, W, 3) uint8, with N above 0, and of `size` × `size` where that is given."""
    if not isinstance(images, np.ndarray):
        raise ValueError(
            f"the images are a {type(images).__name__}: give a NumPy array of uint8, (N, H, W, 3)"
        )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"the images are {images.dtype} of shape {images.shape}: give uint8 from 0 to 255 of shape (N, H, W, 3)"
        )
    count, height, width, _ = images.shape
    if not count:
        raise ValueError("there are no images: give one or more")
    if size is not None and (height, width) != (size, size):
        raise ValueError(
            f"the images have {height}×{width} pixels and the settings an image_size of {size}: resize them first"
        )
