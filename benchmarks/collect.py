"""From stored rows to printed cells. Nothing here trains, imports a method or opens a data set."""

from __future__ import annotations

import csv
import json
import logging
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks.cells import Cell, Row, cell_of, read_row
from benchmarks.errors import BenchmarkError
from benchmarks.files import closed, last_line, reason
from benchmarks.provenance import ROOT
from benchmarks.registry import METHODS
from benchmarks.rows import Stored, keep_rows, merge, read_kept, read_replaced
from benchmarks.tables import Entry, Table

log = logging.getLogger(__name__)

PUBLISHED = ROOT / "results" / "published"
Published = dict[tuple[str, ...], tuple[float | None, float | None]]
"""(method, variant or training set, data set, split) -> IoU and Dice in percent."""
Images = Callable[[str, str], str]
"""(data set, budget) -> the hash of what is prepared now; empty where that is not known."""


@dataclass(frozen=True)
class Printed:
    """One printed cell. IoU and Dice in percent; the spread is the standard deviation over seeds."""

    entry: Entry
    preset: str
    status: str
    """measured | published-only | missing"""
    reason: str = ""
    """Why it was not measured, or not for every seed."""
    rows: tuple[Row, ...] = ()
    """One for each seed."""
    published_iou: float | None = None
    published_dice: float | None = None
    failed: str = ""
    """Why it could not be measured anew; what is shown was measured before."""

    @property
    def iou(self) -> float | None:
        """Mean over seeds, in percent."""
        return _mean([row.iou for row in self.rows])

    @property
    def dice(self) -> float | None:
        """Mean over seeds, in percent."""
        return _mean([row.dice for row in self.rows])

    @property
    def iou_std(self) -> float | None:
        """Standard deviation over seeds, in percent; None for fewer than two."""
        return _spread([row.iou for row in self.rows])

    @property
    def dice_std(self) -> float | None:
        """Standard deviation over seeds, in percent; None for fewer than two."""
        return _spread([row.dice for row in self.rows])

    @property
    def train_seconds(self) -> float | None:
        """Mean over seeds."""
        return sum(row.train_seconds for row in self.rows) / len(self.rows) if self.rows else None

    @property
    def seeds(self) -> str:
        """`0 1 2`; 0 where nothing is trained."""
        return " ".join(str(row.seed) for row in self.rows)

    @property
    def matched(self) -> bool:
        """Whether its regions were matched to the truth, so that other strategies score the same masks too."""
        return bool(self.rows) and all(row.alternatives for row in self.rows)

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Ends of the 95 % interval over images, in percent, each the mean over seeds; None if not kept.

        `metric` is iou or dice.
        """
        lows = [getattr(row, f"{metric}_low") for row in self.rows]
        highs = [getattr(row, f"{metric}_high") for row in self.rows]
        if not self.rows or None in lows or None in highs:
            return None
        return 100 * statistics.fmean(lows), 100 * statistics.fmean(highs)


def read_runs(
    runs: Path,
    kept: Path | None = None,
    current: Mapping[Cell, str] | None = None,
    images: Images = lambda name, preset: "",
) -> Stored:
    """Read every row of a runs folder and, if named, of a folder of kept rows; and every kept error.

    Of a cell that has a key in `current` only what has that key counts. What is of other images than its data
    sets have now (`images`) does not; of rows of one cell the later one does. What cannot be used is named in
    a warning, listed in `faults` and left out. New rows are written to the folder of kept rows.
    """
    stored, current = Stored(), current or {}
    own: list[Row] = []
    for folder in cell_folders(runs):
        if why := closed(folder):
            stored.faults.append(why)
        elif (folder / "done").exists():
            try:
                own.append(read_row(folder / "row.json"))
            except BenchmarkError as error:
                stored.faults.append(str(error))
        elif (folder / "error.txt").exists():
            _read_error(folder, stored, current, images)
    theirs: list[Row] = []
    if kept is not None:
        keep_rows(own, read_replaced(runs), kept, runs / "cells")
        theirs, wrong = read_kept(kept)
        stored.faults += wrong
    own, theirs, outdated = _of_these_images(own, theirs, images)
    merge(own, theirs, stored, current)
    stored.outdated = {c: name for c, name in outdated.items() if c not in stored.rows and c not in current}
    stored.faults += _said_of(stored.outdated)
    for fault in stored.faults:
        log.warning("set aside: %s", fault)
    return stored


def cell_folders(runs: Path) -> list[Path]:
    """The cells below a runs folder, none where there is none; BenchmarkError where it cannot be listed."""
    cells = runs / "cells"
    if cells.exists() and (why := closed(cells)):
        raise BenchmarkError(why)
    return sorted(path for path in cells.iterdir() if not path.is_file()) if cells.exists() else []


def read_published(table: Table) -> Published:
    """The paper's figures.

    Raises BenchmarkError if the file is missing or a line of it is not usable.
    """
    path = PUBLISHED / f"table{table.number}.csv"
    found: Published = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                dataset = line.get("test_dataset") or line["dataset"]
                second = line.get("variant") or line.get("train_dataset") or ""
                key = (line["method"], second, dataset, line["split"])
                found[key] = (_number(line["iou"]), _number(line["dice"]))
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(
            f"{path} is missing or damaged ({reason(error)}): restore it with git"
        ) from error
    return found


def seeds_of(table: Table, preset: str, stored: Stored) -> list[int]:
    """The seeds with which any cell of a table was measured under a budget, in order.

    What is not trained has seed 0 and counts only where nothing that is trained was measured.
    """
    there = {cell.seed for cell in stored.rows if cell.preset == preset}
    cells = {entry.cell(preset, seed) for seed in there for entry in table.entries}
    measured = [cell for cell in cells if cell is not None and cell in stored.rows]
    return sorted({cell.seed for cell in measured if cell.train_dataset} or {cell.seed for cell in measured})


def print_cells(
    table: Table, preset: str, seeds: list[int], stored: Stored, why_missing: Callable[[Entry], str]
) -> list[Printed]:
    """Every printed cell of a table, with what was measured for these seeds and what the paper says."""
    published = read_published(table) if any(entry.published for entry in table.entries) else {}
    printed = []
    for planned in table.entries:
        trained = planned.method not in METHODS or METHODS[planned.method].trained
        entry = planned if trained else replace(planned, train_dataset="")
        rows = _rows(entry, preset, seeds, stored)
        iou, dice = published.get(entry.published or (), (None, None))
        if rows:
            lacking = _lacking(entry, preset, seeds, rows)
            which = f"{'seeds' if len(lacking) > 1 else 'seed'} {' '.join(map(str, lacking))}"
            status, why = "measured", f"{which} not measured" if lacking else ""
        else:
            status = "published-only" if iou is not None else "missing"
            why = _kept_reason(entry, preset, seeds, stored) or why_missing(entry)
        failed = next(filter(None, (_failed_since(row, stored) for row in rows)), "")
        printed.append(Printed(entry, preset, status, why, rows, iou, dice, failed))
    return printed


def _failed_since(row: Row, stored: Stored) -> str:
    """Why it could not be measured anew after it was; empty where nobody tried."""
    why, when = stored.failed.get(row.key, ("", 0.0))
    return why if when > datetime.fromisoformat(row.finished).timestamp() else ""


def _rows(entry: Entry, preset: str, seeds: list[int], stored: Stored) -> tuple[Row, ...]:
    cells = {cell: None for seed in seeds if (cell := entry.cell(preset, seed)) is not None}
    return tuple(stored.rows[cell] for cell in cells if cell in stored.rows)


def _lacking(entry: Entry, preset: str, seeds: list[int], rows: tuple[Row, ...]) -> list[int]:
    """Seeds that were asked for and have no row; seed 0 stands for all where nothing is trained."""
    wanted = {cell.seed for seed in seeds if (cell := entry.cell(preset, seed)) is not None}
    return sorted(wanted - {row.seed for row in rows})


def _kept_reason(entry: Entry, preset: str, seeds: list[int], stored: Stored) -> str:
    for seed in seeds:
        cell = entry.cell(preset, seed)
        if cell in stored.errors:
            return f"failed: {stored.errors[cell]}"
        if cell in stored.outdated:
            return f"measured on other images than {stored.outdated[cell]} has now: run it again"
    return ""


def _of_these_images(
    own: list[Row], kept: list[Row], images: Images
) -> tuple[list[Row], list[Row], dict[Cell, str]]:
    """The rows without those of images that are others now; and these ones' cells, each with its data set."""
    outdated: dict[Cell, str] = {}

    def usable(row: Row) -> bool:
        changed = _changed(row.cell, row.data_sha256, row.train_data_sha256, images)
        if changed:
            outdated[row.cell] = changed
        return not changed

    return [row for row in own if usable(row)], [row for row in kept if usable(row)], outdated


