"""Rows as memory: a small file for each row under results/rows, made to be committed, merged and imported.

A file is named by the row's key and by a digest of its content, so that two machines never write different
content under one name, and the same row arriving twice is one file. Beside it, of the same name, lie the scores
of its single images, without which two methods could not be compared image by image.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from benchmarks.cells import Cell, Row, parse_row, read_row
from benchmarks.errors import BenchmarkError
from benchmarks.files import named, reason, usable_folder, write_atomic, writing
from benchmarks.registry import DATASETS, METHODS, PRESETS

KEPT = "results/rows"
"""The source of a row that was kept and is neither imported nor of this runs folder."""
log = logging.getLogger(__name__)
SCORES = "scores.csv"
"""What a cell calls the scores of its images: id, iou, dice."""
SCORE_ROUNDING = 1e-5
"""By so much a row's figures may differ from the means of its images' scores, which are rounded."""
AGREE = 0.001
"""Rows of one key agree if IoU and Dice differ by no more: a tenth of a point, as tables print them."""


@dataclass
class Stored:
    """What is known of cells: their rows, their errors, and what had to be set aside."""

    rows: dict[Cell, Row] = field(default_factory=dict)
    errors: dict[Cell, str] = field(default_factory=dict)
    """The last line of each failed cell's error."""
    failed: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The same by the cell's key, whose row may have been measured before, with the time of the error."""
    outdated: dict[Cell, str] = field(default_factory=dict)
    """Of each cell that was measured only on images that are others now: the data set that has these."""
    faults: list[str] = field(default_factory=list)
    """A sentence for each row, or for several, that were set aside."""


def file_name(row: Row) -> str:
    """Key and digest; whose row it is makes no difference, and one without `data_name` is called as it ever was."""
    content = {**row.to_json(), "source": ""}
    if not row.data_name:
        del content["data_name"]
    text = json.dumps(content, sort_keys=True)
    return f"{row.key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"


def keep_rows(rows: Collection[Row], replaced: Iterable[Row], folder: Path, cells: Path) -> None:
    """Write each row that is not there yet, with its scores below `cells`; a replaced one goes once it has a successor.

    Rows of a budget whose figures mean nothing are not kept. Raises BenchmarkError if the folder refuses.
    """
    usable_folder(folder, "rows")
    present = {path.name for path in folder.iterdir()}
    for row in filter(has_meaning, rows):
        if (name := file_name(row)) not in present:
            _write(folder / name, row)
        if scores_name(row) not in present:
            _copy(cells / row.key / SCORES, folder / scores_name(row))
    succeeded = {row.key for row in rows}
    for row in (row for row in replaced if row.key in succeeded):
        for name in {file_name(row), scores_name(row)} & present:
            (folder / name).unlink(missing_ok=True)


def has_meaning(row: Row) -> bool:
    """Whether its budget is one whose figures are kept, or one that is not known here."""
    return row.preset not in PRESETS or PRESETS[row.preset].keeps_rows


def find_scores(row: Row, cells: Path, folder: Path) -> Path:
    """Where the scores of a row's images lie, if anywhere: where it was measured, or where rows are kept."""
    own = of_cell(row, cells)
    return own / SCORES if own and (own / SCORES).exists() else folder / scores_name(row)


def of_cell(row: Row, cells: Path) -> Path | None:
    """The cell that a row was measured in; None where it is not here, or holds no row or another one.

    For a kept row may have the key of a cell whose run failed halfway here, and left files of its own.
    """
    folder = cells / row.key
    try:
        same = (folder / "done").exists() and file_name(read_row(folder / "row.json")) == file_name(row)
    except BenchmarkError:
        return None
    return folder if same else None


