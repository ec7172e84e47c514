"""What a segmenter found in each image, in a text file that an interrupted run goes on with.

The first line names the format and the annotator's settings; every further line is one image: its id, the SHA-256 of
its file, its size and the instances found, each with category, score, box and mask. A mask is the list of run lengths
of its box in row order, beginning with background. Of two lines of an id the later one counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_prep.errors import SourceError, one_line
from data_prep.pictures import box_around
from data_prep.target import SoleWriter

FORMAT = "drc-annotations"
VERSION = 1
DAMAGED = (ValueError, KeyError, TypeError, OverflowError, MemoryError, RecursionError)
"""What a line that was changed makes of its reading."""


@dataclass(frozen=True)
class Instance:
    """One object a segmenter found."""

    category: str
    """COCO's name, for example dog."""
    score: float
    """0 to 1."""
    mask: np.ndarray
    """(H,W) bool, as large as the image."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height of the mask in pixels; all 0 if the mask is empty."""
        return box_around(self.mask)


def encode(instance: Instance) -> dict[str, Any]:
    """An instance as JSON values."""
    x, y, w, h = instance.box
    inside = np.concatenate([[0], instance.mask[y : y + h, x : x + w].reshape(-1).astype(np.int8), [-1]])
    ends = np.flatnonzero(np.diff(inside)) if w and h else np.array([], dtype=np.int64)
    runs = np.diff(np.concatenate([[0], ends]))
    return {
        "category": instance.category,
        "score": round(float(instance.score), 4),
        "box": [x, y, w, h],
        "runs": runs.tolist(),
    }


def decode(values: dict[str, Any], height: int, width: int) -> Instance:
    """The inverse of `encode` for an image of that size. Raises one of DAMAGED on others."""
    x, y, w, h = values["box"]
    runs = np.array(values["runs"], dtype=np.int64)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros((height, width), dtype=bool)
    if w and h:
        mask[y : y + h, x : x + w] = inside.reshape(h, w)
    return Instance(values["category"], float(values["score"]), mask)


class AnnotationFile:
    """Annotations on disk; use as a context manager.

    Opening reads the ids that are done; a last line that was cut off is dropped. Raises SourceError if the
    file is no annotation file or was made with other settings, StoreError if another process writes it.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self._head = {"format": FORMAT, "version": VERSION, "annotator": settings}
        self._offsets: dict[str, int] = {}
        self._pictures: dict[str, str] = {}
        self._stream: BinaryIO | None = None
        self._sole_writer: SoleWriter | None = None

    def __enter__(self) -> AnnotationFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sole_writer = SoleWriter(self.path)
            self._stream = self.path.open("r+b" if self.path.exists() else "w+b")
            self._index(self._stream)
        except OSError as error:
            self.__exit__()
            raise SourceError(
                f"{self.path} cannot be opened for writing ({one_line(error)}); choose another --annotations."
            ) from error
        except SourceError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._stream is not None:
            with suppress(OSError):  # a line that the disk has refused is tried once more
                self._stream.close()
        if self._sole_writer is not None:
            self._sole_writer.release()
            self._sole_writer = None

    def __contains__(self, id: str) -> bool:
        return id in self._offsets

    def picture(self, id: str) -> str:
        """SHA-256 of the picture that an image's annotation is of; empty where there is none, or it does not say."""
        return self._pictures.get(id, "")

    def append(self, id: str, picture: str, size: tuple[int, int], instances: Sequence[Instance]) -> None:
        """Write one image's annotation; picture: SHA-256 of its file; size: (height, width).

        Raises SourceError if the disk refuses.
        """
        assert self._stream is not None
        found = [encode(instance) for instance in instances]
        line = json.dumps({"id": id, "picture": picture, "size": list(size), "instances": found})
        try:
            offset = self._stream.seek(0, 2)
            self._stream.write(line.encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise SourceError(
                f"{self.path} cannot be written ({one_line(error)}); what is in it stays: free some space "
                "and run the same command again."
            ) from error
        self._offsets[id], self._pictures[id] = offset, picture

    def read(self, id: str) -> tuple[tuple[int, int], list[Instance]]:
        """Size (height, width) of an image that is done, and the instances in it. Raises SourceError."""
        assert self._stream is not None
        self._stream.seek(self._offsets[id])
        try:
            entry = json.loads(self._stream.readline())
            height, width = entry["size"]
            return (height, width), [decode(values, height, width) for values in entry["instances"]]
        except DAMAGED as error:
            raise SourceError(
                f"{self.path}: the annotation of {id} is damaged ({one_line(error)}); "
                "delete its line and run again."
            ) from error

    def _index(self, stream: BinaryIO) -> None:
        """Note where each image's line begins; write the head if the file is new, or its head was cut off."""
        first, head = stream.readline(), json.dumps(self._head).encode() + b"\n"
        if first != head and head.startswith(first):
            stream.seek(0)
            stream.truncate()
            stream.write(head)
            stream.flush()
            return
        self._check_head(first)
        offset = stream.tell()
        for number, line in enumerate(iter(stream.readline, b""), start=2):
            if not line.endswith(b"\n"):
                stream.truncate(offset)
                return
            try:
                entry = json.loads(line)
                self._offsets[entry["id"]] = offset
                self._pictures[entry["id"]] = entry.get("picture", "")
            except (*DAMAGED, AttributeError) as error:
                raise SourceError(
                    f"{self.path} line {number} is damaged; delete it and run again."
                ) from error
            offset += len(line)

    def _check_head(self, line: bytes) -> None:
        try:
            head = json.loads(line)
        except (ValueError, RecursionError):
            head = None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise SourceError(f"{self.path} is not a file of annotations; choose another --annotations.")
        if head != json.loads(json.dumps(self._head)):
            raise SourceError(
                f"{self.path} was made with other settings ({head.get('annotator')}); "
                "use the same ones or choose another --annotations."
            )
