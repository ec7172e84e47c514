"""Sweeps and tables of anybody's own: their order, what is bold, and what their files say and leave behind."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cell_helpers import invoke, keep_row
from click.testing import CliRunner
from fake_methods import RandomWalk
from test_tables import row

from benchmarks.__main__ import main
from benchmarks.collect import Printed, read_runs
from benchmarks.files import write_json
from benchmarks.grid import Grid, GridLine, Layout, Text, best_figures
from benchmarks.latex import to_latex
from benchmarks.notes import why_missing
from benchmarks.pictures import PANELS, make_panels, save_panels
from benchmarks.rows import file_name
from benchmarks.table_files import write_table
from benchmarks.table_picture import to_png
from benchmarks.tables import Column, Entry, Line, Table
from benchmarks.tables.sweep import sweep_table


def test_a_sweep_has_its_methods_first_then_the_floors_then_what_is_told_the_truth() -> None:
    table = sweep_table("mine", ["all-foreground", "GrabCut", "DRC"], ["all"], [], ["tm-dsprites:test"])
    sections = [line.section for line in table.lines]
    assert sections == sorted(sections, key=("methods", "floors", "appendix").index)
    assert list(dict.fromkeys(entry.line for entry in table.entries)) == [line.label for line in table.lines]


def test_what_is_never_trained_has_a_best_of_a_line_too() -> None:
    variants = {"border": 0.6, "center60": 0.2}
    entries = {name: Entry("GrabCut", name, "GrabCut", name, "", "tm-dsprites", "test") for name in variants}
    columns = tuple(map(Column, variants))
    table = Table("mine", "Mine", (Line("GrabCut"),), columns, tuple(entries.values()), rivals="columns")
    printed = [
        Printed(e, "quick", "measured", rows=(row(e, iou=variants[e.variant], dice=0.9),))
        for e in table.entries
    ]
    best = best_figures(table, printed)
    assert {entry.variant for entry, metric in best if metric == "iou"} == {"border"}


def test_a_variant_that_its_method_has_not_is_named() -> None:
    entry = Entry("a", "b", "GrabCut", "bordr", "", "tm-dsprites", "test")
    table = Table("mine", "Mine", (Line("a"),), (Column("b"),), (entry,))
    said = [why_missing(table, "quick", Path("data"), e) for e in (entry, replace(entry, method="W-Net"))]
    assert said == ["GrabCut has no variant 'bordr' here", "no implementation of it here"]


def grid(label: str) -> Grid:
    return Grid("Of $5", ("", "IoU"), (GridLine((label,), "", "methods", (Text("1.0"),)),))


def test_a_title_of_ones_own_is_whole_and_a_bracket_is_no_option_of_the_line_before() -> None:
    text = to_latex(Layout("mine", "ReDO vs. DRC", (grid("[a] x"),), ()))
    assert "\\caption{ReDO vs. DRC.}" in text
    assert "\n{[}a] x & 1.0" in text
    assert "\\caption{Foreground.}" in to_latex(Layout("table1", "Table 1. Foreground", (grid("a"),), ()))


def test_a_title_that_looks_like_a_formula_is_drawn_as_it_stands() -> None:
    assert to_png(Layout("mine", "From $\\foo$ on", (grid("a"),), ())).startswith(b"\x89PNG")


def test_no_picture_of_an_earlier_sweep_stands_beside_a_table_of_other_methods(tmp_path: Path) -> None:
    images, mask = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), bool)
    for method, there in (("DRC", True), ("GrabCut", False)):
        table = sweep_table("mine", [method], [], [], ["tm-dsprites:test"])
        measured = replace(row(table.entries[0]), key=f"{len(method):016x}")
        measured = (
            measured if there else replace(measured, train_dataset="")
        )  # GrabCut's, which is not trained
        folder = keep_row(tmp_path / "runs", measured)
        save_panels(folder / PANELS, make_panels(images, {}, mask, mask))
        stored = read_runs(tmp_path / "runs")
        write_table(table, "quick", [0], stored, tmp_path / "runs", tmp_path, lambda entry: "not run")
        assert (tmp_path / "mine-pictures.png").exists() is there


def test_what_is_trained_on_is_named_where_only_the_test_set_was_asked_for(tmp_path: Path) -> None:
    places = [f"--{name}={tmp_path / name}" for name in ("data", "runs", "results")]
    words = ["table", "photos", "--preset", "smoke", "--methods", "DRC", "--datasets", "coco-mval", *places]
    for how in (["--launcher", "print"], ["--dry-run"]):
        said = CliRunner().invoke(main, [*words, *how]).output
        assert "coco-mval is not prepared" in said or "data set coco-mval: not prepared" in said
        assert "ecssd" in said
        assert "birds" not in said


def test_the_commands_of_the_report_name_the_folders_of_the_run(smoke_data: Path, tmp_path: Path) -> None:
    places = [f"--data={smoke_data}", f"--runs={tmp_path / 'runs'}", f"--results={tmp_path}"]
    words = ["table", "1", "--preset", "smoke", "--methods", "all-foreground", *places]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report-smoke.html").read_text()
    assert f"--methods ReDO --datasets tm-dsprites --data {smoke_data} --runs {tmp_path / 'runs'}" in page


WORDS = ("--methods", "DRC", "--test", "tm-dsprites:test", "--name", "mine")


def figures(folder: Path) -> tuple[str, str]:
    """The line of its one figure, and the table with its notes."""
    return (folder / "results" / "mine-smoke.csv").read_text(), (
        folder / "results" / "mine-smoke.md"
    ).read_text()


@pytest.mark.parametrize("error", [ValueError("the width cannot be '6'"), KeyError("widht")])
def test_what_cannot_be_set_up_any_more_shows_no_earlier_figure(
    error: Exception,
    random_walk: type[RandomWalk],
    smoke_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert invoke(tmp_path, "sweep", *WORDS, data=smoke_data).exit_code == 0
    assert "measured" in figures(tmp_path)[0]

    def configure(cls: type, **options: Any) -> None:
        raise error

    monkeypatch.setattr(random_walk, "configure", classmethod(configure))
    invoke(tmp_path, "sweep", *WORDS, data=smoke_data)
    line, table = figures(tmp_path)
    assert "measured" not in line
    assert "cannot be set up" in table


def test_a_class_of_another_name_shows_no_earlier_figure(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(tmp_path, "sweep", *WORDS, data=smoke_data).exit_code == 0
    monkeypatch.setattr(random_walk, "name", "ReDO")
    assert invoke(tmp_path, "sweep", *WORDS, data=smoke_data).exit_code == 1
    line, table = figures(tmp_path)
    assert "measured" not in line
    assert "stands in METHODS as 'DRC'" in table


def test_a_kept_figure_that_failed_when_it_was_computed_anew_says_so(tmp_path: Path) -> None:
    table = sweep_table("mine", ["DRC"], [], [], ["tm-dsprites:test"])
    measured = row(table.entries[0])
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / file_name(measured)).write_text(json.dumps(measured.to_json()))
    folder = tmp_path / "runs" / "cells" / measured.key
    folder.mkdir(parents=True)
    write_json(folder / "config.json", asdict(measured.cell))
    for when, said in (
        (None, False),
        (0, False),
        (time.time(), True),
    ):  # no error, one before the row, and one after
        if when is not None:
            (folder / "error.txt").write_text("Traceback\nRuntimeError: a new mistake\n")
            os.utime(folder / "error.txt", (when, when))
        stored = read_runs(tmp_path / "runs", tmp_path / "rows")
        write_table(table, "quick", [0], stored, tmp_path / "runs", tmp_path, lambda entry: "not run")
        assert "measured" in (tmp_path / "mine.csv").read_text()
        notes = (tmp_path / "mine.md").read_text()
        assert ("Measured before, and failed anew, DRC: RuntimeError: a new mistake" in notes) is said
