"""What was measured on images that are others now is never shown as measured on those that are there."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cell_helpers import keep_row
from click.testing import CliRunner, Result
from fake_methods import RandomWalk

from baselines.floors import AllForeground
from benchmarks.__main__ import main
from benchmarks.cells import parse_row
from benchmarks.collect import read_runs
from benchmarks.data import hashes_below
from benchmarks.registry import DATASETS
from benchmarks.rows import KEPT, Stored, file_name, merge
from data_prep.store import DatasetWriter

LINES = (Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()
ROW = parse_row(LINES[3], "golden")  # of what is trained
pytestmark = pytest.mark.usefixtures("own_data_sets")
FLOOR = ("--methods", "all-foreground", "--test")


def make(folder: Path, side: int) -> Path:
    """A prepared data set whose objects are squares of that side, in place of an earlier one."""
    shutil.rmtree(folder, ignore_errors=True)
    with DatasetWriter(folder, name="mine", size=(16, 16), settings={}, licence="-", expected=4) as writer:
        for number in range(4):
            mask = np.zeros((16, 16), np.uint8)
            mask[:side, :side] = 1
            writer.add(
                np.repeat(mask[..., None] * 200, 3, axis=2), mask, id=str(number), split="test", source="-"
            )
    return folder


def sweep(tmp_path: Path, *words: str) -> Result:
    known = set(DATASETS)
    places = [word for name in ("data", "runs", "results") for word in (f"--{name}", str(tmp_path / name))]
    done = CliRunner().invoke(main, ["sweep", "--preset", "smoke", "--device", "cpu", *words, *places])
    for name in set(DATASETS) - known:
        del DATASETS[name]
    return done


def lines(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "results" / "sweep-smoke.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def crash(self: Any, images: np.ndarray, **rest: Any) -> np.ndarray:
    raise RuntimeError("it fell over")


def of_now(name: str, preset: str) -> str:
    """The hash of every data set today."""
    return "b" * 64


def test_a_computation_that_fails_leaves_no_earlier_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = make(tmp_path / "a" / "mine", 8)
    assert sweep(tmp_path, *FLOOR, str(mine)).exit_code == 0
    assert (lines(tmp_path)[0]["status"], lines(tmp_path)[0]["iou"]) == ("measured", "25.0")
    make(mine, 4)
    with monkeypatch.context() as patch:
        patch.setattr(AllForeground, "segment", crash)
        failed = sweep(tmp_path, *FLOOR, str(mine))
    assert failed.exit_code == 1
    (line,) = lines(tmp_path)
    assert (line["status"], line["iou"]) == ("missing", "")
    assert line["reason"].startswith("failed: RuntimeError: it fell over")
    assert sweep(tmp_path, *FLOOR, str(mine)).exit_code == 0
    assert lines(tmp_path)[0]["iou"] == "6.2"


def test_data_sets_of_one_name_are_not_taken_for_one_another(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a" / "mine", 8), make(tmp_path / "b" / "mine", 4)
    assert sweep(tmp_path, *FLOOR, str(one)).exit_code == 0
    shown = sweep(tmp_path, *FLOOR, str(other), "--collect-only")
    assert shown.exit_code == 0, shown.output
    (line,) = lines(tmp_path)
    assert (line["status"], line["iou"]) == ("missing", "")
    assert line["reason"] == "measured on other images than mine has now: run it again"
    assert sweep(tmp_path, *FLOOR, str(other)).exit_code == 0
    for folder, iou in ((one, "25.0"), (other, "6.2")):
        sweep(tmp_path, *FLOOR, str(folder), "--collect-only")
        assert lines(tmp_path)[0]["iou"] == iou


def test_what_is_left_out_is_counted_by_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_row(tmp_path, ROW)
    keep_row(tmp_path, replace(ROW, seed=1, key="e" * 16))
    whole = replace(ROW, seed=2, key="f" * 16, data_sha256="b" * 64, train_data_sha256="b" * 64)
    keep_row(tmp_path, whole)
    stored = read_runs(tmp_path, images=of_now)
    assert list(stored.rows.values()) == [whole]
    assert set(stored.outdated) == {ROW.cell, replace(ROW, seed=1).cell}
    assert "2 figures are of other images than the data set tm-dsprites has now, and left out" in caplog.text


def test_a_row_that_was_trained_on_other_images_is_left_out_too(tmp_path: Path) -> None:
    keep_row(tmp_path, replace(ROW, data_sha256="b" * 64))
    assert not read_runs(tmp_path, images=of_now).rows
    assert read_runs(tmp_path, images=lambda name, preset: "").rows


def test_the_report_alone_leaves_them_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(ROW, preset="quick")
    keep_row(tmp_path / "runs", row)
    places = [f"--{name}={tmp_path / name}" for name in ("data", "runs", "results")]
    for hashes, shown in ((lambda folder: of_now, False), (hashes_below, True)):  # there is no data set below
        monkeypatch.setattr("benchmarks.data.hashes_below", hashes)
        done = CliRunner().invoke(main, ["report", *places])
        assert done.exit_code == 0, done.output
        assert (row.command in (tmp_path / "results" / "report.html").read_text()) == shown


def test_what_was_measured_again_is_not_complained_of(tmp_path: Path) -> None:
    earlier, sha256 = "2025-01-01T00:00:00+00:00", "b" * 64
    today = replace(ROW, key="e" * 16, data_sha256=sha256, train_data_sha256=sha256, finished=earlier)
    keep_row(tmp_path, ROW)
    keep_row(tmp_path, today)
    stored = read_runs(tmp_path, images=of_now)
    assert (list(stored.rows.values()), stored.outdated, stored.faults) == ([today], {}, [])


def test_an_error_of_other_images_or_settings_is_not_told(tmp_path: Path) -> None:
    folder = tmp_path / "cells" / ROW.key
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(ROW.to_json()))
    (folder / "error.txt").write_text("it fell over")
    assert ROW.cell in read_runs(tmp_path).errors
    assert ROW.cell in read_runs(tmp_path, current={ROW.cell: ROW.key}).errors
    assert not read_runs(tmp_path, current={ROW.cell: "e" * 16}).errors
    assert not read_runs(tmp_path, images=of_now).errors


def test_a_kept_row_of_todays_key_goes_before_one_measured_here_of_another() -> None:
    kept, own = replace(ROW, key="e" * 16, finished="2025-01-01"), replace(ROW, key="f" * 16)
    stored = Stored()
    merge([own], [kept], stored, {ROW.cell: kept.key})
    assert list(stored.rows.values()) == [replace(kept, source=KEPT)]
    stored = Stored()
    merge([own], [kept], stored, {ROW.cell: "0" * 16})
    assert not stored.rows
    merge([own], [kept], stored)
    assert list(stored.rows.values()) == [own]


def test_a_failed_seed_is_not_filled_in_and_collecting_shows_what_there_is(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    words = ("--methods", "DRC", "--test", "tm-dsprites", "--seeds", "0-1")
    assert sweep(tmp_path, *words).exit_code == 0
    (row,) = (
        p for p in (tmp_path / "runs" / "cells").glob("*/row.json") if json.loads(p.read_text())["seed"]
    )
    row.parent.rename(row.parent.with_name("e" * 16))  # as under other settings
    moved = row.parent.with_name("e" * 16) / "row.json"
    moved.write_text(json.dumps(json.loads(moved.read_text()) | {"key": "e" * 16}))
    shutil.rmtree(tmp_path / "runs" / "fits")
    random_walk.crash_at = 3
    assert sweep(tmp_path, *words).exit_code == 1
    (line,) = lines(tmp_path)
    assert (line["seeds"], line["reason"]) == ("0", "seed 1 not measured")
    assert sweep(tmp_path, *words[:4], "--collect-only").exit_code == 0
    assert lines(tmp_path)[0]["seeds"] == "0 1"


def test_rows_of_data_sets_that_are_not_here_are_shown_and_none_is_generated(tmp_path: Path) -> None:
    kept = tmp_path / "results" / "rows"
    kept.mkdir(parents=True)
    for line in LINES:
        row = parse_row(line, "golden")
        (kept / file_name(row)).write_text(line)
    places = [word for name in ("data", "runs", "results") for word in (f"--{name}", str(tmp_path / name))]
    shown = CliRunner().invoke(main, ["table", "1", "--collect-only", *places])
    assert shown.exit_code == 0, shown.output
    assert "48.0 ± 2.0" in shown.output
    assert "other images than" not in shown.output
    assert not (tmp_path / "data").exists()


def test_a_damaged_data_set_does_not_keep_rows_from_being_shown(smoke_data: Path, tmp_path: Path) -> None:
    assert sweep(tmp_path, *FLOOR, "tm-dsprites").exit_code == 0
    (smoke_data / "tm-dsprites-16" / "masks.npy").unlink()
    shown = sweep(tmp_path, *FLOOR, "tm-dsprites", "--collect-only")
    assert shown.exit_code == 0, shown.output
    assert lines(tmp_path)[0]["status"] == "measured"
