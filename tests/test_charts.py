"""The heat maps of what was trained on against what was scored, and the curves of trainings."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from PIL import Image

from benchmarks.cells import parse_row
from benchmarks.charts import Chart, Places, cross_category, training_curves
from benchmarks.collect import Printed
from benchmarks.files import write_json
from benchmarks.registry import METHODS
from benchmarks.tables import Entry, load_table
from benchmarks.tables.sweep import sweep_table

LINES = (Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()
ROW = parse_row(LINES[3], "golden")


def charts(entries: tuple[Entry, ...]) -> list[Chart]:
    """The heat maps where DRC and ReDO were measured in all of these places."""
    printed = [
        Printed(entry, "quick", "measured", rows=(replace(ROW, iou=0.01 * number, split=entry.split),))
        for number, entry in enumerate(entries)
        if entry.method in ("DRC", "ReDO")
    ]
    return cross_category(printed, "stem", "budget quick")


@pytest.mark.parametrize("number", ["1", "2", "3", "grey"])
def test_a_table_that_crosses_nothing_has_no_heat_map(number: str) -> None:
    assert charts(load_table(number).entries) == []


@pytest.mark.parametrize("number", ["4", "photos"])
def test_a_table_that_crosses_categories_has_one(number: str) -> None:
    (chart,) = charts(load_table(number).entries)
    assert Image.open(io.BytesIO(chart.png)).size[0] > 500


def test_the_caption_says_which_images_are_scored() -> None:
    (chart,) = charts(load_table("photos").entries)
    for words in ("ECSSD, held out", "COCO sample, all", "CLEVR6 rendered anew, training images"):
        assert words in chart.about
    assert "held-out images of each category" not in chart.about


def test_two_splits_of_a_data_set_are_two_columns_with_labels_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns, shown = [], []
    set_xticks, imshow = Axes.set_xticks, Axes.imshow

    def noting_labels(self: Axes, ticks: object, labels: list[str], **rest: object) -> object:
        columns.extend(labels)
        return set_xticks(self, ticks, labels, **rest)

    def noting_values(self: Axes, values: list[list[float]], **rest: object) -> object:
        shown.extend(values)
        return imshow(self, values, **rest)

    monkeypatch.setattr(Axes, "set_xticks", noting_labels)
    monkeypatch.setattr(Axes, "imshow", noting_values)
    trained = ["tm-dsprites-squares", "tm-dsprites-hearts"]
    tests = [f"{name}:{split}" for name in trained for split in ("eval", "test")]
    charts(sweep_table("mine", ["DRC"], [], trained, tests).entries)
    assert len(set(columns)) == 4
    assert columns[1].split() == ["TM-dSprites", "squares", "held", "out"]
    assert shown == [pytest.approx([0, 1, 2, 3]), pytest.approx([4, 5, 6, 7])]


def test_trainings_are_drawn_once_and_those_elsewhere_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[str] = []
    set_title = Axes.set_title

    def noting(self: Axes, label: str, **rest: object) -> object:
        drawn.append(label)
        return set_title(self, label, **rest)

    monkeypatch.setattr(Axes, "set_title", noting)
    printed = []
    for number, entry in enumerate(e for e in load_table("grey").entries if e.method in ("DRC", "ReDO")):
        row = replace(ROW, method=entry.method, variant=entry.variant, key=f"{number:016x}")
        printed.append(Printed(entry, "quick", "measured", rows=(row,)))
        fit = METHODS[entry.method].training_of(entry.variant)
        if entry.method == "DRC" and entry.split == "test":  # the training of both splits is one
            (tmp_path / "cells" / row.key).mkdir(parents=True)
            (tmp_path / "fits" / fit).mkdir(parents=True, exist_ok=True)
            write_json(tmp_path / "cells" / row.key / "config.json", {"fit_key": fit})
            line = {"step": 1, "total": 1, "seconds": 1.0, "loss": 0.5}
            (tmp_path / "fits" / fit / "progress.jsonl").write_text(json.dumps(line))
    places = Places(tmp_path, tmp_path / "rows", tmp_path / "figures")
    (chart,) = training_curves(printed, places, "stem", "budget quick")
    assert drawn == ["DRC", "DRC no-pixel-reassignment"]  # that of the responsibilities is the first
    assert chart.about.endswith("There are no curves here of ReDO (tm-dsprites, seed 0).")
