"""Two methods on the same images: how far one is ahead, and how sure that is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.collect import Printed
from benchmarks.grid import METRICS, Grid, GridLine, Text
from benchmarks.notes import floor_names, name_of, place_of
from benchmarks.rows import find_scores
from benchmarks.tables import Entry, headline
from benchmarks.uncertainty import Interval, paired_difference

REFERENCE = "DRC"
"""Its headline variant is compared with everything else; where it is not measured, the first method is."""

Difference = tuple[Printed, Printed, dict[str, Interval]]
"""The reference, another method, and for iou and dice by how many points the reference is ahead."""


def differences(printed: list[Printed], runs: Path, kept: Path) -> list[Difference]:
    """The reference against what was scored on the same images and trained on the same, or not trained.

    What is not trained is compared with the reference that was trained on the scored data set itself. Floors,
    and what has no scores of single images below `runs` or beside the `kept` rows, are left out.
    """
    places: dict[tuple[str, str], list[Printed]] = {}
    floors = floor_names()
    for p in printed:
        if p.rows and p.entry.method not in floors:
            places.setdefault((p.entry.dataset, p.entry.split), []).append(p)
    found = []
    for group in places.values():
        for one in _references(group):
            for other in group:
                if _comparable(one.entry, other.entry):
                    intervals = _compare(one, other, runs, kept)
                    found += [(one, other, intervals)] if intervals else []
    return found


def difference_grid(found: list[Difference]) -> Grid:
    """``−34.9 (−37.0 to −32.9)`` for each pair."""
    lines = [
        GridLine(
            (f"{name_of(one)} minus {name_of(other)}", place_of(one.entry)),
            "",
            one.entry.dataset,
            tuple(Text(_words(intervals[metric])) for metric in METRICS),
        )
        for one, other, intervals in found
    ]
    title = "Differences on the same images, in points, with the bootstrap 95 % interval over images"
    return Grid(title, ("", "scored on", "IoU", "Dice"), tuple(lines))


def _comparable(one: Entry, other: Entry) -> bool:
    if (one.method, one.variant) == (other.method, other.variant):
        return False
    if other.train_dataset:
        return other.train_dataset == one.train_dataset
    return one.train_dataset in ("", one.dataset)


def _references(group: list[Printed]) -> list[Printed]:
    """One for each training set."""
    ours = [p for p in group if (p.entry.method, p.entry.variant) == (REFERENCE, headline(REFERENCE))]
    return list({p.entry.train_dataset: p for p in reversed(ours)}.values())[::-1] or group[:1]


def _compare(one: Printed, other: Printed, runs: Path, kept: Path) -> dict[str, Interval]:
    a, b = scores_of(one, runs, kept), scores_of(other, runs, kept)
    if a is None or b is None or a[0] != b[0] or one.rows[0].data_sha256 != other.rows[0].data_sha256:
        return {}
    return {
        metric: paired_difference(100 * x, 100 * y) for metric, x, y in zip(METRICS, a[1], b[1], strict=True)
    }


def scores_of(printed: Printed, runs: Path, kept: Path) -> tuple[list[str], np.ndarray] | None:
    """Images' ids and their IoU and Dice, (2, N), each the mean over seeds; None if a file is not there."""
    ids, scores = [], []
    for row in printed.rows:
        try:
            with find_scores(row, runs / "cells", kept).open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
            ids.append([line["id"] for line in lines])
            scores.append([[float(line[metric]) for line in lines] for metric in METRICS])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    if not ids or not ids[0] or any(found != ids[0] for found in ids):
        return None
    return ids[0], np.mean(np.array(scores), axis=0)


def _words(interval: Interval) -> str:
    return f"{interval.mean:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"
