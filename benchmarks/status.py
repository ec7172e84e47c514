"""What is done, running, failed and missing below a runs folder; quick, as it opens no data set and no method."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, cell_of
from benchmarks.files import last_line
from benchmarks.locks import holder
from benchmarks.registry import METHODS
from benchmarks.tables import fit_of

STATES = ("done", "running", "failed", "stopped", "missing")
LISTED = 20
"""So many cells of a state are listed unless all are asked for."""


@dataclass(frozen=True)
class State:
    """Where a cell stands."""

    cell: Cell
    state: str
    """done | running | failed | stopped (begun, and nobody is at it) | missing (never begun)"""
    note: str = ""
    train_seconds: float = 0.0
    segment_seconds: float = 0.0
    fit: tuple[Any, ...] = ()
    """What cells of one training share, so that its seconds are counted once."""


def survey(runs: Path, planned: Iterable[Cell]) -> list[State]:
    """The state of every cell below `runs`, then of those planned that are not there.

    A folder whose settings cannot be read is passed over.
    """
    found = []
    if (runs / "cells").is_dir():
        with os.scandir(runs / "cells") as folders:
            for folder in sorted(folders, key=lambda entry: entry.name):
                state = _look(Path(folder.path), runs)
                found += [state] if state else []
    known = {state.cell for state in found}
    return found + [State(cell, "missing") for cell in dict.fromkeys(planned) if cell not in known]


def describe(states: list[State], *, everything: bool) -> Iterator[str]:
    """The survey as lines for a terminal."""
    counts = {name: sum(s.state == name for s in states) for name in STATES}
    yield ", ".join(f"{count} {name}" for name, count in counts.items())
    groups: dict[tuple[str, str, str], list[State]] = {}
    for state in states:
        groups.setdefault((state.cell.method, state.cell.variant, state.cell.preset), []).append(state)
    if groups:
        yield ""
        yield f"{'method':<40}{'budget':<16}" + "".join(f"{n:>9}" for n in STATES) + "   training  segmenting"
    for (method, variant, preset), group in sorted(groups.items()):
        numbers = "".join(f"{sum(s.state == name for s in group):>9}" for name in STATES)
        training = sum({s.fit: s.train_seconds for s in group}.values())
        segmenting = sum(s.segment_seconds for s in group)
        yield f"{method + ' ' + variant:<40}{preset:<16}{numbers}{_time(training):>11}{_time(segmenting):>12}"
    for name in STATES[1:] if not everything else STATES:
        mine = [state for state in states if state.state == name]
        shown = mine if everything else mine[:LISTED]
        if shown:
            yield ""
            yield f"{name}:"
            yield from (f"  {s.cell}{s.note and ': ' + s.note}" for s in shown)
            if len(mine) > len(shown):
                yield f"  and {len(mine) - len(shown)} more (--all lists them)"


def _look(folder: Path, runs: Path) -> State | None:
    try:
        names = set(os.listdir(folder))  # noqa: PTH208, one call where a glob would make many objects
        content = json.loads((folder / ("row.json" if "done" in names else "config.json")).read_bytes())
        cell = cell_of(content)
        if "done" in names:
            fit = fit_of(cell) if cell.method in METHODS else (cell,)
            seconds = float(content["train_seconds"]), float(content["segment_seconds"])
            note = f"{content['finished']}, {_time(seconds[0])} training, {_time(seconds[1])} segmenting"
            return State(cell, "done", note, *seconds, fit)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    who = holder(folder) if "lock" in names else None
    if who:
        return State(cell, "running", f"{who}{_progress(runs, content.get('fit_key'))}")
    if "error.txt" in names:
        return State(
            cell,
            "failed",
            f"{last_line(folder / 'error.txt')} (run it again; where several processes do, with --retry)",
        )
    return State(cell, "stopped", f"goes on when it is run again{_progress(runs, content.get('fit_key'))}")


def _progress(runs: Path, fit_key: str | None) -> str:
    """How far a training is, by the last line of its progress.jsonl; empty while that is being written."""
    if fit_key is None:
        return ""
    try:
        line = json.loads(last_line(runs / "fits" / fit_key / "progress.jsonl"))
        step, total, seconds = int(line["step"]), int(line["total"]), float(line["seconds"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return ""
    left = seconds / step * (total - step) if step else 0.0
    return f", step {step} of {total} after {_time(seconds)}, about {_time(left)} left"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
