"""From stored rows to a table's files: CSV, LaTeX, Markdown, PNG and the Figure-3 picture. Never trains."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.collect import Printed, print_cells, read_runs
from benchmarks.draw import to_png
from benchmarks.errors import BenchmarkError
from benchmarks.files import reason, write_atomic
from benchmarks.grid import lay_out
from benchmarks.pictures import Panels, draw_panels, load_panels
from benchmarks.render import to_csv, to_latex, to_markdown, to_text
from benchmarks.tables import Entry, Table

log = logging.getLogger(__name__)

FIGURE3_METHOD = "DRC"


@dataclass(frozen=True)
class Report:
    """What was written."""

    text: str
    """The table for a terminal."""
    files: tuple[Path, ...]
    printed: tuple[Printed, ...]


def write_report(
    table: Table,
    preset: str,
    seeds: list[int],
    runs: Path,
    results: Path,
    why_missing: Callable[[Entry], str],
) -> Report:
    """Collect the rows of these seeds and write every format to the results folder.

    `why_missing` says in a sentence why a cell has no row. Raises BenchmarkError if a file cannot be written;
    each file is either the new one or the earlier one.
    """
    printed = print_cells(table, preset, seeds, read_runs(runs), why_missing)
    layout = lay_out(table, preset, printed)
    name = stem(f"table{table.number}", preset)
    contents: dict[str, str | bytes] = {
        f"{name}.csv": to_csv(table, printed),
        f"{name}.tex": to_latex(layout),
        f"{name}.md": to_markdown(layout),
        f"{name}.png": to_png(layout),
    }
    if blocks := figure3_blocks(table, printed, runs):
        contents[f"{stem('figure3', preset)}.png"] = draw_panels(blocks)
    try:
        for file, content in contents.items():
            write_atomic(results / file, content)
    except OSError as error:
        raise BenchmarkError(
            f"cannot write the table to {results}: {reason(error)}; choose another folder"
        ) from error
    return Report(to_text(layout), tuple(results / file for file in contents), tuple(printed))


def stem(name: str, preset: str) -> str:
    """The name of an output: that of a smoke run says so, and so never replaces a real one."""
    return f"{name}-smoke" if preset == "smoke" else name


def figure3_blocks(table: Table, printed: list[Printed], runs: Path) -> dict[str, Panels]:
    """The pictures of the paper's method, one block a data set; held-out images where there are any."""
    last = {p.entry.dataset: p for p in printed if p.rows and p.entry.method == FIGURE3_METHOD}
    blocks = {}
    for p in last.values():
        path = runs / "cells" / p.rows[0].key / "panels.npz"
        try:
            title = f"{p.entry.column}: {FIGURE3_METHOD}, budget {p.preset}, seed {p.rows[0].seed}"
            blocks[title] = load_panels(path)
        except BenchmarkError as error:
            log.warning("left out of figure 3: %s", error)
    return blocks
