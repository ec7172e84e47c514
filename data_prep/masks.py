"""A mask as anybody draws it, read as labels: grey, alpha, label values or colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import ItemError
from data_prep.pictures import read_picture

if TYPE_CHECKING:
    from data_prep.folder import FolderConfig

MASK_KINDS = {
    "grey": "brighter than the threshold is foreground",
    "alpha": "more opaque than the threshold is foreground",
    "labels": "0 is background, every other grey value or palette number an object",
    "colours": "black or transparent is background, every other colour an object",
}
COLOURED = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")
"""Modes of pictures that may have colours, and that Pillow turns into RGB."""
TINT = 32
"""A grey pixel's red, green and blue differ by at most so much, as JPEG keeps them."""


def read_values(file: Path, config: FolderConfig) -> np.ndarray:
    """What a mask of that kind tells objects by, (H,W): grey, alpha, labels, or 0xRRGGBB with 0 where transparent.

    Raises ItemError if it is of another kind.
    """
    picture = read_picture(file, alone=True)
    if config.mask_kind in ("grey", "alpha") and picture.has_transparency_data:
        picture = picture.convert("RGBA")
    if config.mask_kind == "grey":
        if "A" in picture.getbands() and len(set(picture.getchannel("A").getextrema())) > 1:
            raise ItemError(
                f"{file} is transparent in places; use --mask-kind alpha, or save it without alpha"
            )
        if picture.mode == "L":
            return np.asarray(picture)
        if picture.mode in COLOURED and np.ptp(np.asarray(picture.convert("RGB")), axis=2).max() > TINT:
            raise ItemError(f"{file} has colours; use --mask-kind colours or labels, or save it in grey")
        return np.asarray(read_picture(file, "L"))
    if config.mask_kind == "alpha":
        if "A" not in picture.getbands():
            raise ItemError(f"{file} has no alpha channel (its mode is {picture.mode})")
        return np.asarray(picture.getchannel("A"))
    if picture.format == "JPEG":
        raise ItemError(f"{file} is a JPEG, which holds no exact {config.mask_kind}; save masks as PNG")
    if config.mask_kind == "colours":
        if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
            raise ItemError(f"{file} has no colours (its mode is {picture.mode}); use --mask-kind labels")
        red, green, blue, alpha = np.moveaxis(np.asarray(picture.convert("RGBA")).astype(np.uint32), -1, 0)
        return np.where(alpha > 0, (red << 16) | (green << 8) | blue, 0)
    values = np.asarray(picture)
    if values.ndim != 2:
        raise ItemError(f"{file} has colours (mode {picture.mode}) where labels are expected")
    return values


def read_labels(file: Path, config: FolderConfig) -> np.ndarray:
    """A mask as labels (H,W) uint8: 0 background, objects numbered from 1. Raises ItemError."""
    values = read_values(file, config)
    if config.mask_kind in ("grey", "alpha"):
        return _binary(file, values, config)
    if config.foreground:
        values = np.where(np.isin(values, config.foreground), values, 0)
    return _numbered(file, values)


def _binary(file: Path, values: np.ndarray, config: FolderConfig) -> np.ndarray:
    if 0 < values.max() <= config.threshold:
        raise ItemError(
            f"{file} has no value above the threshold {config.threshold}, its largest is {values.max()}; "
            "lower --threshold, or use --mask-kind labels if 1 stands for the foreground"
        )
    return ((values > config.threshold) != config.invert).astype(np.uint8)


def _numbered(file: Path, values: np.ndarray) -> np.ndarray:
    """Values with 0 as background, renumbered 1, 2, ... in ascending order."""
    if values.dtype.kind not in "biu" or values.min() < 0:
        raise ItemError(f"{file} has labels that are not whole numbers from 0")
    flat = values.reshape(-1).astype(np.int64)
    found = np.flatnonzero(np.bincount(flat)) if flat.max() < 2**16 else np.unique(flat)
    found = found[found != 0]
    if len(found) > 255:
        raise ItemError(f"{file} has {len(found)} labels and at most 255 objects can be told apart")
    labels = np.zeros(values.shape, dtype=np.uint8)
    for number, value in enumerate(found, start=1):
        labels[values == value] = number
    return labels


def what_they_hold(masks: Iterable[Path], config: FolderConfig) -> str:
    """The five most common values of masks, and the options that say which are foreground."""
    found: Counter[int] = Counter()
    for mask in masks:
        with suppress(ItemError):
            values, counts = np.unique(read_values(mask, config), return_counts=True)
            found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    shown = "#{:06x}" if config.mask_kind == "colours" else "{:.0f}"
    common = ", ".join(shown.format(value) for value, _ in found.most_common(5))
    options = {"labels": "--foreground", "colours": "--mask-kind"}
    how = options.get(config.mask_kind, "--mask-kind, --threshold or --invert")
    return (
        f"{common}: say which are foreground with {how}, or keep more of small objects with --size and --crop"
    )
