"""The report's charts: matplotlib figures from printed cells and from what lies in a runs folder."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from benchmarks.cells import Row
from benchmarks.collect import Printed
from benchmarks.notes import floor_names, listed, name_of, place_of, variant_name
from benchmarks.paired import scores_of
from benchmarks.progress import read_record
from benchmarks.registry import DATASETS, METHODS
from benchmarks.rows import of_cell
from benchmarks.sources import drawn_before, source_of, text_of

PDF_METADATA = {"CreationDate": None, "ModDate": None}
DPI = 130
CURVES = 5
"""Trainings of one figure whose curves are drawn; more could not be told apart."""
WRAPPED = 12
"""Letters in a line under a column of a heat map."""
MARKERS = "osD^vPX"
"""Of methods in one figure, hollow, so that one is seen under another."""


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its file name without ending, what it shows in a sentence, and both formats."""

    name: str
    title: str
    about: str
    png: bytes
    pdf: bytes


@dataclass(frozen=True)
class Places:
    """Where to look for what is drawn."""

    runs: Path
    """Cells and trainings."""
    kept: Path
    """Kept rows, with the scores of their images."""
    figures: Path
    """Charts drawn before."""


def earlier_chart(name: str, rows: Iterable[Row], places: Places) -> list[Chart]:
    """The chart of that name as it was drawn before of just these rows, if it was."""
    png = drawn_before(places.figures / f"{name}.png", source_of(rows))
    pdf = places.figures / f"{name}.pdf"
    if png is None or not pdf.exists():
        return []
    said = text_of(png)
    return [Chart(name, said["Title"], said["Description"], png, pdf.read_bytes())]


