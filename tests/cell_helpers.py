"""What the tests of the cell runner share: a cell, a runner, and what a cell left behind."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cells import Cell, make_cell
from benchmarks.data import Library
from benchmarks.jobs import Job
from benchmarks.runs import Runner


def cell(method: str = "DRC", *, variant: str = "full", split: str = "test", seed: int = 0) -> Cell:
    return make_cell(method, variant, "tm-dsprites", "tm-dsprites", split, "smoke", seed)


def runner(data: Path, runs: Path, **options: object) -> Runner:
    return Runner(runs, Library(data, "smoke"), device="cpu", **options)  # type: ignore[arg-type]


def folder_of(data: Path, runs: Path, which: Cell) -> Path:
    return runs / "cells" / Job(which, Library(data, "smoke")).key


def result(data: Path, runs: Path, which: Cell) -> tuple[str, str]:
    """What must not depend on how the cell came about: the per-image scores and the final state."""
    job = Job(which, Library(data, "smoke"))
    state = runs / "fits" / job.fit_key / "checkpoints" / "state.json"
    return (runs / "cells" / job.key / "scores.csv").read_text(), state.read_text()
