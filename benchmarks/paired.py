"""Two methods on the same images: how far one is ahead, and how sure that is."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.collect import Printed
from benchmarks.errors import BenchmarkError
from benchmarks.grid import METRICS, Grid, GridLine, Text
from benchmarks.notes import floor_names, listed, name_of, place_of
from benchmarks.registry import METHODS
from benchmarks.rows import find_scores, read_scores
from benchmarks.tables import Entry, headline
from benchmarks.uncertainty import Interval, paired_difference

log = logging.getLogger(__name__)

REFERENCE = "DRC"
"""Its headline variant is compared with everything else; where it is not measured, the first method is. Variants that
only segment the headline's training otherwise are compared with the other methods too."""

NAMES = ("method", "other", "dataset", "split")
"""By which a file of differences names a pair."""
ROUNDED = 0.051
"""Points by which a difference may miss that of two figures, rounded as it is."""

Difference = tuple[Printed, Printed, dict[str, Interval]]
"""The reference, another method, and for iou and dice by how many points the reference is ahead."""


def differences(printed: list[Printed], runs: Path, kept: Path, earlier: Path) -> list[Difference]:
    """The reference against what was scored on the same images and trained on the same, or not trained.

    What is not trained is compared with the reference that was trained on the scored data set itself, or stands in the
    same line. Two that were trained are compared with the seeds that both have, and the two `Printed` hold just their
    rows. Floors are left out. Scores of single images are taken from below `runs` or from beside the `kept` rows;
    where they are in neither, the difference is taken over from the file `earlier`, if that has the same figures.
    """
    before = _read_earlier(earlier)
    found = []
    for one, other in _pairs(printed):
        intervals = _compare(one, other, runs, kept) or _carried(one, other, before)
        found += [(one, other, intervals)] if intervals else []
    return found


def unpaired(printed: list[Printed], found: list[Difference]) -> list[str]:
    """A note on the pairs of which no difference was found, if there are any."""
    there = {(one.entry, other.entry) for one, other, _ in found}
    names = [
        f"{name_of(one)} and {name_of(other)} ({place_of(one.entry)})"
        for one, other in _pairs(printed)
        if (one.entry, other.entry) not in there
    ]
    return (
        [
            f"No difference is shown for {listed(names)}: the scores of their single images are not here, or they "
            "have no seed in common."
        ]
        if names
        else []
    )


def _pairs(printed: list[Printed]) -> list[tuple[Printed, Printed]]:
    """What can be compared: references, each with the others on its images, both with the seeds that both have."""
    places: dict[tuple[str, str], list[Printed]] = {}
    floors = floor_names()
    for p in printed:
        if p.rows and p.entry.method not in floors:
            places.setdefault((p.entry.dataset, p.entry.split), []).append(p)
    return [
        _with_the_same_seeds(one, other)
        for group in places.values()
        for one in _references(group)
        for other in group
        if _comparable(one.entry, other.entry)
    ]


def difference_grid(found: list[Difference]) -> Grid:
    """`-34.9 (-37.0 to -32.9)` for each pair."""
    lines = [
        GridLine(
            (f"{name_of(one)} minus {name_of(other)}", place_of(one.entry), seeds_of_pair(one, other)),
            "",
            one.entry.dataset,
            tuple(Text(_words(intervals[metric])) for metric in METRICS),
        )
        for one, other, intervals in found
    ]
    title = "Differences on the same images, in points, with the bootstrap 95 % interval over images"
    return Grid(title, ("", "scored on", "seeds", "IoU", "Dice"), tuple(lines))


def seeds_of_pair(one: Printed, other: Printed) -> str:
    """The seeds whose mean a difference is: those of a method that is trained, if either is."""
    return (one if one.entry.train_dataset else other).seeds


def _with_the_same_seeds(one: Printed, other: Printed) -> tuple[Printed, Printed]:
    """Both with the rows of the seeds that both have; what is not trained stands beside every seed."""
    if not (one.entry.train_dataset and other.entry.train_dataset):
        return one, other
    shared = {row.seed for row in one.rows} & {row.seed for row in other.rows}
    one, other = (replace(p, rows=tuple(row for row in p.rows if row.seed in shared)) for p in (one, other))
    return one, other


def _comparable(one: Entry, other: Entry) -> bool:
    if one.method == other.method and one.variant in (other.variant, *METHODS[one.method].taken_over):
        return False
    if other.train_dataset:
        return other.train_dataset == (one.train_dataset or one.dataset)
    return one.train_dataset in ("", one.dataset) or one.line == other.line


def _references(group: list[Printed]) -> list[Printed]:
    """One for each training set and way to segment; the first there is where the reference was not measured."""
    training_of, whose = METHODS[REFERENCE].training_of, headline(REFERENCE)
    found: dict[tuple[str, str], Printed] = {}
    for p in group:
        if p.entry.method == REFERENCE and training_of(p.entry.variant) == whose:
            found.setdefault((p.entry.train_dataset, p.entry.variant), p)
    return list(found.values()) or group[:1]


def _compare(one: Printed, other: Printed, runs: Path, kept: Path) -> dict[str, Interval]:
    a, b = scores_of(one, runs, kept), scores_of(other, runs, kept)
    images = {row.data_sha256 for row in (*one.rows, *other.rows)}
    if a is None or b is None or a[0] != b[0] or len(images) > 1:
        return {}
    means = (scores.mean(axis=0) for _, scores in (a, b))  # over seeds, for each image
    return {metric: paired_difference(100 * x, 100 * y) for metric, x, y in zip(METRICS, *means, strict=True)}


def _read_earlier(file: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Lines of an earlier file of differences; none where it is not there or of another shape."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return {tuple(line[name] for name in NAMES): line for line in csv.DictReader(lines)}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def _carried(
    one: Printed, other: Printed, before: dict[tuple[str, ...], dict[str, str]]
) -> dict[str, Interval]:
    """The difference as an earlier file has it, if the two figures still lie just so far apart."""
    line = before.get((name_of(one), name_of(other), one.entry.dataset, one.entry.split))
    seeds = seeds_of_pair(one, other)
    if line is None or line.get("seeds", seeds) != seeds or not one.rows:
        return {}
    found = {}
    try:
        for metric in METRICS:
            mean, low, high = (float(line[f"{metric}_{part}"]) for part in ("difference", "low", "high"))
            same = abs(mean - (getattr(one, metric) - getattr(other, metric))) <= ROUNDED
            if not same or int(line["n_images"]) != one.rows[0].n_images:
                return {}
            found[metric] = Interval(mean, low, high)
    except (ValueError, KeyError, TypeError):
        return {}
    return found


def scores_of(printed: Printed, runs: Path, kept: Path) -> tuple[list[str], np.ndarray] | None:
    """Images' ids and their IoU and Dice, (S, 2, N) for S seeds; None if a file is not there, or not the row's."""
    ids, scores = [], []
    for row in printed.rows:
        file = find_scores(row, runs / "cells", kept)
        if not file.exists():
            return None
        try:
            names, values = read_scores(row, file)
        except BenchmarkError as error:
            _warn(f"not compared by it: {error}")
            return None
        ids.append(names)
        scores.append(values)
    if not ids or any(found != ids[0] for found in ids):
        return None
    return ids[0], np.array(scores)


@cache
def _warn(text: str) -> None:
    """Say it once, however many differences want the file."""
    log.warning("%s", text)


def _words(interval: Interval) -> str:
    return f"{interval.mean:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"
