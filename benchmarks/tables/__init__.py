"""What a table of the paper is made of: one short declarative file each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module

from benchmarks.cells import Cell, make_cell
from benchmarks.errors import BenchmarkError, choose
from benchmarks.files import named
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES

log = logging.getLogger(__name__)

KEYS = ("variant", "train_dataset")
RIVALS = ("lines", "columns")
SECTIONS = ("methods", "floors", "appendix")
"""Sections of lines where methods are compared, from the top down."""
OF_THE_PAPER = ("1", "2", "3", "4")
RESERVED = ("table", "figure", "trials", "validate", "speed", "report", "reproducing", "photographs")
"""What the names of the suite's own results begin with, beside those of its tables."""


@dataclass(frozen=True)
class Line:
    """A line of a printed table."""

    label: str
    marks: str = ""
    """Footnote marks, keys of Table.footnotes."""
    section: str = "methods"
    """One of SECTIONS, or what a table divides its lines by: sections are ruled off."""


@dataclass(frozen=True)
class Column:
    """A column of a printed table (it holds IoU and Dice)."""

    label: str
    about: str = ""
    """What the column scores, in one sentence."""
    marks: str = ""
    """Footnote marks, keys of Table.footnotes."""


@dataclass(frozen=True)
class Entry:
    """One printed cell: where it stands, what is run for it, and whether the paper prints a figure for it."""

    line: str
    column: str
    method: str
    variant: str
    train_dataset: str
    dataset: str
    split: str
    published: tuple[str, str, str, str] | None = None
    """Where the paper's figure stands in results/published: method, variant or training set, data set, split.

    The tables of the paper alone have such a file.
    """
    block: str = ""
    """The title of the separate block in which it stands, if it is not one of the paper's own cells."""

    def cell(self, preset: str, seed: int) -> Cell | None:
        """What is run for it under a budget; None for a method or variant that is not registered."""
        if self.method not in METHODS or self.variant not in METHODS[self.method].variants:
            return None
        return make_cell(
            self.method, self.variant, self.train_dataset, self.dataset, self.split, preset, seed
        )


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    number: str
    title: str
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    footnotes: dict[str, str] = field(default_factory=dict)
    """Mark -> sentence."""
    keys: tuple[str, ...] = ("variant",)
    """What its CSV names beside the method: some of KEYS."""
    preset: str = "quick"
    """The budget it is run under unless another is asked for."""
    rivals: str = "lines"
    """What competes for the best figure: the lines of a column, or the columns of a line."""

    @property
    def name(self) -> str:
        """What its files are called: table1, or a sweep's own name."""
        return f"table{self.number}" if self.number in OF_THE_PAPER else self.number

    def stem(self, preset: str) -> str:
        """What its files are called under a budget: no budget's figures replace another's."""
        return self.name if preset == self.preset else f"{self.name}-{preset}"

    @property
    def heading(self) -> str:
        """Table 1. Foreground extraction."""
        return f"Table {self.number}. {self.title}" if self.number in OF_THE_PAPER else self.title


def headline(method: str) -> str:
    """The variant by which a method is judged; empty for one that is not registered."""
    return METHODS[method].variants[0] if method in METHODS else ""


VARIANT_LINES = {
    "DRC by responsibilities": ("DRC", "responsibilities"),
    "DRC untuned": ("DRC", "untuned"),
    "DRC w/o pixel re-assignment": ("DRC", "no-pixel-reassignment"),
    "GrabCut center60": ("GrabCut", "center60"),
    "GrabCut bbox": ("GrabCut", "bbox"),
}
"""Where methods are compared: what is run for a label that is no method's name."""


def run_for(label: str) -> tuple[str, str]:
    """The method and the variant that a label stands for: mostly the method of that name, by its headline."""
    return VARIANT_LINES.get(label, (label, headline(label)))


ALL_CHAINS = (
    "Not the paper's: the full model's training and chains, but a pixel goes to the region that all chains together "
    "make responsible for it (Eq. 7), in place of their mean π."
)
"""The footnote of masks by responsibilities."""

ORACLE = (
    "The published figure is an oracle's: of the ways to call a region the foreground, the one that fits the truth "
    "best."
)
"""The footnote of methods whose regions have no names."""

STAND_IN = "Stand-in: TM-dSprites, which the paper has no such figures for"
"""The block of the tables whose data sets must be prepared by hand first."""


