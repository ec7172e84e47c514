"""One prepared data set on disk: written once, opened memory-mapped, verified on demand.

A folder holds `images.npy` (N,H,W,3 uint8), `masks.npy` (N,H,W uint8: 0 background, k the k-th object),
`index.csv` (one line per image: id, split, source and what the source gives) and `manifest.json` (name,
format version, counts, settings, sources, licence, command, and the SHA-256 of the other files).
"""

from __future__ import annotations

from data_prep.reader import (
    MANIFEST,
    SPLITS,
    PreparedDataset,
    StoreError,
    open_dataset,
    sha256_of,
)
from data_prep.target import check_name, check_target
from data_prep.writer import DatasetWriter

__all__ = [
    "MANIFEST",
    "SPLITS",
    "DatasetWriter",
    "PreparedDataset",
    "StoreError",
    "check_name",
    "check_target",
    "open_dataset",
    "sha256_of",
]
