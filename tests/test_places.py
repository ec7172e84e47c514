"""Where things stand: published figures by the right line, trainings and scorings on the right images."""

from __future__ import annotations

import pytest

from benchmarks.collect import read_published
from benchmarks.registry import DATASETS
from benchmarks.tables import load_table


@pytest.mark.parametrize(
    ("number", "line", "column", "figures"),
    [
        ("1", "GrabCut", "Birds", (30.2, 42.7)),
        ("1", "DRC", "TM-dSprites", (78.8, 87.5)),
        ("2", "w/o TV-norm regularisation", "Birds", (53.0, 68.1)),
        ("2", "w/o orthogonal regularisation", "Birds", (54.3, 69.2)),
        ("2", "w/o pixel re-assignment", "Birds", (21.8, 35.3)),
        ("3", "ReDO", "Dogs train", (54.3, 69.2)),
        ("3", "ReDO", "Dogs test", (52.8, 67.9)),
        ("3", "DRC", "Cars test", (70.8, 82.5)),
        ("4", "Birds ← Dogs", "DRC", (41.3, 57.4)),
        ("4", "Dogs ← Birds", "DRC", (53.6, 69.1)),
        ("4", "Cars ← Birds", "ReDO", (41.8, 58.6)),
    ],
)
def test_a_published_figure_stands_where_the_paper_has_it(
    number: str, line: str, column: str, figures: tuple[float, float]
) -> None:
    table = load_table(number)
    (entry,) = [e for e in table.entries if (e.line, e.column) == (line, column) and e.published]
    assert read_published(table)[entry.published] == figures


def test_a_variant_of_table_2_stands_in_the_line_of_what_it_leaves_out() -> None:
    lines = {entry.variant: entry.line for entry in load_table("2").entries if entry.method == "DRC"}
    named = {"no-tv": "TV", "no-ortho": "orthogonal", "no-pseudo-label": "pseudo", "short-run-chain": "short"}
    named |= {"no-pixel-reassignment": "re-assignment", "amortised-inference": "amortised", "full": "full"}
    assert all(word in lines[variant] for variant, word in named.items())


@pytest.mark.parametrize("number", ["4", "photos"])
def test_a_line_is_trained_and_scored_where_it_says(number: str) -> None:
    """Of `tested ← trained on`, held-out images of the one after a training on the other."""
    table = load_table(number)
    for entry in table.entries:
        tested, trained_on = entry.line.split(" ← ")
        assert DATASETS[entry.dataset].label.removeprefix("TM-dSprites ").startswith((tested, tested.lower()))
        if entry.train_dataset:
            label = DATASETS[entry.train_dataset].label.removeprefix("TM-dSprites ")
            assert label.startswith((trained_on, trained_on.lower()))
        if number == "4":
            assert entry.split == "test"


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_called_held_out_is_not_trained_on(name: str) -> None:
    spec = DATASETS[name]
    for split, subset in spec.splits.items():
        assert (subset.rows == spec.train) == (subset.label in ("training images", "all"))
        assert (split == "test") == (subset.label == "held out")
        assert subset.limit == (1000 if split == "eval" else None), "the authors score the first 1,000"
    if "test" in spec.splits:
        assert spec.train is not None
