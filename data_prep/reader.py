"""Opens and verifies a prepared data set; see data_prep.store for what one is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import NO_ARRAY, DataPrepError, one_line

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "drc-prepared-dataset"
FORMAT_VERSION = 1
IMAGES, MASKS, INDEX, MANIFEST = "images.npy", "masks.npy", "index.csv", "manifest.json"
MEMBERS = (IMAGES, MASKS, INDEX)
SPLITS = ("train", "val", "test")
REMEDY = "prepare the data set again"


class StoreError(DataPrepError):
    """A prepared data set is missing, damaged, of another format, or cannot be written."""


@dataclass(frozen=True)
class PreparedDataset:
    """A data set as `open_dataset` finds it; the arrays stay on disk until they are indexed."""

    path: Path
    manifest: dict[str, Any]
    images: np.ndarray
    """(N,H,W,3) uint8, RGB, memory-mapped."""
    masks: np.ndarray
    """(N,H,W) uint8, memory-mapped: 0 background, k the k-th object."""

    @property
    def name(self) -> str:
        """The data set's name, variant included, for example `tm-dsprites-grey`."""
        return self.manifest["name"]

    @property
    def sha256(self) -> str:
        """Hex digest that identifies the content (images, masks and index together)."""
        return content_digest(self.manifest)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per image, with at least the text columns id, split and source; read on first use.

        Raises StoreError if the file cannot be read or does not describe every image.
        """
        import pandas as pd  # here, so that commands which read no index start fast

        file = self.path / INDEX
        try:
            table = pd.read_csv(
                file, dtype={"id": str, "split": str, "source": str}, keep_default_na=False, na_values=[""]
            )
        except OSError as error:
            raise _unreadable(file, error) from error
        except ValueError as error:
            raise StoreError(f"{file} cannot be read as CSV ({one_line(error)}); {REMEDY}.") from error
        missing = [column for column in ("id", "split", "source") if column not in table]
        if missing:
            raise StoreError(f"{file} has no column {', '.join(missing)}; {REMEDY}.")
        if len(table) != len(self):
            raise StoreError(f"{file} has {len(table)} rows for {len(self)} images; {REMEDY}.")
        return table

    def rows(self, split: str | None = None, limit: int | None = None) -> np.ndarray:
        """Row numbers (int64, ascending) of one split or of all; `limit` keeps the first ones.

        Raises StoreError if the data set has no image of that split.
        """
        if split is None:
            found = np.arange(len(self), dtype=np.int64)
        else:
            found = np.flatnonzero(self.index["split"].to_numpy() == split).astype(np.int64)
            if not len(found):
                present = ", ".join(sorted(self.index["split"].unique()))
                raise StoreError(f"{self.path} has no split {split!r}; it has {present}.")
        return found if limit is None else found[:limit]

    def verify(self) -> None:
        """Read every file again and compare its SHA-256 with the manifest's.

        Raises StoreError naming the files that differ.
        """
        if self.manifest.get("manifest_sha256") != manifest_digest(self.manifest):
            raise StoreError(f"{self.path / MANIFEST} was changed after it was written; {REMEDY}.")
        damaged = [
            member
            for member, entry in self.manifest["files"].items()
            if sha256_of(self.path / Path(member).name) != entry["sha256"]
        ]
        if damaged:
            names = " and ".join(damaged)
            raise StoreError(
                f"{self.path}: {names} changed since it was written (SHA-256 differs); {REMEDY}."
            )
        _ = self.index


def open_dataset(path: str | Path, *, verify: bool = False) -> PreparedDataset:
    """Open the prepared data set in folder `path`; cheap at any size, as nothing but headers is read.

    `verify` also reads everything and checks the hashes. Raises StoreError if a member is missing, truncated,
    of another shape or type than the manifest says, or holds Python objects.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for member in MEMBERS:
        _check_length(path / member, manifest)
    count, height, width = (manifest["shape"][key] for key in ("count", "height", "width"))
    images = _map_array(path / IMAGES, (count, height, width, 3))
    masks = _map_array(path / MASKS, (count, height, width))
    dataset = PreparedDataset(path, manifest, images, masks)
    if verify:
        dataset.verify()
    return dataset