def as_chart(name: str, title: str, about: str, figure: Any, rows: Iterable[Row]) -> Chart:
    """The figure, drawn of these rows, as PNG and as PDF, the same bytes each time."""
    files = []
    said = {"Software": None, "Title": title, "Description": about, "Source": source_of(rows)}
    for kind, metadata in (("png", said), ("pdf", PDF_METADATA)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        figure.set_layout_engine("none")  # it is laid out now
        files.append(buffer.getvalue())
    return Chart(name, title, about, *files)


def blank(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 3.6)) -> tuple[Any, Any]:
    """An empty figure and its axes, always as an array (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def distributions(printed: list[Printed], places: Places, stem: str, budget: str) -> list[Chart]:
    """For each set of scored images: per-image IoU of each method, as the share of images above a value.

    Of several seeds, each one's images count on their own.
    """
    groups: dict[tuple[str, str], list[Printed]] = {}
    for p in printed:
        if p.rows and p.entry.method not in floor_names():
            groups.setdefault((p.entry.dataset, p.entry.split), []).append(p)
    charts = []
    for (dataset, split), group in groups.items():
        name, rows = f"{stem}-iou-{dataset}-{split}", [row for p in group for row in p.rows]
        scored = [(p, scores_of(p, places.runs, places.kept)) for p in group]
        methods = [(p, found[1][:, 0].ravel()) for p, found in scored if found is not None]
        if len(methods) < len(group) and (earlier := earlier_chart(name, rows, places)):
            charts += earlier
            continue
        if not methods:
            continue
        figure, axes = blank()
        for p, iou in methods:
            at = np.concatenate([[0.0], np.sort(iou), [1.0]])
            share = 100 * np.concatenate([[1.0], 1 - np.arange(len(iou)) / len(iou), [0.0]])
            axes[0, 0].step(100 * at, share, where="pre", label=f"{name_of(p)} (mean {p.iou:.1f})")
        axes[0, 0].set(
            xlim=(0, 100), ylim=(0, 101), xlabel="IoU, percent", ylabel="images at or above, percent"
        )
        axes[0, 0].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        place = place_of(methods[0][0].entry)
        charts.append(
            as_chart(
                name,
                f"IoU of single images: {place}",
                f"How many images reach at least an IoU, by method, on {place}; {budget}.",
                figure,
                rows,
            )
        )
    return charts


def training_curves(printed: list[Printed], places: Places, stem: str, budget: str) -> list[Chart]:
    """One axis a method: what its training minimises, or the first value it keeps, against seconds.

    What segments a training otherwise has no axis of its own. Trainings of which no lines are here are named.
    """
    methods: dict[str, dict[str, list[dict[str, Any]]]] = {}
    rows: list[Row] = []
    trainings: dict[tuple[str, str], None] = {}
    for p in (p for p in printed if p.rows and METHODS[p.entry.method].trained):
        training_of = METHODS[p.entry.method].training_of
        for row in p.rows[:CURVES]:
            rows.append(row)
            name = variant_name(replace(p.entry, variant=training_of(p.entry.variant)))
            label = f"{row.train_dataset}, seed {row.seed}"
            trainings[name, label] = None
            if lines := training_lines(row, places.runs):
                methods.setdefault(name, {})[label] = lines
    lacking = [f"{name} ({label})" for name, label in trainings if label not in methods.get(name, {})]
    if lacking and (earlier := earlier_chart(f"{stem}-training", rows, places)):
        return earlier
    if not methods:
        return []
    figure, axes = blank(-(-len(methods) // 2), 2, (8.4, 2.5 * -(-len(methods) // 2)))
    for axis, (name, curves) in zip(axes.flat, methods.items(), strict=False):
        for label, lines in curves.items():
            key = curve_key(lines[0])
            x = [line["seconds"] for line in lines]
            y = [np.nan if line.get(key) is None else line[key] for line in lines]
            axis.plot(x, y, label=label, lw=1)
            axis.set_ylabel(key.replace("_", " "), fontsize=8)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("training seconds", fontsize=8)
        axis.tick_params(labelsize=7)
        if len(curves) > 1:
            axis.legend(fontsize=6, frameon=False)
    for axis in axes.flat[len(methods) :]:
        axis.set_visible(False)
    about = f"A quantity of each training against its seconds, at most {CURVES} seeds each; {budget}. Scales differ."
    if lacking:
        about += f" There are no curves here of {listed(lacking)}."
    return [as_chart(f"{stem}-training", "Training curves", about, figure, rows)]


def curve_key(line: dict[str, Any]) -> str:
    """The value to draw: the reconstruction if the method has one, else its first."""
    values = [name for name in line if name not in ("step", "total", "seconds")]
    return "reconstruction" if "reconstruction" in values else values[0]


def training_lines(row: Row, runs: Path) -> list[dict[str, Any]]:
    """The lines that the training of a row kept; none where they are not in this runs folder."""
    cell = of_cell(row, runs / "cells")
    if cell is None:
        return []
    try:
        config = json.loads((cell / "config.json").read_text(encoding="utf-8"))
        lines = read_record(runs / "fits" / config["fit_key"] / "progress.jsonl")
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [line for line in lines if len(line) > len(("step", "total", "seconds"))]


def accuracy_against_time(printed: list[Printed], stem: str, budget: str) -> list[Chart]:
    """For each set of scored images: IoU of each method against its training seconds."""
    places: dict[tuple[str, str], list[Printed]] = {}
    for p in printed:
        if p.rows and p.entry.train_dataset in ("", p.entry.dataset):
            places.setdefault((p.entry.dataset, p.entry.split), []).append(p)
    charts = []
    for (dataset, split), group in places.items():
        if not any(p.entry.train_dataset for p in group):
            continue
        figure, axes = blank()
        for p, marker in zip(group, cycle(MARKERS), strict=False):
            axes[0, 0].errorbar(
                p.train_seconds,
                p.iou,
                yerr=p.iou_std,
                fmt=marker,
                mfc="none",
                ms=8,
                capsize=3,
                label=name_of(p),
            )
        axes[0, 0].set(xlabel="training seconds", ylabel="IoU, percent", ylim=(0, 100))
        place = place_of(group[0].entry)
        axes[0, 0].set_title(f"{place}; {budget}", fontsize=8)
        axes[0, 0].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        about = f"IoU on {place} against training time; bars are the deviation over seeds; {budget}."
        charts.append(
            as_chart(
                f"{stem}-time-{dataset}-{split}",
                f"IoU against training time: {place}",
                about,
                figure,
                [row for p in group for row in p.rows],
            )
        )
    return charts


def cross_category(printed: list[Printed], stem: str, budget: str) -> list[Chart]:
    """A heat map for each method that was scored elsewhere too: IoU in each place after each training."""
    methods: dict[str, dict[tuple[str, str], Printed]] = {}
    for p in printed:
        if p.rows and p.entry.train_dataset:
            e = p.entry
            methods.setdefault(variant_name(e), {})[e.train_dataset, place_of(e)] = p
    maps = {
        method: cells
        for method, cells in methods.items()
        if all(len(set(names)) > 1 for names in zip(*cells, strict=True))
        and any(p.entry.train_dataset != p.entry.dataset for p in cells.values())
    }
    if not maps:
        return []
    trainings, places = (list(dict.fromkeys(pair[i] for m in maps.values() for pair in m)) for i in (0, 1))
    figure, axes = blank(1, len(maps), ((0.8 * len(places) + 1.8) * len(maps), 0.8 * len(trainings) + 1.8))
    for axis, (method, cells) in zip(axes.flat, maps.items(), strict=True):
        trained, tested = (list(dict.fromkeys(pair[i] for pair in cells)) for i in (0, 1))
        values = [[_value(cells.get((a, b))) for b in tested] for a in trained]
        shown = axis.imshow(values, vmin=0, vmax=100, cmap="viridis")
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                colour = "white" if value < 60 else "black"
                axis.text(
                    j, i, "–" if np.isnan(value) else f"{value:.1f}", ha="center", va="center", color=colour
                )
        axis.set_title(method, fontsize=9)
        axis.set_xticks(range(len(tested)), [_short(place) for place in tested], fontsize=7)
        axis.set_yticks(range(len(trained)), [_short(DATASETS[name].label) for name in trained], fontsize=7)
        axis.set(xlabel="tested on", ylabel="trained on")
        figure.colorbar(shown, ax=axis, shrink=0.8, label="IoU, percent")
    origins = listed(DATASETS[name].label for name in trainings)
    about = f"IoU after training on each of {origins}, scored on {listed(places, '; ')}; {budget}."
    rows = [row for cells in maps.values() for p in cells.values() for row in p.rows]
    return [as_chart(f"{stem}-cross-category", "Across categories", about, figure, rows)]


def _value(printed: Printed | None) -> float:
    return float("nan") if printed is None or printed.iou is None else printed.iou


def _short(label: str) -> str:
    """The label of a data set or place, in lines that fit under one column of a heat map."""
    return "\n".join(fill(part, WRAPPED) for part in label.replace(" (split)", "").split(", "))


def charts_of(printed: list[Printed], places: Places, stem: str, budget: str) -> Iterable[Chart]:
    """Every chart that these cells give, or gave where what was drawn lay."""
    yield from accuracy_against_time(printed, stem, budget)
    yield from cross_category(printed, stem, budget)
    yield from distributions(printed, places, stem, budget)
    yield from training_curves(printed, places, stem, budget)
