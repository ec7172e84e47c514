"""Ten thousand rows: the survey within 2 s, every output within 20 s. Limits here are wide, for busy machines."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cell_helpers import keep_row

from benchmarks.cells import make_cell
from benchmarks.collect import read_runs
from benchmarks.page import write_page
from benchmarks.status import describe, survey
from benchmarks.table_files import write_table
from benchmarks.tables import Column, Entry, Line, Table

ROWS = 10_000
ROW = json.loads((Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()[-1])


def row(seed: int) -> dict[str, Any]:
    """A row of DRC; every second one scores the training images."""
    split = ("eval", "test")[seed % 2]
    names = {
        "method": "DRC",
        "variant": "full",
        "train_dataset": "tm-dsprites",
        "test_dataset": "tm-dsprites",
    }
    iou = ROW["iou_low"] + (ROW["iou_high"] - ROW["iou_low"]) * seed / ROWS
    return {**ROW, **names, "split": split, "seed": seed // 2, "key": f"{seed:016x}", "iou": iou}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(ROWS):
        keep_row(folder, row(seed))
    return folder


def test_the_survey(runs: Path) -> None:
    began = time.process_time()
    states = survey(runs, [make_cell("DRC", "full", "tm-dsprites", "tm-dsprites", "test", "quick", ROWS)])
    text = "\n".join(describe(states, everything=False))
    assert time.process_time() - began < 4
    assert f"{ROWS} done, 0 running, 0 failed, 0 stopped, 1 missing" in text


def test_every_output(runs: Path, tmp_path: Path) -> None:
    """A table of five thousand lines, two columns, in every format; and the rows kept."""
    lines = tuple(Line(f"DRC {seed}") for seed in range(ROWS // 2))
    columns = {"eval": Column("training images"), "test": Column("held out")}
    names = ("DRC", "full", "tm-dsprites", "tm-dsprites")
    entries = tuple(
        Seeded(line.label, columns[split].label, *names, split) for line in lines for split in columns
    )
    table = Table("large", "Large", lines, tuple(columns.values()), entries)
    began = time.process_time()
    write_table(
        table, "quick", [0], read_runs(runs, tmp_path / "rows"), runs, tmp_path, lambda entry: "not run"
    )
    assert time.process_time() - began < 40
    assert len(list((tmp_path / "rows").iterdir())) == ROWS
    assert (tmp_path / "large.csv").read_text().count("measured") == ROWS


class Seeded(Entry):
    """An entry whose line says its seed."""

    def cell(self, preset: str, seed: int) -> Any:
        return super().cell(preset, int(self.line.split()[1]))


def test_the_report(runs: Path, tmp_path: Path) -> None:
    """Five thousand seeds of two cells; the rows themselves are read once for table and report together."""
    stored = read_runs(runs)
    began = time.process_time()
    page, *_ = write_page(stored, runs, tmp_path, ["quick"])
    assert time.process_time() - began < 20
    assert f"and {ROWS // 2 - 10} more, in results/rows" in page.read_text()
    assert page.stat().st_size < 5_000_000
    began = time.process_time()
    write_page(stored, runs, tmp_path, ["quick"])  # of which nothing is drawn again
    assert time.process_time() - began < 10
