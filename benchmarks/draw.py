"""A laid-out table as a picture."""

from __future__ import annotations

import io
import textwrap
from typing import Any

from benchmarks.grid import Grid, Layout

LINE, NOTE = 0.26, 0.17  # inches from one line to the next
FIRST, OTHER = 1.75, 1.3  # inches of the first column and of the others


def to_png(layout: Layout) -> bytes:
    """The table with its notes as PNG, ruled as in print."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = max([6.5, *[FIRST + OTHER * 2 * len(g.columns) for g in layout.grids]]) + 0.4
    notes = [
        line
        for note in layout.notes
        for line in textwrap.wrap(note, int(width * 15), subsequent_indent="   ")
    ]
    height = 0.6 + sum(_grid_height(g) for g in layout.grids) + NOTE * len(notes) + 0.2
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.2, 0.3, f"Table {layout.number}. {layout.title}", size=12, weight="bold", va="center")
    y = 0.6
    for grid in layout.grids:
        _draw_grid(axes, grid, y)
        y += _grid_height(grid)
    for i, line in enumerate(notes):
        axes.text(0.2, y + NOTE * (i + 0.5), line.replace("$", r"\$"), size=7, va="center", color="0.25")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _grid_height(grid: Grid) -> float:
    return LINE * (len(grid.lines) + 4.2)


def _draw_grid(axes: Any, grid: Grid, y: float) -> None:
    """Title, two lines of heads, the lines; rules above, below and between sections."""
    right = 0.2 + FIRST + OTHER * 2 * len(grid.columns)

    def rule(at: float, left: float = 0.2, end: float = right, weight: float = 0.6) -> None:
        axes.plot([left, end], [at, at], color="black", lw=weight)

    axes.text(0.2, y + LINE / 2, grid.title, size=8.5, style="italic", va="center")
    y += LINE
    rule(y, weight=1.2)
    for i, column in enumerate(grid.columns):
        left = 0.2 + FIRST + OTHER * 2 * i
        axes.text(left + OTHER, y + LINE / 2, column, size=9, ha="center", va="center")
        rule(y + LINE, left + 0.1, left + 2 * OTHER - 0.03)
        for j, metric in enumerate(("IoU", "Dice")):
            axes.text(left + OTHER * (j + 1) - 0.05, y + 1.5 * LINE, metric, size=9, ha="right", va="center")
    y += 2 * LINE
    section = None
    for line in grid.lines:
        if line.section != section:
            rule(y)
        section = line.section
        axes.text(0.2, y + LINE / 2, line.label + line.marks, size=9, va="center")
        for i, text in enumerate(line.texts):
            colour = "0.45" if text.startswith("(") else "black"
            axes.text(
                0.2 + FIRST + OTHER * (i + 1) - 0.05,
                y + LINE / 2,
                text,
                size=9,
                ha="right",
                va="center",
                color=colour,
            )
        y += LINE
    rule(y, weight=1.2)
