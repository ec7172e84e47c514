"""Training curves as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

CURVES = {
    "reconstruction error, mean |x̂ - x|": ("reconstruction",),
    "foreground share": ("foreground",),
    "likelihood terms of Eq. 12": ("likelihood", "partitioning", "generation"),
    "log-prior term of Eq. 12": ("log_prior",),
    "energies of the chains": ("energy_posterior", "energy_prior"),
    "energy gap, posterior - prior": ("lebm",),
    "norms of the chains, RMS of z": ("z_norm", "z_norm_prior"),
    "total variation": ("tv",),
    "pseudo labels, cross-entropy": ("pseudo_fg", "pseudo_bg"),
    "orthogonality": ("ortho",),
}
"""Title -> the values drawn together."""


def draw_curves(lines: Sequence[dict[str, float | None]]) -> bytes:
    """The lines of progress.jsonl, each with "step", as PNG: every value faint, its running mean strong.

    A value that no title is known for gets a curve under its own name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    present = {name for line in lines for name in line} - {"step", "total", "seconds"}
    curves = {title: tuple(n for n in names if n in present) for title, names in CURVES.items()}
    known = {name for names in CURVES.values() for name in names}
    curves |= {name: (name,) for name in sorted(present - known)}
    curves = {title: names for title, names in curves.items() if names}
    steps = np.array([line["step"] for line in lines], dtype=float)
    rows = -(-len(curves) // 3)
    figure = Figure(figsize=(12, 2.6 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(rows, 3, place)
        for name in names:
            values = np.array(
                [np.nan if line.get(name) is None else line[name] for line in lines], dtype=float
            )
            (faint,) = axes.plot(steps, values, alpha=0.3, linewidth=0.7)
            axes.plot(steps, running_mean(values), color=faint.get_color(), label=name)
        axes.set_title(title, size=9)
        axes.tick_params(labelsize=7)
        if len(names) > 1:
            axes.legend(fontsize=7)
        if place > len(curves) - 3:
            axes.set_xlabel("step", size=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last twentieth of all values up to each one, NaN left out; NaN where there is none."""
    window = max(1, len(values) // 20)
    there = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(there, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(there)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])
