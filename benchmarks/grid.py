"""How a table is laid out: printed cells -> grids of text, the same for every format."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.collect import Printed
from benchmarks.notes import floor_names, notes_of
from benchmarks.tables import Entry, Table

DASH = "–"
METRICS = ("iou", "dice")
LAYOUTS = ("paper", "long")
PUBLISHED = ("beside", "hidden")


@dataclass(frozen=True)
class Style:
    """What the user chooses about the look of a table."""

    layout: str = "paper"
    """paper: lines and columns as in the paper; long: one line a cell."""
    published: str = "beside"
    """Whether the paper's figures stand beside ours, or are hidden."""


@dataclass(frozen=True)
class Text:
    """One figure: what was measured, what the paper prints in brackets, and whether it is the best measured."""

    main: str = ""
    aside: str = ""
    best: bool = False

    def __str__(self) -> str:
        return f"{self.main} {self.aside}".strip() or DASH


@dataclass(frozen=True)
class GridLine:
    """One line: words, footnote marks after the first of them, and figures."""

    words: tuple[str, ...]
    marks: str
    section: str
    """Lines of different sections are ruled off."""
    texts: tuple[Text, ...]

    @property
    def marked(self) -> list[str]:
        """Its words, the first with its footnote marks."""
        return [self.words[0] + self.marks, *self.words[1:]]


@dataclass(frozen=True)
class Grid:
    """A block of a printed table."""

    title: str
    heads: tuple[str, ...]
    """Of every column, those of words first."""
    lines: tuple[GridLine, ...]
    spans: tuple[str, ...] = ()
    """What stands above each pair of figures, if anything does."""

    @property
    def words(self) -> int:
        """How many of its columns are of words; the others are of figures."""
        return len(self.lines[0].words)

    @property
    def flat_heads(self) -> list[str]:
        """Its heads, each with what stands above it."""
        if not self.spans:
            return list(self.heads)
        above = [f"{span} " for span in self.spans for _ in METRICS]
        return [over + head for over, head in zip([""] * self.words + above, self.heads, strict=True)]


@dataclass(frozen=True)
class Layout:
    """A table ready to be written in any format."""

    name: str
    heading: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]


def lay_out(table: Table, preset: str, printed: list[Printed], style: Style | None = None) -> Layout:
    """What was measured, block by block; then what the paper alone has; then the other strategies."""
    style = style or Style()
    if style.published == "hidden":
        printed = [replace(p, published_iou=None, published_dice=None) for p in printed]
    best = best_figures(table, printed)
    measured = {p.entry.dataset for p in printed if p.rows}
    arrange = _long if style.layout == "long" else _as_in_paper
    grids = []
    for block in dict.fromkeys(p.entry.block for p in printed):
        inside = [p for p in printed if p.entry.block == block and p.entry.dataset in measured]
        title = f"Measured here, budget {preset}, in percent"
        aside = any(p.published_iou is not None for p in inside)
        title += " (published in brackets)" if aside and style.layout == "paper" else ""
        grids.append(arrange(f"{block}. {title}" if block else title, table, inside, best))
    others = [p for p in printed if p.entry.dataset not in measured]
    grids.append(arrange("Published only, in percent", table, others, best))
    grids.append(strategies_grid(table, printed))
    full = tuple(grid for grid in grids if grid.lines)
    notes = [*notes_of(table, preset, printed), *note_of_best(table, best)]
    return Layout(table.name, table.heading, full, tuple(notes))


Best = set[tuple[Entry, str]]


def best_figures(table: Table, printed: Iterable[Printed]) -> Best:
    """Entry and metric of the best measured figures, each among at least two that compete.

    Floors and what stands in an appendix do not compete. What is not trained competes in every line of its test set,
    and where it is the best of a line that it does not stand in, none of that line is.
    """

    def side_of(entry: Entry) -> str:
        return entry.column if table.rivals == "lines" else entry.line

    floors = floor_names()
    section = {line.label: line.section for line in table.lines}
    able = [
        p for p in printed if p.rows and p.entry.method not in floors and section[p.entry.line] != "appendix"
    ]
    untrained: dict[tuple[str, str], list[Printed]] = {}
    groups: dict[tuple[str, str], list[Printed]] = {}
    for p in able:
        groups.setdefault((p.entry.block, side_of(p.entry)), []).append(p)
        if table.rivals == "columns" and not p.entry.train_dataset:
            untrained.setdefault((p.entry.dataset, p.entry.split), []).append(p)
    for group in groups.values():
        others = untrained.get((group[0].entry.dataset, group[0].entry.split), [])
        group += [p for p in others if p not in group]
    found = set()
    for (_, side), group in groups.items():
        for metric in METRICS if len(group) > 1 else ():
            values = [round(getattr(p, metric), 1) for p in group]
            top = max(values)
            ahead = [p.entry for p, value in zip(group, values, strict=True) if value == top]
            found |= {(entry, metric) for entry in ahead if side_of(entry) == side}
    return found


