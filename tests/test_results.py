"""The committed results: every row is of this code's settings and data, and what takes seconds is measured again."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from benchmarks.cells import Row, read_row
from benchmarks.collect import print_cells, seeds_of
from benchmarks.data import Library
from benchmarks.jobs import Job, row_command
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES
from benchmarks.render import to_csv
from benchmarks.rows import AGREE, Stored, merge, read_kept
from benchmarks.runs import Runner
from benchmarks.tables import load_table
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
    assert re.fullmatch(r"[0-9a-f]{40}(, scored at [0-9a-f]{40})?", row.commit), (
        "measured with changes that no commit holds"
    )
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


@pytest.mark.parametrize(
    ("number", "preset"),
    [(n, p) for n in TABLES for p in PRESETS if (RESULTS / f"{load_table(n).stem(p)}.csv").exists()],
)
def test_the_rendered_tables_are_those_of_the_rows(number: str, preset: str) -> None:
    table = load_table(number)
    file = RESULTS / f"{table.stem(preset)}.csv"
    stored = Stored()
    merge([], ROWS, stored)
    printed = print_cells(table, preset, seeds_of(table, preset, stored), stored, lambda entry: "")
    with file.open(newline="", encoding="utf-8") as lines:
        rendered = list(csv.DictReader(lines))
    figures = ("method", "dataset", "split", "iou", "iou_std", "dice", "dice_std", "seeds", "n_images")
    again = list(csv.DictReader(io.StringIO(to_csv(table, printed))))
    assert [[line[name] for name in figures] for line in rendered] == [
        [line[name] for name in figures] for line in again
    ]


def test_the_figures_of_the_readme_are_those_of_the_table() -> None:
    readme = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    with (RESULTS / "table1.csv").open(newline="", encoding="utf-8") as lines:
        found = {(x["method"], x["variant"], x["split"]): x for x in csv.DictReader(lines) if x["iou"]}
    names = {
        "GrabCut, 1-pixel border": ("GrabCut", "border"),
        "ReDO, an oracle chooses its region": ("ReDO", "full"),
        "IODINE, likewise": ("IODINE", "full"),
        "Slot-Attention, likewise": ("Slot-Attention", "full"),
        "DRC, inferred from noise, nothing matched": ("DRC", "full"),
        "everything called foreground": ("all-foreground", "fixed"),
        "a centred ellipse of half the area": ("centred-ellipse", "fixed"),
    }
    for name, (method, variant) in names.items():
        (line,) = [x for x in readme.replace("**", "").splitlines() if x.startswith(f"| {name} |")]
        cells = [cell.strip() for cell in line.split("|")[2:4]]
        for cell, split in zip(cells, ("eval", "test"), strict=True):
            values = found[method, variant, split]
            said = [
                values[metric] + (f" ± {values[f'{metric}_std']}" if values[f"{metric}_std"] else "")
                for metric in ("iou", "dice")
            ]
            assert cell == " / ".join(said)


def test_the_validation_was_of_these_tasks_reached_them_and_is_in_the_docs() -> None:
    found = json.loads((RESULTS / "validate.json").read_text(encoding="utf-8"))
    page = (RESULTS.parent / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert {row["method"]: row["target"] for row in found} == {name: t.target for name, t in TASKS.items()}
    for row in found:
        assert row["reached"] >= row["target"]
        assert row["train_steps"] == TASKS[row["method"]].changes["train_steps"]
        assert re.search(rf"^\| {row['method']} \|.*\| {row['reached']:.3f} \|$", page, re.MULTILINE)
