"""results/report.html: tables, charts and pictures in one file that needs no network. Never trains.

A section of which nothing has changed is taken from the page that is there, and not drawn again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.cells import Row
from benchmarks.charts import Places, charts_of
from benchmarks.collect import Printed, print_cells, seeds_of
from benchmarks.files import usable_folder, writing
from benchmarks.grid import METRICS, Best, Grid, best_figures, ends, note_of_best, number, strategies_grid
from benchmarks.kept import (
    digest,
    earlier_differences,
    figures_of,
    made_of,
    sections_of,
    sources_of,
    write_changed,
    write_pdfs,
)
from benchmarks.notes import floor_names, name_of, notes_of, place_of, variant_name, why_missing
from benchmarks.paired import REFERENCE, difference_grid, differences, unpaired
from benchmarks.pictures import EXAMPLES, PANELS, Picture, draw_panels, embedded, panels_of
from benchmarks.registry import DATASETS, PRESETS, REPORTED
from benchmarks.reproducing import other_results, to_markdown
from benchmarks.rows import Stored, file_name, of_cell
from benchmarks.sources import cell_picture, drawn_before, text_of
from benchmarks.tables import Entry, Table, headline, sound_tables

TITLE = "Deep Region Competition, measured"
ABOUT = (
    "What this suite measured, beside what the paper printed; IoU and Dice in percent. The published figures are at "
    "128×128 pixels and the authors' budget, and TM-dSprites is a re-making: they are a landmark there, and not the "
    "same test. A budget's name, such as quick, stands with each measured one. A difference is measured minus "
    "published. Below a figure stands its bootstrap 95 % interval over images; ± is the deviation over seeds. The "
    "heads sort; the last column opens the command, commit and device of each figure."
)
ROWS = 10
"""So many rows of a figure are shown with all that is known of them; of more, the number is said."""
SHOWN = 6
"""Pictures of so many methods and data sets are shown in a section; of the others it is said where they lie."""


@dataclass
class Section:
    """A table under one budget, with all that belongs to it."""

    id: str
    heading: str
    blocks: list[dict[str, Any]]
    plain: list[dict[str, Any]]
    notes: list[str]
    charts: list[Picture] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def write_page(
    stored: Stored,
    runs: Path,
    results: Path,
    presets: list[str],
    data: Path = Path("data"),
    options: Sequence[str] = (),
) -> list[Path]:
    """Write report.html, REPRODUCING.md and the folder figures; of a budget that is not reported under its own names.

    `options` are further words of the commands that would fill the gaps, where folders are not the defaults.
    Tables without a measured row are left out, and so are tables under another budget than their own that would show
    nothing new. Raises BenchmarkError if the folder refuses.
    """
    mark = "" if set(presets) & set(REPORTED) else f"-{presets[0]}"
    page, commands = results / f"report{mark}.html", results / f"REPRODUCING{mark}.md"
    places = Places(runs, results / "rows", usable_folder(results / f"figures{mark}", "figures"))
    before = sections_of(page)
    sections = [
        laid_section(table, preset, printed, places, before)
        for table, preset, printed in worth_showing(stored, presets, data, options)
    ]
    shown = (row for row in stored.rows.values() if row.preset in presets)
    with writing("the report", results):
        write_changed(page, template("page").render(title=TITLE, about=ABOUT, sections=sections).encode())
        write_changed(commands, to_markdown(shown, () if mark else other_results(results)).encode())
    return [page, commands, places.figures]


def worth_showing(
    stored: Stored, presets: Iterable[str], data: Path = Path("data"), options: Sequence[str] = ()
) -> list[tuple[Table, str, list[Printed]]]:
    """The tables with a measured row, each under its own budget and under those where it shows what no other does."""
    measured: list[tuple[Table, str, list[Printed]]] = []
    keys: list[set[str]] = []
    for table in sound_tables():
        for preset in presets:
            seeds = seeds_of(table, preset, stored)
            why = functools.partial(why_missing, table, preset, data, options=options)
            printed = print_cells(table, preset, seeds, stored, why) if seeds else []
            measured.append((table, preset, printed))
            keys.append({row.key for p in printed for row in p.rows})
    own = [preset == table.preset for table, preset, _ in measured]
    shown: set[str] = set()
    worth: list[int] = []
    for i in sorted(range(len(measured)), key=lambda i: (not own[i], -len(keys[i]))):  # the fullest first
        if (keys[i] and own[i]) or keys[i] - shown:
            worth.append(i)
            shown |= keys[i]
    return [measured[i] for i in sorted(worth)]


@functools.cache
def template(name: str) -> Any:
    """A template beside this file; everything that is filled in is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    place = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=place, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(f"{name}.html.jinja")


