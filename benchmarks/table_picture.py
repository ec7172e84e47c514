"""A laid-out table as a picture."""

from __future__ import annotations

import io
import itertools
import textwrap
from typing import Any

from PIL import Image

from benchmarks.grid import Grid, Layout

LINE, NOTE = 0.26, 0.17  # inches from one line to the next
LETTER, GAP = 0.075, 0.2  # inches of a letter, and between columns
LEFT = 0.2  # inches of the margin
DRAWN = 120
"""So many lines of a grid are drawn; a picture of more could not be looked at."""


def to_png(layout: Layout) -> bytes:
    """The table with its notes as PNG, ruled as in print."""
    from matplotlib.figure import Figure

    width = max([6.5, *[_ends(grid)[-1] for grid in layout.grids]]) + 0.4
    notes = [
        line
        for note in layout.notes
        for line in textwrap.wrap(note, int(width * 15), subsequent_indent="   ")
    ]
    height = 0.6 + sum(_grid_height(grid) for grid in layout.grids) + NOTE * len(notes) + 0.2
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(LEFT, 0.3, _plain(layout.heading), size=12, weight="bold", va="center")
    y = 0.6
    for grid in layout.grids:
        _draw_grid(axes, grid, y)
        y += _grid_height(grid)
    for i, line in enumerate(notes):
        axes.text(LEFT, y + NOTE * (i + 0.5), _plain(line), size=7, va="center", color="0.25")
    return _grey(figure)


def _grey(figure: Any) -> bytes:
    """A figure of black, white and greys as PNG of 16 greys, which takes a third of the four channels drawn."""
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as picture:
        greys = picture.convert("L").quantize(16, dither=Image.Dither.NONE)
        greys.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _grid_height(grid: Grid) -> float:
    return LINE * (min(len(grid.lines), DRAWN) + 3.2 + bool(grid.spans) + (len(grid.lines) > DRAWN))


def _ends(grid: Grid) -> list[float]:
    """Where each column ends, in inches."""
    widths = [len(head) for head in grid.heads]
    for line in grid.lines[:DRAWN]:
        cells = [*line.marked, *map(str, line.texts)]
        widths = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
    for i, span in enumerate(grid.spans):
        at = grid.words + 2 * i
        widths[at] += max(0, len(span) - widths[at] - widths[at + 1])
    return list(itertools.accumulate((LETTER * w + GAP for w in widths), initial=LEFT))[1:]


def _draw_grid(axes: Any, grid: Grid, y: float) -> None:
    """Title, two lines of heads, the lines; rules above, below and between sections."""
    ends, words = _ends(grid), grid.words
    starts = [LEFT, *ends]

    def rule(at: float, left: float = LEFT, end: float = ends[-1], weight: float = 0.6) -> None:
        axes.plot([left, end], [at, at], color="black", lw=weight)

    def write(i: int, text: str, at: float, **look: Any) -> None:
        x, side = (starts[i], "left") if i < words else (ends[i] - 0.05, "right")
        axes.text(x, at + LINE / 2, _plain(text), size=9, ha=side, va="center", **look)

    axes.text(LEFT, y + LINE / 2, _plain(grid.title), size=8.5, style="italic", va="center")
    y += LINE
    rule(y, weight=1.2)
    for i, span in enumerate(grid.spans):
        left, right = starts[words + 2 * i], ends[words + 2 * i + 1]
        axes.text((left + right) / 2, y + LINE / 2, _plain(span), size=9, ha="center", va="center")
        rule(y + LINE, left + 0.1, right - 0.03)
    y += LINE if grid.spans else 0
    for i, head in enumerate(grid.heads):
        write(i, head, y)
    y += LINE
    section = None
    for line in grid.lines[:DRAWN]:
        if line.section != section:
            rule(y)
        section = line.section
        for i, word in enumerate(line.marked):
            write(i, word, y)
        for i, text in enumerate(line.texts, words):
            look = {"weight": "bold"} if text.best else {}
            write(i, str(text), y, color="black" if text.main else "0.45", **look)
        y += LINE
    rule(y, weight=1.2)
    if len(grid.lines) > DRAWN:
        axes.text(LEFT, y + LINE / 2, f"and {len(grid.lines) - DRAWN} lines more: see the CSV", size=8)


def _plain(text: str) -> str:
    """Without what matplotlib would take for a formula."""
    return text.replace("$", r"\$")