def _changed(cell: Cell, sha256: str, train_sha256: str, images: Images) -> str:
    """The data set of a cell that has other images now than those of these hashes; empty if none has."""
    for name, known in ((cell.test_dataset, sha256), (cell.train_dataset, train_sha256)):
        if name and known and images(name, cell.preset) not in ("", known):
            return name
    return ""


def _said_of(outdated: Mapping[Cell, str]) -> list[str]:
    return [
        f"{count} {'figure is' if count == 1 else 'figures are'} of other images than the data set {name} "
        "has now, and left out: run again what is to be shown"
        for name, count in Counter(outdated.values()).items()
    ]


def _read_error(folder: Path, stored: Stored, current: Mapping[Cell, str], images: Images) -> None:
    """Take up a failed cell's error unless it is of other settings or images than the cell has now."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        cell = cell_of(settings)
    except (OSError, ValueError, KeyError, TypeError):
        return
    hashes = settings.get("data_sha256", ""), settings.get("train_data_sha256", "")
    if current.get(cell, folder.name) == folder.name and not _changed(cell, *hashes, images):
        file = folder / "error.txt"
        stored.errors[cell] = f"{last_line(file)} (see {file})"
        stored.failed[folder.name] = stored.errors[cell], file.stat().st_mtime


def _number(text: str) -> float | None:
    return float(text) if text else None


def _mean(values: list[float]) -> float | None:
    return 100 * statistics.fmean(values) if values else None


def _spread(values: list[float]) -> float | None:
    return 100 * statistics.stdev(values) if len(values) > 1 else None
