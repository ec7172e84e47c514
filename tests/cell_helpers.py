"""What the tests of the cell runner share: a cell, a runner, and what a cell left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.cells import Cell, Row, make_cell
from benchmarks.data import Library
from benchmarks.jobs import Job
from benchmarks.runs import Runner


def cell(method: str = "DRC", *, variant: str = "full", split: str = "test", seed: int = 0) -> Cell:
    return make_cell(method, variant, "tm-dsprites", "tm-dsprites", split, "smoke", seed)


def runner(data: Path, runs: Path, **options: object) -> Runner:
    return Runner(runs, Library(data, "smoke"), device="cpu", **options)  # type: ignore[arg-type]


def keep_row(runs: Path, row: Row | dict[str, Any]) -> Path:
    """The folder of a cell that was run, with nothing in it but its row, which may be given as JSON has it."""
    values = row.to_json() if isinstance(row, Row) else row
    folder = runs / "cells" / values["key"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "row.json").write_text(json.dumps(values))
    (folder / "done").touch()
    return folder


def keep_scores(runs: Path, row: Row, lines: str) -> None:
    """The same with the scores of its images, a line `id,iou,dice` each."""
    (keep_row(runs, row) / "scores.csv").write_text("id,iou,dice\n" + lines)


def folder_of(data: Path, runs: Path, which: Cell) -> Path:
    return runs / "cells" / Job(which, Library(data, "smoke")).key


def result(data: Path, runs: Path, which: Cell) -> tuple[str, str]:
    """What must not depend on how the cell came about: the per-image scores and the final state."""
    job = Job(which, Library(data, "smoke"))
    state = runs / "fits" / job.fit_key / "checkpoints" / "state.json"
    return (runs / "cells" / job.key / "scores.csv").read_text(), state.read_text()


def invoke(tmp_path: Path, *words: str, data: Path | None = None) -> Result:
    """The command under `smoke` on the CPU, its folders below `tmp_path`."""
    places = ["--data", str(data or tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    if words[0] != "status":
        places += ["--results", str(tmp_path / "results"), "--device", "cpu"]
    return CliRunner().invoke(main, [words[0], "--preset", "smoke", *words[1:], *places])
