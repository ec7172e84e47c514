"""How a table is laid out: printed cells -> grids of text and notes, the same for every format."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.collect import Printed
from benchmarks.registry import PRESETS
from benchmarks.tables import Table

DASH = "–"
METRICS = ("iou", "dice")


@dataclass(frozen=True)
class GridLine:
    """One line: its label, footnote marks, and one text per (column, metric)."""

    label: str
    marks: str
    section: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A block of a printed table; every column has IoU and Dice."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[GridLine, ...]


@dataclass(frozen=True)
class Layout:
    """A table ready to be written in any format."""

    number: str
    title: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]


def lay_out(table: Table, preset: str, printed: list[Printed]) -> Layout:
    """Columns with something measured in one grid, beside the published figures; the others in a second."""
    cells = {(p.entry.line, p.entry.column): p for p in printed}
    measured = tuple(
        c.label for c in table.columns if any(p.rows for p in printed if p.entry.column == c.label)
    )
    others = tuple(
        c.label
        for c in table.columns
        if c.label not in measured
        and any(p.published_iou is not None for p in printed if p.entry.column == c.label)
    )
    grids = []
    if measured:
        title = f"Measured here, budget {preset}, in percent (published in brackets)"
        grids.append(_grid(title, table, measured, cells, brackets=True))
    if others:
        grids.append(_grid("Published only, in percent", table, others, cells, brackets=False))
    return Layout(table.number, table.title, tuple(grids), tuple(_notes(table, preset, printed, measured)))


def text_of(printed: Printed | None, metric: str, *, brackets: bool) -> str:
    """``52.1 ± 0.8 (78.8)``: mean, spread over seeds, published; only what there is. Empty for nothing."""
    if printed is None:
        return ""
    value, spread = getattr(printed, metric), getattr(printed, f"{metric}_std")
    number = getattr(printed, f"published_{metric}")
    published = "" if number is None else f"({number:.1f})" if brackets else f"{number:.1f}"
    if value is None:
        return published
    text = f"{value:.1f}" if spread is None else f"{value:.1f} ± {spread:.1f}"
    return f"{text} {published}".rstrip()


def _grid(
    title: str,
    table: Table,
    columns: tuple[str, ...],
    cells: dict[tuple[str, str], Printed],
    *,
    brackets: bool,
) -> Grid:
    """Every line that has something in these columns."""
    lines = []
    for line in table.lines:
        texts = [text_of(cells.get((line.label, c)), m, brackets=brackets) for c in columns for m in METRICS]
        if any(texts):
            lines.append(GridLine(line.label, line.marks, line.section, tuple(t or DASH for t in texts)))
    return Grid(title, columns, tuple(lines))


def _notes(table: Table, preset: str, printed: list[Printed], measured: tuple[str, ...]) -> list[str]:
    budget = PRESETS[preset]
    notes = [
        f"Budget {preset} ({budget.about}): all methods run and are scored at {budget.image_size}×"
        f"{budget.image_size} pixels. The published figures are at 128×128 and the authors' budget."
    ]
    notes += [c.about for c in table.columns if c.label in measured]
    notes += _counts(printed)
    notes += _protocols(printed)
    notes += _costs(printed)
    notes += _failures(printed)
    shown = "".join(line.marks for line in table.lines)
    notes += [f"{mark} {text}" for mark, text in table.footnotes.items() if mark in shown]
    notes += _reasons(printed)
    return notes


def _counts(printed: list[Printed]) -> list[str]:
    counts: dict[str, set[int]] = {}
    for p in printed:
        for row in p.rows:
            counts.setdefault(p.entry.column, set()).add(row.n_images)
    return (
        [
            "Images scored: "
            + "; ".join(f"{column} {' or '.join(map(str, sorted(n)))}" for column, n in counts.items())
            + ". Each figure is the mean over images; empty over empty counts as 1."
        ]
        if counts
        else []
    )


def _protocols(printed: list[Printed]) -> list[str]:
    methods: dict[str, list[str]] = {}
    for p in printed:
        for row in p.rows:
            methods.setdefault(row.protocol, [])
            if p.entry.line not in methods[row.protocol]:
                methods[row.protocol].append(p.entry.line)
    said = {"unmatched": "the method's own channel 0 is the foreground, nothing is matched"}
    return [
        f"Protocol of {', '.join(lines)}: {', '.join(said.get(part, part) for part in protocol.split(', '))}."
        for protocol, lines in methods.items()
    ]


def _costs(printed: list[Printed]) -> list[str]:
    """Training time and seeds of what was trained, and what the spread is."""
    trainings: dict[tuple[str, str, str, str, int], dict[int, float]] = {}
    for p in printed:
        for row in p.rows:
            if row.train_dataset:
                key = (row.method, row.variant, row.train_dataset, row.device, row.train_images)
                trainings.setdefault(key, {})[row.seed] = row.train_seconds / 60
    notes = []
    for (method, variant, dataset, device, images), minutes in trainings.items():
        times = ", ".join(f"{m:.1f} (seed {seed})" for seed, m in sorted(minutes.items()))
        notes.append(
            f"{method} {variant}: trained without labels on {images} images of {dataset}; "
            f"minutes: {times}; {device}."
        )
    if any(p.iou_std is not None for p in printed):
        notes.append("± is the standard deviation over seeds.")
    return notes


def _failures(printed: list[Printed]) -> list[str]:
    return [
        f"{p.entry.line} failed on {row.failures} of {row.n_images} images of {p.entry.column}: "
        "these are scored as empty masks."
        for p in printed
        for row in p.rows
        if row.failures
    ]


def _reasons(printed: list[Printed]) -> list[str]:
    """Why cells were not measured, each reason once."""
    places: dict[str, dict[str, None]] = {}
    for p in printed:
        if p.status != "measured" and p.reason:
            whole_column = p.reason.startswith("not prepared")
            places.setdefault(p.reason, {})[p.entry.column if whole_column else p.entry.line] = None
    return [f"Not measured, {', '.join(names)}: {reason}" for reason, names in places.items()]