def laid_section(
    table: Table, preset: str, printed: list[Printed], places: Places, before: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """What the page needs of a section: drawn now, with its figures, or as it was `before` if nothing has changed."""
    stem = f"{table.name}-{preset}"
    sources = digest(sources_of(table, preset, printed, places))
    made, body = before.get(stem, ("", ""))
    if made != made_of(sources, body, figures_of(table, preset, places.figures)):
        section, files = make_section(table, preset, printed, places)
        body = template("section").render(s=section)
        with writing("the report", places.figures):
            for name, drawn in files.items():
                write_changed(places.figures / name, drawn)
    figures = figures_of(table, preset, places.figures)
    with writing("the report", places.figures):
        write_pdfs(figures)
    made = made_of(sources, body, figures)
    return {"id": stem, "heading": f"{table.heading} ({preset})", "made": made, "body": body}


# --- a section ---------------------------------------------------------------------------------------------


def make_section(
    table: Table, preset: str, printed: list[Printed], places: Places
) -> tuple[Section, dict[str, bytes]]:
    """All of one table under one budget, and the files of its figures.

    What a row needs is read from the runs folder or, for those measured elsewhere, from beside the kept rows and from
    the pictures drawn of them before.
    """
    stem = f"{table.name}-{preset}"
    budget = f"budget {preset}, {PRESETS[preset].image_size}×{PRESETS[preset].image_size} pixels"
    best = best_figures(table, printed)
    section = Section(
        stem,
        f"{table.heading} ({preset})",
        measured_blocks(preset, printed, best),
        [],
        [*notes_of(table, preset, printed), *note_of_best(table, best)],
    )
    pairs = differences(printed, places.runs, places.kept, earlier_differences(table, preset, places))
    grids = [strategies_grid(table, printed), *([difference_grid(pairs)] if pairs else [])]
    section.plain = [plain_table(grid) for grid in grids if grid.lines]
    files: dict[str, bytes] = {}
    for chart in charts_of(printed, places, stem, budget):
        files |= {f"{chart.name}.png": chart.png, f"{chart.name}.pdf": chart.pdf}
        section.charts.append(embedded(chart.title, chart.about, chart.png))
    pictures, absent = pictures_of(table, printed, places, budget)
    files |= {name: png for found in pictures.values() for name, png in found.items()}
    order = by_turns(pictures)
    for cell in order[:SHOWN]:
        for png in pictures[cell].values():
            said = text_of(png)
            section.pictures.append(embedded(said["Title"], said["Description"], png))
    section.missing = [*not_shown(order[SHOWN:], stem, places.figures), *absent, *unpaired(printed, pairs)]
    return section, files


# --- tables ------------------------------------------------------------------------------------------------


def measured_blocks(preset: str, printed: list[Printed], best: Best) -> list[dict[str, Any]]:
    """A sortable table for each block of what was measured, and one of what the paper alone has."""
    blocks = []
    for block in dict.fromkeys(p.entry.block for p in printed):
        inside = [p for p in printed if p.entry.block == block and p.rows]
        if inside:
            about = f". {block}" if block else ""
            blocks.append(
                {"caption": f"Measured here under {preset}{about}; in percent", **cells_table(inside, best)}
            )
    theirs = [p for p in printed if not p.rows and p.published_iou is not None]
    if theirs:
        blocks.append(
            {"caption": "Published only, not measured here; in percent", **cells_table(theirs, best)}
        )
    return blocks


def cells_table(printed: list[Printed], best: Best) -> dict[str, Any]:
    """Heads and lines, each figure with the value it is sorted by; the interval over images below it."""
    published, measured = any(p.published_iou is not None for p in printed), any(p.rows for p in printed)
    crossed = any(p.entry.train_dataset not in ("", p.entry.dataset) for p in printed)
    heads = [
        {"text": text, "number": False}
        for text in ("method", "scored on", *(["trained on"] if crossed else []))
    ]
    for metric in ("IoU", "Dice"):
        names = [metric] if measured else []
        names += [f"{metric} published"] if published else []
        names += ["difference"] if measured and published else []
        heads += [{"text": name, "number": True} for name in names]
    heads += [{"text": "training seconds", "number": True}] if measured else []
    lines = []
    for p in printed:
        cells = [word(place_of(p.entry))]
        if crossed:
            cells.append(word(DATASETS[p.entry.train_dataset].label if p.entry.train_dataset else "–"))
        for metric in METRICS:
            value, theirs = getattr(p, metric), getattr(p, f"published_{metric}")
            if measured:
                text = number(value, getattr(p, f"{metric}_std"))
                cells.append(figure(value, text, below=ends(p, metric), best=(p.entry, metric) in best))
            if published:
                cells.append(figure(theirs, number(theirs)))
            if measured and published:
                away = None if value is None or theirs is None else value - theirs
                cells.append(figure(away, "" if away is None else f"{away:+.1f}"))
        if measured:
            cells.append(figure(p.train_seconds, f"{p.train_seconds or 0:.0f}"))
        lines.append(
            {
                "name": variant_name(p.entry),
                "cells": cells,
                "rows": [provenance(row) for row in p.rows[:ROWS]],
                "more": max(0, len(p.rows) - ROWS),
            }
        )
    return {"heads": heads, "lines": lines, "measured": measured}


def word(text: str) -> dict[str, Any]:
    """A cell of text."""
    return {"text": text, "number": False, "value": None, "below": "", "best": False}


def figure(value: float | None, text: str, *, below: str = "", best: bool = False) -> dict[str, Any]:
    """A cell of a number, sorted by its value."""
    shown = None if value is None else round(value, 3)
    return {"text": text, "number": True, "value": shown, "below": below, "best": best}


def provenance(row: Row) -> dict[str, Any]:
    """What a reader needs to measure a figure again."""
    facts = {
        "command": row.command,
        "budget": f"{row.preset}, {row.image_size}×{row.image_size} pixels",
        "seed": row.seed,
        "protocol": row.protocol,
        "images scored": f"{row.n_images}, of which {row.failures} failed" if row.failures else row.n_images,
        "training": f"{row.train_steps or '?'} steps in {row.train_seconds:.0f} s on {row.train_images} images"
        + (f", {row.restarts} restarts" if row.restarts else ""),
        "device": row.device,
        "peak memory": f"{row.peak_memory_mb:.0f} MiB",
        "commit": row.commit,
        "versions": ", ".join(f"{name} {version}" for name, version in row.versions.items()),
        "data": row.data_sha256,
        "finished": row.finished,
        "measured by": row.source or "this runs folder",
        "key": row.key,
    }
    if not row.train_dataset:
        del facts["training"]
    return {"seed": row.seed, "trained": bool(row.train_dataset), "facts": list(facts.items())}


def plain_table(grid: Grid) -> dict[str, Any]:
    """A laid-out grid without provenance."""
    heads = [head or "line" for head in grid.flat_heads]
    lines = [[*line.marked, *map(str, line.texts)] for line in grid.lines]
    return {"caption": grid.title, "heads": heads, "words": grid.words, "lines": lines}


# --- pictures ----------------------------------------------------------------------------------------------


def last_split_of_each(printed: list[Printed]) -> list[Printed]:
    """One cell for each method, variant and data set, of those scored where they were trained: the last split."""
    floors = floor_names()
    found = {
        (p.entry.method, p.entry.variant, p.entry.dataset): p
        for p in printed
        if p.rows and p.rows[0].train_dataset in ("", p.entry.dataset) and p.entry.method not in floors
    }
    return list(found.values())


def pictures_of(
    table: Table, printed: list[Printed], places: Places, budget: str
) -> tuple[dict[Entry, dict[str, bytes]], list[str]]:
    """The pictures of each cell that has any, by file name, and a sentence on those that lack, if there are any."""
    found: dict[Entry, dict[str, bytes]] = {}
    absent = set()
    for p in last_split_of_each(printed):
        for kind, draw in ((PANELS, figure3), (EXAMPLES, examples)):
            name = cell_picture(table.name, p.preset, p.entry, kind)
            png = draw(p, places.runs, budget) or drawn_before(places.figures / name, file_name(p.rows[0]))
            if png is None:
                absent.add(f"{name_of(p)} on {place_of(p.entry)}")
            else:
                found.setdefault(p.entry, {})[name] = png
    where = "they lie in the runs folder of the machine that measured it."
    return found, [f"No pictures of {', '.join(sorted(absent))}: {where}"] if absent else []


def by_turns(cells: Iterable[Entry]) -> list[Entry]:
    """The data sets in turns, so that the first cells have each of them; on each the paper's method comes first."""
    mine = (REFERENCE, headline(REFERENCE))
    datasets: dict[str, list[Entry]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.method, cell.variant) != mine):
        datasets.setdefault(cell.dataset, []).append(cell)
    return [cell for turn in zip_longest(*datasets.values()) for cell in turn if cell is not None]


