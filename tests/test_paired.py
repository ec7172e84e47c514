"""What is set in bold, and which two methods are compared image by image."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cell_helpers import keep_scores
from test_tables import ROW, layout, measured
from test_tables import row as row_of

from benchmarks.collect import Printed
from benchmarks.grid import best_figures, lay_out
from benchmarks.paired import Difference, differences, seeds_of_pair
from benchmarks.render import paired_csv, strategies_csv, to_csv
from benchmarks.tables import load_table
from benchmarks.uncertainty import Interval


def bold(number: str, scores: dict[str, float]) -> set[str]:
    """The lines of a table's first grid with a figure in bold."""
    grid = layout(number, scores).grids[0]
    return {line.words[0] for line in grid.lines if any(text.best for text in line.texts)}


def test_figures_that_are_printed_alike_are_bold_alike() -> None:
    assert bold("3", {"DRC": 0.4001, "GrabCut": 0.4003}) == {"DRC", "GrabCut"}
    assert bold("3", {"DRC": 0.4001, "GrabCut": 0.4013}) == {"GrabCut"}


def test_what_is_not_trained_is_bold_only_where_it_is_the_best_of_its_own_line() -> None:
    """GrabCut stands in the line of Cars trained on Cars, and competes in that of Cars trained on Birds too."""
    table = load_table("4")
    figures = {
        ("GrabCut", "Cars ← Cars"): 0.6,
        ("DRC", "Cars ← Cars"): 0.7,
        ("DRC", "Cars ← Birds"): 0.5,
    }
    printed = [
        Printed(e, "quick", "measured", rows=(row_of(e, iou=iou, dice=iou),))
        for e in table.entries
        if e.variant != "responsibilities" and (iou := figures.get((e.method, e.line))) is not None
    ]
    assert len(printed) == len(figures)
    best = {(e.line, e.column) for e, metric in best_figures(table, printed) if metric == "iou"}
    assert best == {("Cars ← Cars", "DRC")}


def test_what_stands_in_the_appendix_does_not_compete() -> None:
    assert bold("1", {"DRC": 0.4, "GrabCut": 0.5}) == {"GrabCut"}
    assert bold("1", {"DRC": 0.5, "GrabCut": 0.4}) == {"DRC"}


def test_the_seeds_of_a_difference_are_those_of_what_is_trained() -> None:
    _, printed = measured("3", {"DRC": 0.4, "GrabCut": 0.5})
    drc, grabcut = (next(p for p in printed if p.rows and p.entry.method == m) for m in ("DRC", "GrabCut"))
    drc = replace(drc, rows=tuple(replace(drc.rows[0], seed=seed) for seed in (1, 2)))
    grabcut = replace(grabcut, entry=replace(grabcut.entry, train_dataset=""))
    assert (seeds_of_pair(drc, grabcut), seeds_of_pair(grabcut, drc)) == ("1 2", "1 2")


def test_iou_and_dice_have_a_best_each() -> None:
    dice = {"DRC": 0.7, "GrabCut": 0.6}
    table, printed = measured("3", {"DRC": 0.4, "GrabCut": 0.5})
    printed = [
        replace(p, rows=tuple(replace(row, dice=dice[p.entry.method]) for row in p.rows)) for p in printed
    ]
    lines = lay_out(table, "quick", printed).grids[0].lines
    best = {line.words[0]: [text.best for text in line.texts] for line in lines}
    assert best == {"GrabCut": [True, False] * 2, "DRC": [False, True] * 2}


def test_iou_and_dice_have_a_spread_each() -> None:
    table, printed = measured("3", {"DRC": 0.4})
    two = {seed: {"seed": seed, "iou": 0.4 + 0.2 * seed, "dice": 0.7} for seed in (0, 1)}
    printed = [
        replace(p, rows=tuple(replace(p.rows[0], **two[seed]) for seed in two)) if p.rows else p
        for p in printed
    ]
    (line,) = lay_out(table, "quick", printed).grids[0].lines
    assert [str(text) for text in line.texts] == ["50.0 ± 14.1", "70.0 ± 0.0"] * 2


def test_the_declared_strategy_shows_iou_and_dice_of_its_own() -> None:
    others = {"dataset-permutation": {"iou": 0.2, "dice": 0.3}}
    table, printed = measured("3", {"ReDO": 0.4}, protocol="image-permutation", alternatives=others)
    printed = [replace(p, rows=tuple(replace(row, dice=0.6) for row in p.rows)) for p in printed]
    lines = lay_out(table, "quick", printed).grids[-1].lines
    assert [[str(text) for text in line.texts] for line in lines] == [
        ["40.0", "60.0"] * 2, ["20.0", "30.0"] * 2
    ]  # fmt: skip
    assert strategies_csv(printed).count("image-permutation,40.0,60.0") == 2