def note_of_best(table: Table, best: Best) -> list[str]:
    """What bold figures are, if there are any."""
    among, out = (
        ("column", "floors, and what stands below them,") if table.rivals == "lines" else ("line", "floors")
    )
    return [f"Bold: the best measured of a {among}; {out} do not compete."] if best else []


def number(value: float | None, spread: float | None = None) -> str:
    """`52.1 ± 0.8`; empty for nothing."""
    if value is None:
        return ""
    return f"{value:.1f}" if spread is None else f"{value:.1f} ± {spread:.1f}"


def _figure(printed: Printed | None, metric: str, best: Best) -> Text:
    if printed is None:
        return Text()
    main = number(getattr(printed, metric), getattr(printed, f"{metric}_std"))
    published = getattr(printed, f"published_{metric}")
    aside = "" if published is None else f"({published:.1f})"
    return Text(main, aside, (printed.entry, metric) in best)


def _as_in_paper(title: str, table: Table, printed: list[Printed], best: Best) -> Grid:
    """The table's lines and columns, those that have a figure; without brackets where all is published."""
    cells = {(p.entry.line, p.entry.column): p for p in printed if p.rows or p.published_iou is not None}
    labels, used = {line for line, _ in cells}, {column for _, column in cells}
    columns = [c for c in table.columns if c.label in used]
    lines = []
    for line in table.lines:
        if line.label in labels:
            texts = [_figure(cells.get((line.label, c.label)), m, best) for c in columns for m in METRICS]
            lines.append(GridLine((line.label,), line.marks, line.section, tuple(texts)))
    if not any(p.rows for p in printed):
        lines = _without_brackets(lines)
    spans = tuple(c.label + c.marks for c in columns)
    return Grid(title, ("", *("IoU", "Dice") * len(columns)), tuple(lines), spans)


def _without_brackets(lines: list[GridLine]) -> list[GridLine]:
    return [replace(line, texts=tuple(Text(text.aside.strip("()")) for text in line.texts)) for line in lines]


LONG = ("Line", "Method", "Variant", "Trained on", "Scored on", "Seeds", "IoU", "95 %", "Dice", "95 %")


def _long(title: str, table: Table, printed: list[Printed], best: Best) -> Grid:
    """One line for each cell that has a figure."""
    published = any(p.published_iou is not None for p in printed)
    marks = {line.label: line.marks for line in table.lines}
    lines = []
    for p in printed:
        if not p.rows and p.published_iou is None:
            continue
        e, seeds = p.entry, p.seeds if p.entry.train_dataset else ""
        words = (e.line, e.method, e.variant, e.train_dataset, f"{e.dataset} {e.split}", seeds)
        texts = []
        for metric in METRICS:
            text = replace(_figure(p, metric, best), aside="")
            texts += [text, Text(ends(p, metric))]
        if published:
            texts += [Text(number(p.published_iou)), Text(number(p.published_dice))]
        lines.append(GridLine(words, marks[e.line], e.dataset, tuple(texts)))
    return Grid(title, LONG + (("Published IoU", "Published Dice") if published else ()), tuple(lines))


def ends(printed: Printed, metric: str) -> str:
    """`50.2 to 54.0`: the interval over images; empty where it was not kept."""
    found = printed.interval(metric)
    return "" if found is None else f"{found[0]:.1f} to {found[1]:.1f}"


def strategies_grid(table: Table, printed: list[Printed]) -> Grid:
    """What the same masks score by every strategy: the declared one first, where a line has but one, then others."""
    matched = [p for p in printed if p.matched]
    cells: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for p in matched:
        for strategy, scores in strategies_of(p).items():
            cells.setdefault((p.entry.line, strategy), {})[p.entry.column] = scores
    columns = [c for c in table.columns if any(c.label in found for found in cells.values())]
    declared = {(p.entry.line, next(iter(strategies_of(p)))) for p in matched}
    first = ", the declared one first" if len(declared) == len({line for line, _ in declared}) else ""
    lines = [
        GridLine(
            (line, strategy),
            "",
            line,
            tuple(Text(number(found.get(c.label, {}).get(m))) for c in columns for m in METRICS),
        )
        for (line, strategy), found in cells.items()
    ]
    heads = ("", "strategy", *("IoU", "Dice") * len(columns))
    title = f"Appendix: the same masks by every strategy{first}, in percent"
    return Grid(title, heads, tuple(lines), tuple(c.label for c in columns))


def strategies_of(printed: Printed) -> dict[str, dict[str, float]]:
    """Strategy -> IoU and Dice in percent, means over seeds; the declared strategy first."""
    declared = printed.rows[0].protocol.split(", ")[0]
    first = {"iou": printed.iou or 0.0, "dice": printed.dice or 0.0}
    others = [s for s in printed.rows[0].alternatives if all(s in row.alternatives for row in printed.rows)]
    return {declared: first} | {s: {m: _mean_by(printed, s, m) for m in METRICS} for s in others}


def _mean_by(printed: Printed, strategy: str, metric: str) -> float:
    return 100 * statistics.fmean(row.alternatives[strategy][metric] for row in printed.rows)
