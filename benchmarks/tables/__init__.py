"""What a table of the paper is made of: one short declarative file each."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

from benchmarks.cells import Cell, make_cell
from benchmarks.errors import choose
from benchmarks.registry import METHODS, TABLES


@dataclass(frozen=True)
class Line:
    """A line of a printed table."""

    label: str
    marks: str = ""
    """Footnote marks, keys of Table.footnotes."""
    section: str = "methods"
    """methods | floors | appendix: printed in this order, ruled off."""


@dataclass(frozen=True)
class Column:
    """A column of a printed table (it holds IoU and Dice)."""

    label: str
    about: str
    """What the column scores, in one sentence."""


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
    published: bool = True
    """Whether the paper's figure, if it has one for these names, is this cell's."""

    def cell(self, preset: str, seed: int) -> Cell | None:
        """What is run for it under a budget; None for a method that is not registered."""
        if self.method not in METHODS:
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
    key: str = "variant"
    """The second column of its CSV: variant or train_dataset."""


def load_table(number: str) -> Table:
    """The table of that number. Raises BenchmarkError for an unknown one."""
    return import_module(TABLES[choose("table", number, TABLES)]).TABLE


def plan(table: Table, preset: str, methods: list[str], datasets: list[str], seeds: list[int]) -> list[Cell]:
    """The cells to run, each once: what needs no training first, then training by training."""
    cells: dict[Cell, None] = {}
    for seed in seeds:
        for entry in table.entries:
            if entry.method in methods and entry.dataset in datasets:
                cell = entry.cell(preset, seed)
                if cell is not None:
                    cells[cell] = None
    return sorted(cells, key=lambda cell: METHODS[cell.method].trained)
