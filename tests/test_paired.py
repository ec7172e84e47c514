"""What is set in bold, and which two methods are compared image by image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_tables import ROW, layout, measured

from benchmarks.collect import Printed
from benchmarks.paired import Difference, differences


def bold(number: str, scores: dict[str, float]) -> set[str]:
    """The lines of a table's first grid with a figure in bold."""
    grid = layout(number, scores).grids[0]
    return {line.words[0] for line in grid.lines if any(text.best for text in line.texts)}


def test_figures_that_are_printed_alike_are_bold_alike() -> None:
    assert bold("3", {"DRC": 0.4001, "GrabCut": 0.4003}) == {"DRC", "GrabCut"}
    assert bold("3", {"DRC": 0.4001, "GrabCut": 0.4013}) == {"GrabCut"}


def test_what_stands_in_the_appendix_does_not_compete() -> None:
    assert bold("1", {"DRC": 0.4, "GrabCut": 0.5}) == {"GrabCut"}
    assert bold("1", {"DRC": 0.5, "GrabCut": 0.4}) == {"DRC"}


def scored(runs: Path, method: str, *seeds: str, **changes: Any) -> Printed:
    """A method with a row for each string of ids, one letter an image, and with the scores of these images."""
    _, printed = measured("3", {method: 0.5})
    found = next(p for p in printed if p.rows and p.entry.split == "test")
    rows = tuple(
        replace(found.rows[0], key=f"{method}-{seed}", seed=seed, **changes) for seed in range(len(seeds))
    )
    for row, ids in zip(rows, seeds, strict=True):
        (runs / "cells" / row.key).mkdir(parents=True)
        lines = "".join(f"{name},0.5,0.5\n" for name in ids)
        (runs / "cells" / row.key / "scores.csv").write_text("id,iou,dice\n" + lines)
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
