"""Contact sheets: images with outlined objects, their masks, and how much of an image is foreground."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries
from skimage.util import montage

from data_prep.errors import one_line
from data_prep.store import PreparedDataset, StoreError

PALETTE = np.array(
    [
        (0, 0, 0), (255, 70, 70), (70, 220, 90), (80, 140, 255), (255, 210, 60), (230, 90, 230),
        (70, 220, 220), (255, 150, 60), (160, 110, 255), (180, 230, 80), (240, 160, 190), (150, 150, 150),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""Colour of background and of the k-th object (repeating after the eleventh)."""
MIN_TILE = 96  # pixels a side
COLUMNS = 6  # pairs of image and mask in a row of a sheet


def spread(total: int, wanted: int) -> np.ndarray:
    """At most `wanted` row numbers, evenly spread over 0..total-1."""
    return np.unique(np.linspace(0, total - 1, min(total, wanted)).round().astype(np.int64))


def colour_mask(mask: np.ndarray) -> np.ndarray:
    """Labels (H,W) as colours (H,W,3) uint8."""
    label = np.where(mask == 0, 0, (mask.astype(np.int64) - 1) % (len(PALETTE) - 1) + 1)
    return PALETTE[label]


def tile(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One image with outlined objects and, to its right, its mask; small images are enlarged."""
    factor = max(1, round(MIN_TILE / image.shape[0]))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    edges = find_boundaries(mask, mode="inner")
    image[edges] = colour_mask(mask)[edges]
    return np.concatenate([image, colour_mask(mask)], axis=1)


def contact_sheet(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """All images (N,H,W,3) and masks (N,H,W), both uint8, as one picture (h,w,3) uint8."""
    pairs = [tile(image, mask) for image, mask in zip(images, masks, strict=True)]
    shape = math.ceil(len(pairs) / COLUMNS), min(COLUMNS, len(pairs))
    return montage(pairs, fill=(255, 255, 255), grid_shape=shape, padding_width=4, channel_axis=-1)


def foreground_shares(masks: np.ndarray) -> np.ndarray:
    """Share of labelled pixels of every mask, (N,) float64; reads 1,024 masks at a time."""
    starts = range(0, len(masks), 1024)
    counts = [np.count_nonzero(masks[start : start + 1024], axis=(1, 2)) for start in starts]
    return np.concatenate(counts) / (masks.shape[1] * masks.shape[2])


def check_sheet(file: Path) -> None:
    """Raise StoreError if no contact sheet can be called so."""
    if not file.name or file.is_dir():
        raise StoreError(f"{file} is no file; name it like sheet.png.")
    if file.suffix and file.suffix[1:].lower() not in Figure().canvas.get_supported_filetypes():
        raise StoreError(f"{file} has an ending no picture format uses; name it like sheet.png.")


def write_sheet(file: Path, images: np.ndarray, masks: np.ndarray, shares: np.ndarray, title: str) -> None:
    """Write the contact sheet over a histogram of `shares` as PNG or another format matplotlib knows.

    Raises StoreError if the file, whose name `check_sheet` has passed, cannot be written.
    """
    sheet = contact_sheet(images, masks)
    width = 12.0
    height = width * sheet.shape[0] / sheet.shape[1]
    figure = Figure(figsize=(width, height + 2.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[height, 2.0])
    top.imshow(sheet, interpolation="nearest")
    top.set_axis_off()
    top.set_title(title, parse_math=False)
    bottom.hist(100 * shares, bins=50, range=(0, 100), color="0.4")
    bottom.axvline(100 * shares.mean(), color="tab:red", label=f"mean {100 * shares.mean():.1f} %")
    bottom.set(xlabel="foreground share of an image (%)", ylabel="images", xlim=(0, 100))
    bottom.legend()
    partial = file.with_name(f".{file.stem}.partial-{os.getpid()}{file.suffix or '.png'}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(partial, dpi=max(100, round(sheet.shape[1] / width)))
        partial.replace(file)
    except (OSError, ValueError, RuntimeError) as error:  # the last of LaTeX, which it wants for .pgf
        raise StoreError(f"{file} cannot be written ({one_line(error)}); choose another file.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_preview(dataset: PreparedDataset, file: Path, *, count: int = 48) -> None:
    """Write a contact sheet of `count` images spread over a prepared data set."""
    rows = spread(len(dataset), count)
    title = f"{dataset.name}: {len(rows)} of {len(dataset)} images"
    write_sheet(file, dataset.images[rows], dataset.masks[rows], foreground_shares(dataset.masks), title)
