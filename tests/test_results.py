"""The committed results: every row is of this code's settings and data, and what takes seconds is measured again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.cells import Row, read_row
from benchmarks.data import Library
from benchmarks.jobs import Job, row_command
from benchmarks.registry import DATASETS, METHODS
from benchmarks.rows import AGREE, read_kept
from benchmarks.runs import Runner
from benchmarks.validate import TASKS

RESULTS = Path(__file__).parents[1] / "results"
ROWS, FAULTS = read_kept(RESULTS / "rows")
QUICK = [row for row in ROWS if not METHODS[row.method].trained and DATASETS[row.test_dataset].generated]


def label(row: Row) -> str:
    return f"{row.method}-{row.variant}-{row.train_dataset}-{row.test_dataset}-{row.split}-{row.preset}-{row.seed}"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Library]:
    """The data sets of each budget, made on the spot."""
    return {name: Library(tmp_path_factory.mktemp(name), name) for name in {row.preset for row in ROWS}}


def test_there_are_rows_and_none_is_faulty_or_there_twice() -> None:
    assert ROWS
    assert FAULTS == []
    assert len({row.cell for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_a_row_says_where_it_comes_from(row: Row) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", row.commit), "measured with changes that no commit holds"
    assert row.command == row_command(row.cell)
    assert row.device
    assert {"python", "torch", "numpy"} <= set(row.versions)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_its_command_would_make_that_very_row(row: Row, libraries: dict[str, Library]) -> None:
    """The key covers all settings and both data sets, so an outdated row has another."""
    if not DATASETS[row.test_dataset].generated:
        pytest.skip(f"{row.test_dataset} is not made on the spot")
    assert Job(row.cell, libraries[row.preset]).key == row.key


@pytest.mark.parametrize("row", QUICK, ids=label)
def test_what_needs_no_training_gives_the_same_figure(
    row: Row, libraries: dict[str, Library], tmp_path: Path
) -> None:
    runner = Runner(tmp_path, libraries[row.preset], device="cpu")
    assert runner.run(row.cell).status == "computed"
    again = read_row(tmp_path / "cells" / row.key / "row.json")
    assert again.iou == pytest.approx(row.iou, abs=AGREE)
    assert again.dice == pytest.approx(row.dice, abs=AGREE)


def test_the_validation_was_of_these_tasks_reached_them_and_is_in_the_docs() -> None:
    found = json.loads((RESULTS / "validate.json").read_text(encoding="utf-8"))
    page = (RESULTS.parent / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert {row["method"]: row["target"] for row in found} == {name: t.target for name, t in TASKS.items()}
    for row in found:
        assert row["reached"] >= row["target"]
        assert row["train_steps"] == TASKS[row["method"]].changes["train_steps"]
        assert re.search(rf"^\| {row['method']} \|.*\| {row['reached']:.3f} \|$", page, re.MULTILINE)
