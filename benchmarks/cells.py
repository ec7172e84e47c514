"""A cell of a table, the settings that identify it, and the row that it yields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.registry import DATASETS, METHODS

ROW_FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One number of a table: which method, trained and scored on what, at which budget."""

    method: str
    variant: str
    train_dataset: str
    """Empty for a method that is not trained."""
    test_dataset: str
    split: str
    preset: str
    seed: int

    def __str__(self) -> str:
        origin = (
            f" (trained on {self.train_dataset})" if self.train_dataset not in ("", self.test_dataset) else ""
        )
        seed = f" seed {self.seed}" if self.train_dataset else ""
        return (
            f"{self.method} {self.variant} on {self.test_dataset} {self.split}{origin}{seed}, {self.preset}"
        )


def make_cell(
    method: str, variant: str, train_dataset: str, test_dataset: str, split: str, preset: str, seed: int
) -> Cell:
    """A cell in its one canonical form: what is not trained has no training set, and seed 0.

    So two tables that print the same number share the cell. Raises KeyError for unknown names.
    """
    assert split in DATASETS[test_dataset].splits, split
    if not METHODS[method].trained:
        train_dataset, seed = "", 0
    return Cell(method, variant, train_dataset, test_dataset, split, preset, seed)


def settings_key(settings: dict[str, Any]) -> str:
    """16 hex digits that depend on the content of the settings and not on their order."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Row:
    """What is known of a finished cell. Scores are fractions; they are printed in percent."""

    table: str
    method: str
    variant: str
    train_dataset: str
    test_dataset: str
    split: str
    preset: str
    seed: int
    protocol: str
    n_images: int
    iou: float
    dice: float
    fg_ari: float | None
    """None where no image has an object."""
    failures: int
    train_seconds: float
    segment_seconds: float
    peak_memory_mb: float
    device: str
    command: str
    commit: str
    versions: dict[str, str]
    data_sha256: str
    train_data_sha256: str
    image_size: int
    train_images: int
    """How many images it was trained on."""
    finished: str
    """UTC, ISO 8601."""
    key: str
    peak_gpu_memory_mb: float | None = None
    format: int = ROW_FORMAT

    @property
    def cell(self) -> Cell:
        """The cell that the row belongs to."""
        return Cell(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Cell)})

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the fields."""
        return dataclasses.asdict(self)


REQUIRED = {
    f.name: f.type for f in dataclasses.fields(Row) if f.default is dataclasses.MISSING and f.name != "fg_ari"
}
TYPES: dict[Any, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "dict[str, str]": (dict,),
}


def read_row(path: Path) -> Row:
    """Read and check a row. Raises BenchmarkError that names the file and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} is not a readable row: {error}") from error
    if not isinstance(content, dict) or content.get("format") != ROW_FORMAT:
        raise BenchmarkError(f"{path} is not a row of format {ROW_FORMAT}")
    names = {f.name for f in dataclasses.fields(Row)}
    if unknown := sorted(set(content) - names):
        raise BenchmarkError(f"{path} has an unknown field: {', '.join(unknown)}")
    for name, kind in REQUIRED.items():
        value = content.get(name)
        if isinstance(value, bool) or not isinstance(value, TYPES[kind]):
            raise BenchmarkError(f"{path}: {name} is {value!r} where {kind} is expected")
    for name in ("iou", "dice"):
        if not 0 <= content[name] <= 1 or math.isnan(content[name]):
            raise BenchmarkError(f"{path}: {name} is {content[name]}, not between 0 and 1")
    if content["n_images"] < 1:
        raise BenchmarkError(f"{path}: n_images is {content['n_images']}, not positive")
    return Row(**{"fg_ari": None, **content})
