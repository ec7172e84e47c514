"""The survey's seconds: what a training took is counted once, and what is left of one is told."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from cell_helpers import cell

from benchmarks.cells import Cell
from benchmarks.status import describe, survey

MEASURED = {"finished": "2026-01-01T00:00:00+00:00", "segment_seconds": 7.0}


def put(runs: Path, which: Cell, file: str, content: dict[str, object]) -> Path:
    """A cell's folder with one JSON file."""
    folder = runs / "cells" / f"{which.split}-{which.seed}"
    folder.mkdir(parents=True)
    (folder / file).write_text(json.dumps(asdict(which) | content))
    return folder


def test_a_training_under_way_tells_what_is_left(tmp_path: Path) -> None:
    put(tmp_path, cell(), "config.json", {"fit_key": "f"})
    (tmp_path / "fits" / "f").mkdir(parents=True)
    (tmp_path / "fits" / "f" / "progress.jsonl").write_text('{"step": 2, "total": 8, "seconds": 10.0}\n')
    (state,) = survey(tmp_path, [])
    assert state.note.endswith("step 2 of 8 after 10 s, about 30 s left")


def test_a_training_that_two_test_sets_share_is_counted_once(tmp_path: Path) -> None:
    for split, seed, seconds in [("eval", 0, 20.0), ("test", 0, 20.0), ("test", 1, 30.0)]:
        took = MEASURED | {"train_seconds": seconds}
        (put(tmp_path, cell(split=split, seed=seed), "row.json", took) / "done").touch()
    (line,) = (line for line in describe(survey(tmp_path, []), everything=False) if "DRC full" in line)
    assert line.endswith("50 s        21 s")


def test_masks_that_are_read_otherwise_are_of_the_same_training(tmp_path: Path) -> None:
    for variant in ("full", "responsibilities"):
        took = MEASURED | {"train_seconds": 20.0}
        (put(tmp_path, cell(variant=variant, seed=len(variant)), "row.json", took) / "done").touch()
    fits = {state.fit for state in survey(tmp_path, [])}
    assert {(method, variant) for method, variant, *_ in fits} == {("DRC", "full")}