def not_shown(cells: Iterable[Entry], stem: str, folder: Path) -> list[str]:
    """A sentence on where the pictures of cells lie, if there are any."""
    methods: dict[str, list[str]] = {}
    for cell in cells:
        methods.setdefault(variant_name(cell), []).append(DATASETS[cell.dataset].label)
    names = "; ".join(f"{name} on {', '.join(places)}" for name, places in methods.items())
    panels, others = (f"{folder.name}/{stem}-{Path(kind).stem}-*.png" for kind in (PANELS, EXAMPLES))
    return (
        [f"Not shown here are the pictures of {names}: they lie in {panels} and {others}."] if names else []
    )


def figure3(p: Printed, runs: Path, budget: str) -> bytes | None:
    """The rows of the paper's Figure 3 for the first images."""
    panels = panels_of(of_cell(p.rows[0], runs / "cells"), PANELS)
    if panels is None:
        return None
    title = f"{variant_name(p.entry)}: {place_of(p.entry)}"
    about = f"The first {len(panels['input'])} images, with the rows of the paper's Figure 3; {budget}"
    return draw_panels({title: panels}, said_of(p, title, about))


def examples(p: Printed, runs: Path, budget: str) -> bytes | None:
    """The worst, middle and best images."""
    panels = panels_of(of_cell(p.rows[0], runs / "cells"), EXAMPLES)
    if panels is None:
        return None
    third = len(panels["input"]) // 3
    parts = {
        label: {name: pictures[i * third : (i + 1) * third] for name, pictures in panels.items()}
        for i, label in enumerate(("worst IoU", "median", "best"))
    }
    title = f"{variant_name(p.entry)}, worst, median and best: {place_of(p.entry)}"
    return draw_panels(parts, said_of(p, title, f"Images of the lowest, middle and highest IoU; {budget}"))


def said_of(p: Printed, title: str, about: str) -> dict[str, str]:
    """What a picture says of itself, the file of its row included."""
    row = p.rows[0]
    return {"Title": title, "Description": f"{about}, seed {row.seed}.", "Source": file_name(row)}