def _unreadable(file: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{file} cannot be read ({one_line(error)}); mend its permissions or the disk, or {REMEDY}."
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """What the manifest of the prepared data set in folder `path` says; no other file is opened.

    Raises StoreError if it is missing, damaged or of another format.
    """
    file = path / MANIFEST
    try:
        if not path.is_dir():
            raise StoreError(
                f"{path} is not a folder; prepare the data set there first (python -m data_prep --help)."
            )
        if not file.is_file():
            raise StoreError(
                f"{path} has no {MANIFEST}, so it is not a prepared data set; check the folder's name."
            )
    except PermissionError as error:
        raise _unreadable(file, error) from error
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not readable JSON ({one_line(error)}); {REMEDY}.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{file} is not the manifest of a prepared data set; check the folder's name.")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{file} has format version {manifest.get('format_version')!r} and this program reads version "
            f"{FORMAT_VERSION}; {REMEDY}, or use the program that wrote it."
        )
    _check_manifest_fields(file, manifest)
    return manifest


def _check_manifest_fields(file: Path, manifest: dict[str, Any]) -> None:
    shape, files = manifest.get("shape"), manifest.get("files")
    sound = (
        isinstance(manifest.get("name"), str)
        and isinstance(shape, dict)
        and all(isinstance(shape.get(key), int) for key in ("count", "height", "width"))
        and isinstance(manifest.get("counts"), dict)
        and all(isinstance(count, int) for count in manifest["counts"].values())
        and len(manifest["counts"]) > 0
        and all(isinstance(manifest.get(key), dict) for key in ("settings", "sources", "notes"))
        and isinstance(manifest.get("skipped"), list)
        and all(isinstance(item, dict) and {"item", "reason"} <= {*item} for item in manifest["skipped"])
        and all(isinstance(manifest.get(key), str) for key in ("licence", "command"))
        and isinstance(files, dict)
        and all(isinstance(files.get(member), dict) for member in MEMBERS)
        and all(isinstance(files[member].get("bytes"), int) for member in MEMBERS)
        and all(isinstance(files[member].get("sha256"), str) for member in MEMBERS)
    )
    if not sound:
        raise StoreError(
            f"{file} lacks the name, the shape, the counts or another part of a manifest; {REMEDY}."
        )


def _check_length(file: Path, manifest: dict[str, Any]) -> None:
    try:
        length = file.stat().st_size
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing; {REMEDY}.") from error
    except OSError as error:
        raise _unreadable(file, error) from error
    expected = manifest["files"][file.name]["bytes"]
    if length != expected:
        what = "truncated" if length < expected else "too long"
        raise StoreError(f"{file} is {what}: {length} bytes where the manifest says {expected}; {REMEDY}.")


def _map_array(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise _unreadable(file, error) from error
    except NO_ARRAY as error:
        raise StoreError(f"{file} is not a plain NumPy array ({one_line(error)}); {REMEDY}.") from error
    if not isinstance(array, np.ndarray):
        raise StoreError(f"{file} is an archive and not a NumPy array; {REMEDY}.")
    if array.dtype != np.uint8:
        raise StoreError(f"{file} holds {array.dtype} values where uint8 is expected; {REMEDY}.")
    if array.shape != shape:
        raise StoreError(f"{file} has shape {array.shape} where the manifest says {shape}; {REMEDY}.")
    return np.asarray(array)


def sha256_of(file: Path) -> str:
    """Hex SHA-256 of a file, read in pieces. Raises StoreError if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def content_digest(manifest: dict[str, Any]) -> str:
    """Hex SHA-256 over the digests of the three data files, in their fixed order."""
    return _digest_lines(f"{member} {manifest['files'][member]['sha256']}" for member in MEMBERS)


def manifest_digest(manifest: dict[str, Any]) -> str:
    """Hex SHA-256 of everything a manifest says except this digest itself."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return _digest_lines([json.dumps(rest, sort_keys=True)])


def _digest_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
