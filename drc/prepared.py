"""The training images of a prepared data set: a folder with images.npy, index.csv and manifest.json."""

from __future__ import annotations

import csv
import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drc.files import DAMAGED

ALL = "all"
VERSION = 1  # of prepared data sets


class DataError(Exception):
    """A prepared data set cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class TrainingImages:
    """What a run is trained on."""

    name: str  # the data set's
    sha256: str  # of images.npy; of the pixels where pictures are read as they are
    split: str
    images: np.ndarray  # (N, H, H, 3) uint8, memory-mapped where the split's rows follow one another

    @property
    def image_size(self) -> int:
        """H, pixels a side."""
        return self.images.shape[1]


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a prepared data set, whole or damaged; another program's manifest.json makes none."""
    if (folder / "images.npy").exists():
        return True
    with suppress(DataError):
        return bool(_read_manifest(folder / "manifest.json"))
    return False


def open_training_images(folder: Path, split: str) -> TrainingImages:
    """The images of one split, or of all; no mask is opened.

    DataError names the file that is missing, wrong or another than its manifest says, or the splits there are.
    """
    manifest = _read_manifest(folder / "manifest.json")
    images, sha256 = _map_images(folder / "images.npy"), manifest["files"]["images.npy"]["sha256"]
    with (folder / "images.npy").open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise DataError(
                f"{file.name} changed since it was written (SHA-256 differs); prepare the data set again"
            )
    splits = _read_splits(folder / "index.csv")
    if len(splits) != len(images):
        raise DataError(
            f"{folder / 'index.csv'} has {len(splits)} rows for {len(images)} images; prepare the data set again"
        )
    if split != ALL:
        rows = np.flatnonzero(splits == split)
        if not len(rows):
            known = ", ".join([*sorted(set(splits)), ALL])
            raise DataError(f"{folder} has no images in the split {split!r}; choose one of {known}")
        images = images[rows[0] : rows[-1] + 1] if rows[-1] - rows[0] + 1 == len(rows) else images[rows]
    return TrainingImages(manifest["name"], sha256, split, images)


def _read_manifest(file: Path) -> dict:
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest.get("format_version", VERSION) != VERSION:
            raise DataError(
                f"{file} has format version {manifest['format_version']!r} and this program reads version {VERSION}: "
                "prepare the data set again, or use the version that wrote it"
            )
        if isinstance(manifest["name"], str) and isinstance(manifest["files"]["images.npy"]["sha256"], str):
            return manifest
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}); name the folder of a prepared data set, such as "
            "python -m data_prep makes"
        ) from error
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        pass  # no JSON, or not of a manifest's shape
    raise DataError(f"{file} is not the manifest of a prepared data set; prepare the data set again")


def _map_images(file: Path) -> np.ndarray:
    try:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); prepare the data set again") from error
    except DAMAGED as error:
        raise DataError(
            f"{file} is not a whole array of plain numbers ({error}); prepare the data set again"
        ) from error
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise DataError(f"{file} does not hold uint8 pixels; prepare the data set again")
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not len(images):
        raise DataError(
            f"{file} holds an array of shape {images.shape}, not square RGB images (N, H, H, 3); "
            "prepare the data set again"
        )
    return images


def _read_splits(file: Path) -> np.ndarray:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return np.array([row["split"] for row in csv.DictReader(lines)], dtype=str)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); prepare the data set again") from error
    except (ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{file} is not a table with a column split; prepare the data set again") from error
