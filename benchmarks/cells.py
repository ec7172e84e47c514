"""A cell of a table, the settings that identify it, and the row that it yields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import NoneType
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.files import reason
from benchmarks.registry import DATASETS, METHODS

ROW_FORMAT = 2


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
    iou_low: float | None
    """The ends of the bootstrap 95 % interval over images; None where they were not kept."""
    iou_high: float | None
    dice_low: float | None
    dice_high: float | None
    alternatives: dict[str, dict[str, float]]
    """Strategy -> iou and dice of the same masks by each other strategy that makes sense for the method."""
    failures: int
    restarts: int
    """How often the training collapsed and was started anew."""
    train_seconds: float
    train_steps: int | None
    """None where it was not kept."""
    segment_seconds: float
    """With those of earlier, interrupted runs, where the method went on from what they had inferred."""
    peak_memory_mb: float
    """In MiB, as that of the GPU."""
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
    source: str = ""
    """Whose row it is, where it was imported."""
    data_name: str = ""
    """What the prepared data set calls itself, such as dogs-remade; empty where it was not kept."""
    format: int = ROW_FORMAT

    @property
    def cell(self) -> Cell:
        """The cell that the row belongs to."""
        return Cell(
            self.method,
            self.variant,
            self.train_dataset,
            self.test_dataset,
            self.split,
            self.preset,
            self.seed,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the fields."""
        return {name: getattr(self, name) for name in FIELDS}


FIELDS = {f.name: str(f.type) for f in dataclasses.fields(Row)}
REQUIRED = {f.name for f in dataclasses.fields(Row) if f.default is dataclasses.MISSING}
KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, NoneType),
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "dict[str, str]": (dict,),
    "dict[str, dict[str, float]]": (dict,),
}
LARGEST = 1e15
"""No figure of a row is beyond it."""
SHARES = ("iou", "dice", "iou_low", "iou_high", "dice_low", "dice_high")
NOT_NEGATIVE = (
    "seed",
    "failures",
    "restarts",
    "train_seconds",
    "train_steps",
    "segment_seconds",
    "train_images",
    "peak_memory_mb",
)
ROUNDING = 1e-6
"""By so much scores of one row may contradict one another."""


def read_row(path: Path) -> Row:
    """Read and check a row. Raises BenchmarkError that names the file and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} is not a readable row: {reason(error)}") from error
    return parse_row(text, str(path))


def cell_of(content: dict[str, Any]) -> Cell:
    """The cell that a row or the settings of one are of; KeyError or TypeError where they name none."""
    values = {field.name: content[field.name] for field in dataclasses.fields(Cell)}
    for name, value in values.items():
        if type(value) is not (int if name == "seed" else str):
            raise TypeError(f"{name} is {value!r}")
    return Cell(**values)


def parse_row(text: str, place: str) -> Row:
    """Check a row given as JSON. Raises BenchmarkError that names its place and what is wrong with it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{place} is not a readable row: {error}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise BenchmarkError(
            f"{place} is not a row, as the files of RESULTS/rows hold them: it says no format"
        )
    if content["format"] != ROW_FORMAT:
        raise BenchmarkError(
            f"{place} is a row of format {content['format']!r} and this program reads format {ROW_FORMAT}: "
            "measure it again, or use the version that wrote it"
        )
    if unknown := sorted(set(content) - set(FIELDS)):
        raise BenchmarkError(f"{place} has an unknown field: {', '.join(unknown)}")
    if missing := sorted(REQUIRED - set(content)):
        raise BenchmarkError(f"{place} lacks {', '.join(missing)}")
    for check in (_check_kinds, _check_scores, _check_facts):
        check(content, place)
    return Row(**content)


def _check_kinds(content: dict[str, Any], place: str) -> None:
    for name, value in content.items():
        said = json.dumps(value, ensure_ascii=False)
        if said.encode(errors="ignore").decode() != said:
            raise BenchmarkError(f"{place}: {name} is {value!a}, which has characters that no table can hold")
        if isinstance(value, bool) or not isinstance(value, KINDS[FIELDS[name]]):
            raise BenchmarkError(f"{place}: {name} is {value!r} where {FIELDS[name]} is expected")
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise BenchmarkError(f"{place}: {name} is no number up to {LARGEST:.0e}")
    if not all(isinstance(version, str) for version in content["versions"].values()):
        raise BenchmarkError(f"{place}: versions is {content['versions']!r}, of which not all are words")


def _check_scores(content: dict[str, Any], place: str) -> None:
    scores = {name: content[name] for name in SHARES}
    for strategy, values in content["alternatives"].items():
        if not isinstance(values, dict) or set(values) != {"iou", "dice"}:
            raise BenchmarkError(f"{place}: alternatives lacks iou or dice of {strategy}")
        scores |= {f"{name} by {strategy}": value for name, value in values.items()}
    for name, value in scores.items():
        if value is not None and (not isinstance(value, int | float) or not 0 <= value <= 1):
            raise BenchmarkError(f"{place}: {name} is {value!r}, not between 0 and 1")
    iou, dice, ari = content["iou"], content["dice"], content["fg_ari"]
    if ari is not None and not -1 <= ari <= 1:
        raise BenchmarkError(f"{place}: fg_ari is {ari}, not between -1 and 1")
    if dice < iou - ROUNDING:
        raise BenchmarkError(f"{place}: dice is {dice} and iou {iou}; no masks have a Dice below their IoU")
    for name in ("iou", "dice"):
        low, high = content[f"{name}_low"], content[f"{name}_high"]
        if (low is None) != (high is None):
            raise BenchmarkError(f"{place}: {name}_low or {name}_high is missing; an interval has two ends")
        if low is not None and not low - ROUNDING <= content[name] <= high + ROUNDING:
            raise BenchmarkError(f"{place}: {name} is {content[name]}, outside its interval {low} to {high}")


def _check_facts(content: dict[str, Any], place: str) -> None:
    for name in NOT_NEGATIVE:
        if content[name] is not None and content[name] < 0:
            raise BenchmarkError(f"{place}: {name} is {content[name]}, below 0")
    if content["image_size"] < 1:
        raise BenchmarkError(f"{place}: image_size is {content['image_size']}, below 1")
    if not 0 <= content["failures"] <= content["n_images"] or content["n_images"] < 1:
        raise BenchmarkError(
            f"{place}: n_images is {content['n_images']} with {content['failures']} failures, which cannot be"
        )
    if not content["method"] or not content["key"].isalnum():
        raise BenchmarkError(f"{place}: method or key is empty or no name")
    try:
        utc = datetime.fromisoformat(content["finished"]).utcoffset() == timedelta(0)
    except ValueError:
        utc = False
    if not utc:
        raise BenchmarkError(
            f"{place}: finished is {content['finished']!r}, no time in UTC such as 2026-01-31T12:00:00+00:00"
        )