def read_scores(row: Row, path: Path) -> tuple[list[str], list[list[float]]]:
    """The ids of a row's images, and their IoU and their Dice, from a file.

    Raises BenchmarkError, naming the file, where it cannot be read or its means are not the row's.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        ids = [line["id"] for line in lines]
        scores = [[float(line[metric]) for line in lines] for metric in ("iou", "dice")]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise BenchmarkError(f"{path} holds no scores of single images: {named(error)}") from error
    means = [statistics.fmean(values) if values else math.nan for values in scores]
    same = (
        abs(mean - figure) <= SCORE_ROUNDING for mean, figure in zip(means, (row.iou, row.dice), strict=True)
    )
    if len(ids) != row.n_images or not all(same):
        raise BenchmarkError(
            f"{path} holds {len(ids)} images with IoU {100 * means[0]:.2f} and Dice {100 * means[1]:.2f} where its row "
            f"has {row.n_images} with {100 * row.iou:.2f} and {100 * row.dice:.2f}: fetch the file anew, or remove it"
        )
    return ids, scores


def scores_name(row: Row) -> str:
    """What the scores of its images are called beside it."""
    return Path(file_name(row)).with_suffix(".csv").name


def read_lines(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a file, one a line or a single one over several lines, and a sentence for each faulty line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return [], [f"{path} cannot be read: {reason(error)}"]
    if path.suffix == ".json":
        parts = [(str(path), text)]
    else:
        lines = enumerate(text.splitlines(), 1)
        parts = [(f"{path} line {number}", line) for number, line in lines if line.strip()]
    rows, faults = [], []
    for place, part in parts:
        try:
            rows.append(parse_row(part, place))
        except BenchmarkError as error:
            faults.append(str(error))
    return rows, faults


def read_kept(folder: Path) -> tuple[list[Row], list[str]]:
    """Every row under results/rows, and a sentence for each faulty one.

    Rows with the scores of their images come first, so that of rows that say the same one of them is used.
    """
    rows: list[Row] = []
    faults: list[str] = []
    for path in sorted(
        folder.glob("[!.]*.json*"), key=lambda path: (not path.with_suffix(".csv").exists(), path)
    ):
        found, wrong = read_lines(path)
        rows += found
        faults += wrong
    return rows, faults


def merge(
    own: list[Row], kept: list[Row], stored: Stored, current: Mapping[Cell, str] = MappingProxyType({})
) -> None:
    """One row for each cell, into `stored`.

    Of a cell whose key of today is known (`current`) no row of another key is taken: it is of other images or
    settings. A row measured here (`own`) goes before a kept one, and a later one before an earlier one. Kept rows of
    one key that disagree are all set aside; but one that disagrees with a row measured here, or one that was imported
    with those of the key that were not, is set aside alone.
    """
    own, kept = ([row for row in rows if current.get(row.cell, row.key) == row.key] for rows in (own, kept))
    mine = {row.key: row for row in own}
    names = {file_name(row) for row in own}
    groups: dict[str, list[Row]] = {}
    for row in kept:
        if file_name(row) not in names:
            groups.setdefault(row.key, []).append(row)
    for key, rows in groups.items():
        unmarked = [row for row in rows if not row.source]
        alone = unmarked[0] if unmarked and all(_agree(row, unmarked[0]) for row in unmarked) else None
        known = mine.get(key, alone)
        odd = [row for row in rows if not _agree(row, known or rows[0])]
        if odd:
            printed = "was measured here" if key in mine else "is not imported" if alone else ""
            stored.faults.append(_disagreement([known or rows[0], *odd], printed))
        if key not in mine and (alone or not odd):
            taken = alone or rows[0]
            _take(replace(taken, source=taken.source or KEPT), stored.rows)
    measured: dict[Cell, Row] = {}
    for row in own:
        _take(row, measured)
    stored.rows |= measured


def import_rows(files: Iterable[Path], folder: Path, source: str) -> tuple[int, int, list[str]]:
    """Take a colleague's rows into results/rows, marked as theirs.

    Returns how many were new, how many were there already, and a sentence for each faulty one.
    """
    usable_folder(folder, "rows")
    present = {path.name for path in folder.glob("*.json")}
    new, known, bare, faults = 0, 0, 0, []
    strangers: dict[str, None] = {}
    for path in files:
        if path.is_dir():
            faults.append(f"{path} is a folder: name its files, such as {path}/*.json")
            continue
        rows, wrong = read_lines(path)
        faults += wrong
        if not rows and not wrong:
            faults.append(f"{path} holds no row")
        for row in rows:
            if not has_meaning(row):
                faults.append(f"{path} holds a row of {row.cell}: figures of {row.preset} mean nothing")
                continue
            name = file_name(row)
            known, new = known + (name in present), new + (name not in present)
            if name not in present:
                _write(folder / name, replace(row, source=row.source or source))
                present.add(name)
            beside = path.parent / (SCORES if path.name == "row.json" else scores_name(row))
            if fault := _import_scores(row, beside, folder / scores_name(row)):
                faults.append(f"{fault}; the row was taken without it")
            bare += not (folder / scores_name(row)).exists()
            strangers |= dict.fromkeys({row.method} - {*METHODS})
            strangers |= dict.fromkeys({row.test_dataset, row.train_dataset} - {*DATASETS, ""})
            strangers |= dict.fromkeys({row.preset} - {*PRESETS})
            if row.method in METHODS and row.variant not in METHODS[row.method].variants:
                strangers[f"{row.method} {row.variant}"] = None
    if bare:
        log.warning(
            "the scores of single images did not come with %d rows, which are in no difference: they lie beside those "
            "of RESULTS/rows/*.json", bare,
        )  # fmt: skip
    if strangers:
        log.warning(
            "of %s there is no entry in benchmarks/registry.py: rows of it are kept, and shown once there is",
            ", ".join(strangers),
        )
    return new, known, faults


def _import_scores(row: Row, source: Path, target: Path) -> str:
    """Copy the scores of a row's images, if they are there and not yet here; what is wrong with them, if anything."""
    if target.exists() or not source.exists():
        return ""
    try:
        read_scores(row, source)
    except BenchmarkError as error:
        return str(error)
    _copy(source, target)
    return ""


def read_replaced(runs: Path) -> list[Row]:
    """Rows that --force moved away."""
    found = []
    for path in (runs / "replaced").glob("cells-*/row.json"):
        try:
            found.append(read_row(path))
        except BenchmarkError:
            continue
    return found


def _write(path: Path, row: Row) -> None:
    with writing("rows", path.parent):
        write_atomic(path, json.dumps(row.to_json()) + "\n")


def _copy(source: Path, target: Path) -> None:
    """Copy a file that may not be there."""
    if source.exists():
        with writing(f"a copy of {source}", target.parent):
            write_atomic(target, source.read_bytes())


def _take(row: Row, rows: dict[Cell, Row]) -> None:
    if row.cell not in rows or rows[row.cell].finished < row.finished:
        rows[row.cell] = row


def _agree(one: Row, other: Row) -> bool:
    return abs(one.iou - other.iou) <= AGREE and abs(one.dice - other.dice) <= AGREE


def _disagreement(rows: list[Row], why_the_first: str) -> str:
    said = [f"{100 * row.iou:.1f} ({row.source or 'unmarked'}, {row.finished}, {row.device})" for row in rows]
    kept = f"the first {why_the_first} and is printed" if why_the_first else "none is printed"
    return (
        f"rows disagree on the IoU of {rows[0].cell} (key {rows[0].key}): {'; '.join(said)}: {kept}; "
        f"remove the files {rows[0].key}-*.json that are wrong"
    )