def load_table(number: str) -> Table:
    """The table of that number. Raises BenchmarkError for an unknown one, and for one that cannot be run or printed."""
    number = choose("table", number, TABLES)
    try:
        table = import_module(TABLES[number]).TABLE
    except Exception as error:  # of anybody's own file
        log.debug("table %s", number, exc_info=True)
        raise BenchmarkError(
            f"the table {number} cannot be loaded from {TABLES[number]}: {named(error)}"
        ) from error
    try:
        wrong = next(_faults(table, number), "")
    except (AttributeError, TypeError) as error:  # a comma that lacks makes no tuple
        wrong = f"is not built as a Table of tuples ({error})"
    if wrong:
        raise BenchmarkError(f"the table {number} ({TABLES[number]}) {wrong}: correct the file")
    return table


def sound_tables() -> list[Table]:
    """Every table that can be loaded; each other one is named in a warning."""
    found = []
    for number in TABLES:
        try:
            found.append(load_table(number))
        except BenchmarkError as error:
            log.warning("left out: %s", error)
    return found


def _faults(table: Table, number: str) -> Iterator[str]:
    """What keeps a table from being run or printed whole."""
    if number.lower().startswith(RESERVED):
        yield f"has the number {number!r}, so that its files might be another result's"
    if table.number != number:
        yield f"says number={table.number!r}, so that its files would be another's"
    if table.preset not in PRESETS:
        yield f"says preset={table.preset!r}, which is none of {', '.join(PRESETS)}"
    if table.rivals not in RIVALS:
        yield f"says rivals={table.rivals!r}, which is none of {', '.join(RIVALS)}"
    if not isinstance(table.keys, tuple) or not {*table.keys} <= {*KEYS}:
        yield f"says keys={table.keys!r}, which is no tuple of {', '.join(KEYS)}"
    yield from _faults_of_texts(table)
    lines, columns = ({part.label for part in parts} for parts in (table.lines, table.columns))
    marks = "".join([line.marks for line in table.lines] + [column.marks for column in table.columns])
    for mark in sorted({*marks} - {*table.footnotes}):
        yield f"has the mark {mark!r}, which none of its footnotes explains"
    places = Counter((e.block, e.line, e.column) for e in table.entries)
    for (_, line, column), count in places.items():
        if count > 1:
            yield f"has {count} entries in the line {line!r} and the column {column!r}, which has room for one"
    for e in table.entries:
        for kind, name, known in (("line", e.line, lines), ("column", e.column, columns)):
            if name not in known:
                yield f"has an entry in the {kind} {name!r}, which is none of its {kind}s"
        for name in (e.dataset, e.train_dataset):
            if name and name not in DATASETS:
                yield f"names the data set {name!r}, which is not registered"
        if e.dataset in DATASETS and e.split not in DATASETS[e.dataset].splits:
            yield f"names the split {e.split!r}, which {e.dataset} has not"
        if e.method in METHODS and METHODS[e.method].trained and not e.train_dataset:
            yield f"does not say what {e.method} is trained on"
        if table.number in OF_THE_PAPER:  # which has methods that are not here
            continue
        if e.method not in METHODS:
            yield f"names the method {e.method!r}, which is not registered"
        elif e.variant not in METHODS[e.method].variants:
            yield f"names the variant {e.variant!r}, which {e.method} has not"
        if e.published:
            yield f"gives {e.published!r} as the place of a published figure, which only the paper's own tables have"


def _faults_of_texts(table: Table) -> Iterator[str]:
    """What keeps its lines and columns from being called by name."""
    labels = {"lines": [line.label for line in table.lines], "columns": [c.label for c in table.columns]}
    for text in (
        table.title,
        *labels["lines"],
        *labels["columns"],
        *(column.about for column in table.columns),
    ):
        if not isinstance(text, str):
            yield f"has {text!r} where a text is expected, as its title, a label or what a column is about"
    for kind, names in labels.items():
        for label, count in Counter(names).items():
            if count > 1:
                yield f"has {count} {kind} called {label!r}"
    if not table.entries:
        yield "has no entries, and nothing to print"


def plan(table: Table, preset: str, methods: list[str], datasets: list[str], seeds: list[int]) -> list[Cell]:
    """The cells to run, each once: what needs no training first, then training by training."""
    cells: dict[Cell, None] = {}
    for seed in seeds:
        for entry in table.entries:
            cell = entry.cell(preset, seed) if entry.method in methods else None
            if cell is not None and {cell.test_dataset, cell.train_dataset} <= {*datasets, ""}:
                cells[cell] = None
    return sorted(
        cells, key=lambda cell: (METHODS[cell.method].trained, fit_of(cell) if cell.train_dataset else ())
    )


def fit_of(cell: Cell) -> tuple[str, ...]:
    """What cells that share a training have in common."""
    variant = METHODS[cell.method].training_of(cell.variant)
    return (cell.method, variant, cell.train_dataset, str(cell.seed))
