"""The heat maps of what was trained on against what was scored, and the curves of trainings."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cell_helpers import keep_row, keep_scores
from matplotlib.axes import Axes
from PIL import Image

from benchmarks.cells import parse_row
from benchmarks.charts import (
    Chart,
    Places,
    accuracy_against_time,
    cross_category,
    distributions,
    training_curves,
)
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
            (tmp_path / "fits" / fit).mkdir(parents=True, exist_ok=True)
            write_json(keep_row(tmp_path, row) / "config.json", {"fit_key": fit})
            line = {"step": 1, "total": 1, "seconds": 1.0, "loss": 0.5}
            (tmp_path / "fits" / fit / "progress.jsonl").write_text(json.dumps(line))
    places = Places(tmp_path, tmp_path / "rows", tmp_path / "figures")
    (chart,) = training_curves(printed, places, "stem", "budget quick")
    assert drawn == ["DRC", "DRC no-pixel-reassignment"]  # that of the responsibilities is the first
    assert chart.about.endswith("There are no curves here of ReDO (tm-dsprites, seed 0).")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What the axes of all charts are given: name of the call -> its positional and named arguments."""
    calls: dict[str, list[Any]] = {"plot": [], "step": [], "errorbar": []}
    for name, seen in calls.items():
        whole = getattr(Axes, name)

        def noting(self: Axes, *words: Any, _seen: Any = seen, _whole: Any = whole, **named: Any) -> Any:
            _seen.append((*words, named))
            return _whole(self, *words, **named)

        monkeypatch.setattr(Axes, name, noting)
    return calls


def measured_on_grey(*rows: Any) -> Printed:
    """DRC, held out, of these rows."""
    entry = next(e for e in load_table("grey").entries if (e.method, e.split) == ("DRC", "test"))
    return Printed(entry, "quick", "measured", rows=rows)


def test_a_method_stands_at_its_training_seconds_and_its_iou_with_the_spread_of_that(
    shown: dict[str, list[Any]],
) -> None:
    rows = [
        replace(
            ROW, seed=seed, iou=iou, dice=0.9 * iou, train_seconds=100.0 + 200 * seed, segment_seconds=7.0
        )
        for seed, iou in enumerate((0.3, 0.5))
    ]
    accuracy_against_time([measured_on_grey(*rows)], "stem", "budget quick")
    ((x, y, named),) = shown["errorbar"]
    assert (x, y, named["yerr"]) == pytest.approx((200, 40, 14.142), abs=1e-3)


def test_a_curve_tells_what_share_of_the_images_reaches_an_iou(
    shown: dict[str, list[Any]], tmp_path: Path
) -> None:
    ends = dict.fromkeys(("iou_low", "iou_high", "dice_low", "dice_high"))
    row = replace(ROW, n_images=2, iou=0.4, dice=0.85, **ends)
    keep_scores(tmp_path, row, "a,0.6,0.9\nb,0.2,0.8\n")
    places = Places(tmp_path, tmp_path / "rows", tmp_path / "figures")
    distributions([measured_on_grey(row)], places, "stem", "budget quick")
    ((iou, share, _),) = shown["step"]
    assert list(iou) == pytest.approx([0, 20, 60, 100])
    assert list(share) == pytest.approx([100, 100, 50, 0])


def test_a_training_is_drawn_against_its_seconds(shown: dict[str, list[Any]], tmp_path: Path) -> None:
    (tmp_path / "fits" / "f").mkdir(parents=True)
    write_json(keep_row(tmp_path, ROW) / "config.json", {"fit_key": "f"})
    lines = [
        {"step": n, "total": 2, "seconds": 30.0 * n, "lebm": 9.0, "reconstruction": 0.5 / n} for n in (1, 2)
    ]
    (tmp_path / "fits" / "f" / "progress.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    places = Places(tmp_path, tmp_path / "rows", tmp_path / "figures")
    training_curves([measured_on_grey(ROW)], places, "stem", "budget quick")
    ((seconds, values, _),) = shown["plot"]
    assert (seconds, values) == ([30.0, 60.0], [0.5, 0.25])
    other = replace(ROW, finished="2030-01-01T00:00:00+00:00")  # kept, and measured elsewhere
    assert training_curves([measured_on_grey(other)], places, "stem", "budget quick") == []
