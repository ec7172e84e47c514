"""Writes a prepared data set: into a hidden folder beside the target, renamed when it is complete."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from data_prep.parallel import ordered_map
from data_prep.reader import (
    FORMAT,
    FORMAT_VERSION,
    IMAGES,
    INDEX,
    MANIFEST,
    MASKS,
    MEMBERS,
    SPLITS,
    PreparedDataset,
    StoreError,
    manifest_digest,
    open_dataset,
    sha256_of,
)
from data_prep.target import SoleWriter, check_target

log = logging.getLogger(__name__)
HEADER_BYTES = 128
"""Length of the array headers: fixed, so that the count can be filled in at the end."""


class DatasetWriter:
    """Context manager that takes one image after the other and keeps none of them in memory.

    Leaving the block completes the data set; leaving it through an exception, Ctrl-C included, removes what
    was written, so a half-made data set never stands at `path`. After it, `dataset` is the opened result.
    Inside it, a second writer of the same path is refused.

    path: folder to make; it may exist only if it is empty or, with `force`, if it holds a prepared data set.
    name: the data set's own name, variant included. size: (height, width) in pixels.
    settings, sources, licence, command: recorded in the manifest as given (JSON values).
    expected: number of images to come, if known; too small a disk is then refused at once.
    told: how a reason for leaving an item out is to be told, such as by the archive that the item came from.
    """

    dataset: PreparedDataset

    def __init__(
        self,
        path: str | Path,
        *,
        name: str,
        size: tuple[int, int],
        settings: dict[str, Any],
        sources: dict[str, str] | None = None,
        licence: str = "",
        command: str = "",
        expected: int | None = None,
        force: bool = False,
        told: Callable[[str], str] = str,
    ) -> None:
        self.path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
        self.size = size
        self.expected = expected
        self.force = force
        self.notes: dict[str, Any] = {}
        self.skipped: list[dict[str, str]] = []
        self._told = told
        self._head = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": name,
            "settings": settings,
            "sources": dict(sources or {}),
            "licence": licence,
            "command": command,
        }
        self._partial = self.path.parent / f".{self.path.name}.partial-{os.getpid()}"
        self._sole_writer: SoleWriter | None = None
        self._counts: Counter[str] = Counter()
        self._columns: list[str] = []
        self._attached: list[str] = []
        self._seen: dict[bytes, tuple[str, str]] = {}  # the first image of some pixels: its id and split
        self._twins: list[tuple[str, str, str, str]] = []

    def __enter__(self) -> DatasetWriter:
        check_target(self.path, force=self.force)
        try:
            json.dumps([str(self.path), self._head], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{str(self.path)!a} or a path it is made from is not UTF-8; rename it first."
            ) from error
        try:
            with self._disk_errors():
                self._start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def _start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sole_writer = SoleWriter(self.path)
        check_target(self.path, force=self.force)  # another process may have completed it meanwhile
        self._check_space()
        self._warn_of_leftovers()
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        self._images = self._open(IMAGES)
        self._masks = self._open(MASKS)
        self._index_file = (self._partial / INDEX).open("w", encoding="utf-8", newline="")
        self._index = csv.writer(self._index_file, lineterminator="\n")

    def add(
        self, image: np.ndarray, mask: np.ndarray, *, id: str, split: str, source: str, **extra: Any
    ) -> None:
        """Append one image (H,W,3 uint8 RGB) and its mask (H,W uint8); `extra` become columns of the index.

        Raises ValueError on another shape, type, split or set of columns, and StoreError if the disk refuses.
        """
        height, width = self.size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(f"image {id}: {image.dtype} {image.shape} is not uint8 {(height, width, 3)}")
        if mask.shape != (height, width) or mask.dtype != np.uint8:
            raise ValueError(f"mask {id}: {mask.dtype} {mask.shape} is not uint8 {(height, width)}")
        if split not in SPLITS:
            raise ValueError(f"image {id}: split {split!r} is not one of {', '.join(SPLITS)}")
        row = {"id": id, "split": split, "source": source, **extra}
        with self._disk_errors():
            if not self._columns:
                self._columns = list(row)
                self._index.writerow(self._columns)
            if list(row) != self._columns:
                raise ValueError(
                    f"image {id}: columns {list(row)} differ from the first image's {self._columns}"
                )
            self._images.write(np.ascontiguousarray(image).data)
            self._masks.write(np.ascontiguousarray(mask).data)
            self._index.writerow(row.values())
        self._counts[split] += 1
        pixels = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        first_id, first_split = self._seen.setdefault(pixels, (id, split))
        if first_split != split:
            self._twins.append((id, split, first_id, first_split))

    def skip(self, item: str, reason: str) -> None:
        """Note an item that was left out; the manifest lists it with its reason."""
        self.skipped.append({"item": item, "reason": self._told(reason)})

    def attach(self, member: str, text: str) -> None:
        """Put a text file beside the data, hashed like it. Raises StoreError if the disk refuses."""
        with self._disk_errors():
            (self._partial / member).write_text(text, encoding="utf-8")
        self._attached.append(member)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        self._close()
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._sole_writer is not None:
            self._sole_writer.release()
            self._sole_writer = None

    def _complete(self) -> None:
        if not len(self):
            raise StoreError(f"{self.path}: no image was kept, so nothing was written; check the input.")
        with self._disk_errors():
            self._write_headers()
            for stream in (self._images, self._masks, self._index_file):
                stream.close()  # which may be when the disk refuses
            self._write_manifest()
            self._move_into_place()
        self.dataset = open_dataset(self.path)
        if self._twins:
            log.warning(
                "%s: %d images have the pixels of one in another split, the first %s of %s those of %s of %s: what is "
                "trained on may be scored", self.path, len(self._twins), *self._twins[0],
            )  # fmt: skip

    def _open(self, member: str) -> BinaryIO:
        stream = (self._partial / member).open("wb", buffering=1 << 20)
        stream.write(bytes(HEADER_BYTES))
        return stream

    def _write_headers(self) -> None:
        for stream, shape in (
            (self._images, (len(self), *self.size, 3)),
            (self._masks, (len(self), *self.size)),
        ):
            stream.seek(0)
            stream.write(npy_header(shape))

    def _write_manifest(self) -> None:
        height, width = self.size
        manifest = dict(self._head)
        manifest["shape"] = {"count": len(self), "height": height, "width": width}
        manifest["counts"] = {split: self._counts[split] for split in SPLITS if self._counts[split]}
        manifest["skipped"] = self.skipped
        manifest["notes"] = self.notes
        members = (*MEMBERS, *self._attached)
        files = [self._partial / member for member in members]
        digests = ordered_map(sha256_of, files)
        manifest["files"] = {
            member: {"bytes": file.stat().st_size, "sha256": digest}
            for member, file, digest in zip(members, files, digests, strict=True)
        }
        manifest["manifest_sha256"] = manifest_digest(manifest)
        text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
        (self._partial / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def _move_into_place(self) -> None:
        check_target(self.path, force=self.force)
        old = self._partial.with_name(self._partial.name + "-old")
        if self.path.exists():
            self.path.replace(old)
        try:
            self._partial.replace(self.path)
        except BaseException:  # an interrupt too: the standing data set comes back
            if old.exists() and not self.path.exists():
                old.replace(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _close(self) -> None:
        for name in ("_images", "_masks", "_index_file"):
            stream = getattr(self, name, None)
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    log.debug("%s could not be flushed", name)

    def _check_space(self) -> None:
        if self.expected is None:
            return
        needed = self.expected * self.size[0] * self.size[1] * 4
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise StoreError(
                f"{self.path} needs {needed / 1e9:.2f} GB and only {free / 1e9:.2f} GB are free; "
                "free some space or choose another --out."
            )

    def _warn_of_leftovers(self) -> None:
        for folder in self.path.parent.glob(f".{glob.escape(self.path.name)}.partial-*"):
            if folder.name.endswith("-old"):
                log.warning("%s is the data set that an interrupted run was replacing; move it back", folder)
            else:
                log.warning("%s was left by an interrupted run; delete it if that run is over", folder)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f"{self.path}: no space left on the disk; free some space or choose another --out."
            else:
                message = f"{self.path} cannot be written ({error.strerror or error}); choose another --out."
            raise StoreError(message) from error


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a C-ordered uint8 .npy file (format 1.0), padded to HEADER_BYTES."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (HEADER_BYTES - 10).to_bytes(2, "little")
        + f"{text:<{HEADER_BYTES - 11}}\n".encode()
    )
