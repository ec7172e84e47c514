"""From stored rows to a table's files: CSV, JSON lines, LaTeX, Markdown, PNG and the Figure-3 picture. Never trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.collect import Printed, print_cells
from benchmarks.files import write_atomic, writing
from benchmarks.grid import Style, lay_out
from benchmarks.latex import to_latex
from benchmarks.notes import place_of
from benchmarks.paired import difference_grid, differences, unpaired
from benchmarks.pictures import PANELS, beside, draw_panels, panels_of
from benchmarks.render import paired_csv, strategies_csv, to_csv, to_json_lines, to_markdown, to_text
from benchmarks.rows import Stored, file_name, of_cell
from benchmarks.sources import cell_picture, drawn_before
from benchmarks.table_picture import to_png
from benchmarks.tables import Entry, Table, headline

FIGURE3_METHOD = "DRC"
PICTURES = {"table1": "figure3"}
"""Table -> what its picture is called, where that is not the table's name with -pictures."""


@dataclass(frozen=True)
class TableFiles:
    """What was written."""

    text: str
    """The table for a terminal."""
    files: tuple[Path, ...]


def write_table(
    table: Table,
    preset: str,
    seeds: list[int],
    stored: Stored,
    runs: Path,
    results: Path,
    why_missing: Callable[[Entry], str],
    style: Style | None = None,
) -> TableFiles:
    """Write every format of a table, from the stored rows of these seeds, to the results folder.

    `why_missing` says in a sentence why a cell has no row. Raises BenchmarkError if a file cannot be written;
    each file is either the new one or the earlier one.
    """
    printed = print_cells(table, preset, seeds, stored, why_missing)
    name = table.stem(preset)
    pairs = differences(printed, runs, results / "rows", results / f"{name}-paired.csv")
    layout = lay_out(table, preset, printed, style)
    layout = replace(layout, notes=(*layout.notes, *unpaired(printed, pairs)))
    if pairs:
        layout = replace(layout, grids=(*layout.grids, difference_grid(pairs)))
    contents: dict[str, str | bytes] = {
        ".csv": to_csv(table, printed),
        ".jsonl": to_json_lines(table, printed),
        ".tex": to_latex(layout),
        ".md": to_markdown(layout),
        ".png": to_png(layout),
        "-strategies.csv": strategies_csv(printed),
        "-paired.csv": paired_csv(pairs),
    }
    files = {results / f"{name}{ending}": content for ending, content in contents.items() if content}
    outdated = [results / f"{name}{ending}" for ending, content in contents.items() if not content]
    picture = PICTURES.get(table.name, f"{table.name}-pictures") + name.removeprefix(table.name)
    if blocks := figure3_blocks(table, printed, runs, results / "figures"):
        files[results / f"{picture}.png"] = beside(blocks)
    elif not any(p.rows and p.entry.method == FIGURE3_METHOD for p in printed):
        outdated.append(results / f"{picture}.png")
    with writing("the table", results):
        for file, content in files.items():
            write_atomic(file, content)
        for file in outdated:
            file.unlink(missing_ok=True)
    return TableFiles(to_text(layout), tuple(files))


def figure3_blocks(table: Table, printed: list[Printed], runs: Path, figures: Path) -> dict[str, bytes]:
    """The pictures of the paper's method, one block a data set by its title; held-out images where there are any.

    Where a cell's images are not in `runs`, or not whole, its block is the one drawn of them before, in `figures`.
    """
    mine = (FIGURE3_METHOD, headline(FIGURE3_METHOD))
    last = {
        p.entry.dataset: p
        for p in printed
        if p.rows and (p.entry.method, p.entry.variant) == mine and p.entry.train_dataset == p.entry.dataset
    }
    blocks = {}
    for p in last.values():
        row = p.rows[0]
        title = f"{place_of(p.entry)}: {FIGURE3_METHOD}, budget {p.preset}, seed {row.seed}"
        panels = panels_of(of_cell(row, runs / "cells"), PANELS)
        earlier = figures / cell_picture(table.name, p.preset, p.entry, PANELS)
        block = draw_panels({title: panels}) if panels else drawn_before(earlier, file_name(row))
        if block:
            blocks[title] = block
    return blocks
