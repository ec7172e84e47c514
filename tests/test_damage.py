"""What a full disk, a lost machine or a careless hand leaves behind: it is said, and nothing false is printed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cell_helpers import cell, folder_of, keep_row, runner
from fake_methods import RandomWalk
from PIL import Image

from benchmarks import trials
from benchmarks.cells import parse_row, read_row
from benchmarks.charts import training_lines
from benchmarks.collect import read_runs
from benchmarks.errors import BenchmarkError
from benchmarks.files import last_line, write_json
from benchmarks.locks import LOCK, holder
from benchmarks.pictures import load_panels, save_panels
from benchmarks.rows import Stored, merge
from benchmarks.sources import drawn_before
from benchmarks.status import survey
from benchmarks.validate import earlier_rows

ROW = parse_row((Path(__file__).parent / "golden/table1/rows.jsonl").read_text().splitlines()[0], "golden")


def fit_of(runs: Path) -> Path:
    return next((runs / "fits").iterdir())


def test_a_cell_whose_row_is_damaged_is_computed_again(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path)
    run.run(cell())
    row = folder_of(smoke_data, tmp_path, cell()) / "row.json"
    whole = read_row(row)
    row.write_bytes(row.read_bytes()[:300])
    assert run.state(cell()) == ("to do", "")
    assert run.run(cell()).status == "computed"
    assert read_row(row).iou == whole.iou
    assert random_walk.steps_taken == 12  # its training is whole


def test_a_cell_that_may_not_be_looked_into_stops_no_other(
    random_walk: type[RandomWalk],
    smoke_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, other = runner(smoke_data, tmp_path), cell(method="all-foreground", variant="fixed")
    run.run(cell())
    closed = folder_of(smoke_data, tmp_path, cell())
    listdir = os.listdir

    def refuse(folder: Path) -> list[str]:
        if folder == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr("benchmarks.files.os.listdir", refuse)
    outcome = run.run(cell())
    assert (outcome.status, run.state(cell())[0]) == ("failed", "closed")
    assert outcome.reason.startswith(f"{closed} cannot be read (Permission denied)")
    assert run.run(other).status == "computed"
    assert [row.method for row in read_runs(tmp_path).rows.values()] == ["all-foreground"]
    assert f"{closed} cannot be read" in caplog.text
    closed = tmp_path / "cells"
    with pytest.raises(BenchmarkError, match="cells cannot be read"):
        read_runs(tmp_path)


def test_what_a_newer_version_measured_is_moved_and_not_written_over(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path)
    run.run(cell())
    row = folder_of(smoke_data, tmp_path, cell()) / "row.json"
    newer = row.read_text().replace('"format": ', '"format": 9')
    row.write_text(newer)
    assert run.run(cell()).status == "computed"
    (kept,) = (tmp_path / "replaced").glob("cells-*/row.json")
    assert kept.read_text() == newer
    assert read_row(row).iou is not None


def test_a_training_whose_checkpoints_are_gone_is_another_one(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path)
    run.run(cell(split="eval"))
    fit = fit_of(tmp_path)
    write_json(fit / "fit.json", {"train_seconds": 999.0, "train_steps": 12, "commit": "0" * 40})
    run.run(cell(split="test"))
    kept = read_row(folder_of(smoke_data, tmp_path, cell(split="test")) / "row.json")
    assert (kept.train_seconds, random_walk.steps_taken) == (999.0, 12)
    shutil.rmtree(fit / "checkpoints")
    (fit / "progress.jsonl").write_text('{"step": 12, "total": 12, "seconds": 500.0}\n')
    shutil.rmtree(folder_of(smoke_data, tmp_path, cell(split="test")))
    run.run(cell(split="test"))
    again = read_row(folder_of(smoke_data, tmp_path, cell(split="test")) / "row.json")
    assert random_walk.steps_taken == 24
    assert again.train_seconds < 100
    assert not again.commit.startswith("0" * 40)


@pytest.mark.parametrize("content", ['{"train_sec', "[]", "{}"])
def test_a_damaged_record_of_a_training_is_named_and_stops_no_other(
    content: str, random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path)
    run.run(cell(split="eval"))
    (fit_of(tmp_path) / "fit.json").write_text(content)
    outcome = run.run(cell(split="test"))
    assert outcome.status == "failed"
    done = fit_of(tmp_path) / "done"
    assert re.search(rf"fit\.json cannot be read .*delete {re.escape(str(done))}", outcome.reason)
    assert run.run(cell("GrabCut", variant="border")).status == "computed"
    done.unlink()
    assert run.run(cell(split="test")).status == "computed", "no kept error stands in the way"
    assert random_walk.steps_taken == 12, "the training itself is whole"


def test_a_training_of_another_device_is_named_with_it(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path)
    run.run(cell(split="eval"))
    fit = fit_of(tmp_path) / "fit.json"
    write_json(fit, json.loads(fit.read_text()) | {"device": "cuda (a card)"})
    run.run(cell(split="test"))
    row = read_row(folder_of(smoke_data, tmp_path, cell(split="test")) / "row.json")
    assert row.device.startswith("cuda (a card), scored on cpu (")


def test_a_training_of_another_commit_is_named_with_it(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(smoke_data, tmp_path)
    monkeypatch.setattr("benchmarks.provenance.commit", lambda: "a" * 40)
    run.run(cell(split="eval"))
    monkeypatch.setattr("benchmarks.provenance.commit", lambda: "b" * 40)
    run.run(cell(split="test"))
    row = read_row(folder_of(smoke_data, tmp_path, cell(split="test")) / "row.json")
    assert row.commit == f"{'a' * 40}, scored at {'b' * 40}"


def test_of_two_rows_of_a_cell_that_of_todays_settings_and_images_counts(tmp_path: Path) -> None:
    today = replace(ROW, key="a" * 16, iou=0.62, finished="2026-01-01T00:00:00+00:00")
    later = replace(ROW, key="b" * 16, iou=0.64, data_sha256="c" * 64, finished="2026-02-01T00:00:00+00:00")
    for row in (today, later):
        keep_row(tmp_path, row)
    assert [row.iou for row in read_runs(tmp_path).rows.values()] == [0.64]
    current = {ROW.cell: today.key}
    assert [row.iou for row in read_runs(tmp_path, current=current).rows.values()] == [0.62]
    stored = Stored()
    merge([], [today, later], stored, current)
    assert [row.iou for row in stored.rows.values()] == [0.62]


def test_a_picture_archive_with_a_wrong_byte_is_named(tmp_path: Path) -> None:
    file = tmp_path / "panels.npz"
    save_panels(file, {"input": np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)})
    whole = file.read_bytes()
    for place in range(60, 200, 4):
        file.write_bytes(whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
        with pytest.raises(BenchmarkError, match=r"panels\.npz"):
            load_panels(file)


def test_a_picture_archive_with_a_wrong_bit_in_a_header_is_named(tmp_path: Path) -> None:
    file = tmp_path / "panels.npz"
    np.savez(file, input=np.zeros((64, 16, 16, 3), dtype=np.uint8))
    whole = bytearray(file.read_bytes())
    whole[whole.index(b"\x93NUMPY") + 8] ^= (
        0x40  # how long it is: it is read before the checksum of so many pixels
    )
    file.write_bytes(whole)
    with pytest.raises(BenchmarkError, match=r"panels\.npz"):
        load_panels(file)


def test_half_a_chart_is_not_shown_again(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    file, text = tmp_path / "chart.png", PngInfo()
    text.add_itxt("Source", "rows")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, pnginfo=text)
    assert drawn_before(file, "rows") == file.read_bytes()
    file.write_bytes(file.read_bytes()[:4000])
    assert drawn_before(file, "rows") is None


def test_files_that_are_no_text_do_not_break_the_survey(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"\xff\xfe")
    assert "unknown machine" in str(holder(tmp_path))
    (tmp_path / "error.txt").write_bytes(b"why\n\xff\xfe went wrong")
    assert "went wrong" in last_line(tmp_path / "error.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"method": ["x"]}),
        ("config.json", {"seed": "0"}),
        ("row.json", {"train_seconds": 10**400}),
        ("row.json", {"method": ["x"]}),
    ],
)
def test_settings_and_rows_of_odd_kinds_are_passed_over(name: str, content: dict, tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "a"
    folder.mkdir(parents=True)
    (folder / ("done" if name == "row.json" else "error.txt")).write_text("why")
    (folder / name).write_text(json.dumps(ROW.to_json() | content))
    assert survey(tmp_path, []) == []
    stored = read_runs(tmp_path)
    assert not stored.rows
    assert not stored.errors


@pytest.mark.parametrize(
    "name",
    ["seed", "failures", "restarts", "train_seconds", "train_steps", "segment_seconds", "train_images"],
)
def test_a_row_with_less_than_nothing_is_refused(name: str) -> None:
    with pytest.raises(BenchmarkError, match=f"here.*{name}"):
        parse_row(json.dumps(ROW.to_json() | {name: -1}), "here")


def test_a_row_nested_beyond_all_measure_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="here is not a readable row"):
        parse_row("[" * 200_000, "here")


def test_a_line_of_a_training_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "fits" / "f").mkdir(parents=True)
    write_json(keep_row(tmp_path, ROW) / "config.json", {"fit_key": "f"})
    whole = [{"step": step, "total": 9, "seconds": 1.0, "loss": 0.5} for step in (1, 2)]
    lines = [
        *map(json.dumps, whole),
        '{"step": 3, "total": 9, "loss": 1, "more": 2}',
        "[1, 2, 3, 4]",
        '{"step": 4, "to',
    ]
    (tmp_path / "fits" / "f" / "progress.jsonl").write_text("\n".join(lines))
    assert training_lines(ROW, tmp_path) == whole


def test_rows_of_trials_that_lack_figures_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    row = {"trial": "as it is", "seed": 0, "key": "k", "iou": "high"}
    write_json(tmp_path / "trials-smoke.json", [row])
    with pytest.raises(BenchmarkError, match=r"trials-smoke\.json has a row with no usable iou, iou_low"):
        trials.earlier_rows(tmp_path, "smoke", tmp_path / "data")


def test_a_row_with_a_figure_that_is_no_number_is_refused_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "trials-smoke.json").write_text('[{"trial": "as it is", "seed": 0, "iou": NaN}]')
    with pytest.raises(
        BenchmarkError, match=r"trials-smoke\.json cannot be read \(NaN is no number of JSON\)"
    ):
        trials.earlier_rows(tmp_path, "smoke", tmp_path / "data")


def test_rows_of_validate_that_lack_figures_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    write_json(tmp_path / "validate.json", [{"method": "ReDO", "seed": 1}])
    with pytest.raises(BenchmarkError, match=r"validate\.json"):
        earlier_rows(tmp_path)