def key_of(method: str, seed: int) -> str:
    """Another for each."""
    return hashlib.sha256(f"{method} {seed}".encode()).hexdigest()[:16]


def scored(runs: Path, method: str, *seeds: str, **changes: Any) -> Printed:
    """A method with a row for each string of ids, one letter an image, and with the scores of these images."""
    _, printed = measured("3", {method: 0.5})
    found = next(p for p in printed if p.rows and p.entry.split == "test")
    rows = tuple(
        replace(found.rows[0], key=key_of(method, seed), seed=seed, n_images=len(ids), dice=0.5, **changes)
        for seed, ids in enumerate(seeds)
    )
    for row, ids in zip(rows, seeds, strict=True):
        keep_scores(runs, row, "".join(f"{name},0.5,0.5\n" for name in ids))
    return replace(found, rows=rows)


def compared(runs: Path, *printed: Printed) -> list[Difference]:
    return differences(list(printed), runs, runs, runs / "paired.csv")


@pytest.mark.parametrize(
    ("ours", "theirs", "changes", "pairs"),
    [
        (("abc", "abc"), ("abc", "abc"), {}, 1),
        (("abc", "abc"), ("abd", "abd"), {}, 0),
        (("abc", "cba"), ("abc", "abc"), {}, 0),
        (("abc", "abc"), ("abc", "cba"), {}, 0),
        (("abc", "abc"), ("abc", "abc"), {"data_sha256": "f" * 64}, 0),
    ],
)
def test_only_the_same_images_in_the_same_order_are_compared(
    ours: tuple[str, ...], theirs: tuple[str, ...], changes: dict[str, str], pairs: int, tmp_path: Path
) -> None:
    drc, redo = scored(tmp_path, "DRC", *ours), scored(tmp_path, "ReDO", *theirs, **changes)
    assert len(compared(tmp_path, drc, redo)) == pairs


def test_the_file_of_differences_has_each_end_of_an_interval_in_its_column() -> None:
    _, printed = measured("3", {"DRC": 0.5, "ReDO": 0.4})
    one, other = (next(p for p in printed if p.rows and p.entry.method == name) for name in ("DRC", "ReDO"))
    intervals = {"iou": Interval(2.0, 1.0, 4.0), "dice": Interval(-3.0, -7.0, 5.0)}
    (line,) = csv.DictReader(paired_csv([(one, other, intervals)]).splitlines())
    assert (line["method"], line["other"]) == ("DRC", "ReDO")
    for metric, values in (("iou", ("2.0", "1.0", "4.0")), ("dice", ("-3.0", "-7.0", "5.0"))):
        assert tuple(line[f"{metric}_{part}"] for part in ("difference", "low", "high")) == values


@pytest.mark.parametrize(("more", "pairs"), [(0, 1), (1, 0)])
def test_a_difference_of_another_number_of_images_is_not_taken_over(
    more: int, pairs: int, tmp_path: Path
) -> None:
    drc, redo = scored(tmp_path, "DRC"), scored(tmp_path, "ReDO")
    drc, redo = (replace(p, rows=(replace(ROW, key="gone", iou=0.5, dice=0.5),)) for p in (drc, redo))
    (tmp_path / "paired.csv").write_text(
        "method,other,dataset,split,n_images,iou_difference,iou_low,iou_high,dice_difference,dice_low,dice_high\n"
        f"DRC,ReDO,{drc.entry.dataset},test,{ROW.n_images + more},0.0,-1.0,1.0,0.0,-1.0,1.0\n"
    )
    assert len(compared(tmp_path, drc, redo)) == pairs


def test_restarts_are_those_of_all_seeds() -> None:
    table, printed = measured("3", {"ReDO": 0.4})
    seeds = [{"seed": seed, "restarts": 1 + seed} for seed in (0, 1)]
    printed = [replace(p, rows=tuple(replace(r, **s) for s in seeds for r in p.rows)) for p in printed]
    lines = [line for line in csv.DictReader(to_csv(table, printed).splitlines()) if line["seeds"]]
    assert [line["restarts"] for line in lines] == ["3"] * 2
