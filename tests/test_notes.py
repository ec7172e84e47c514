"""What is said under a table of figures that are means over unlike runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import parse_row
from benchmarks.collect import Printed
from benchmarks.notes import near_floors, notes_of, place_of
from benchmarks.tables import load_table

LINES = (Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()
ROW = parse_row(LINES[3], "golden")
TABLE = load_table("1")


def warnings(*changes: dict[str, Any], splits: tuple[str, ...] = ("eval",)) -> list[str]:
    """What is said of settings where DRC's seeds 0, 1, ... have these changes."""
    printed = [
        Printed(
            entry,
            "quick",
            "measured",
            rows=tuple(
                replace(ROW, split=entry.split, seed=seed, **change) for seed, change in enumerate(changes)
            ),
        )
        for entry in TABLE.entries
        if (entry.line, entry.dataset) == ("DRC", "tm-dsprites") and entry.split in splits
    ]
    return [note for note in notes_of(TABLE, "quick", printed) if note.startswith("NOT THE SAME SETTINGS")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_steps": 50}, "training steps: 950 (seed 0 2), 50 (seed 1)"),
        ({"train_images": 7}, "images trained on: 4000 (seed 0 2), 7 (seed 1)"),
        ({"n_images": 9}, "images scored: 256 (seed 0 2), 9 (seed 1)"),
        ({"protocol": "best-of-two"}, "protocol: unmatched (seed 0 2), best-of-two (seed 1)"),
        ({"train_data_sha256": "b" * 64}, f"data trained on: {'a' * 12} (seed 0 2), {'b' * 12} (seed 1)"),
    ],
)
def test_seeds_of_other_settings_are_named_with_what_differs(changes: dict[str, Any], said: str) -> None:
    (note,) = warnings({}, changes, {})
    assert said in note
    assert "DRC on TM-dSprites (re-made), training images" in note
    assert note.count("(seed 1)") == 1


def test_one_training_is_told_of_once_with_all_places_where_it_is_scored() -> None:
    (note,) = warnings({}, {"train_steps": 50}, splits=("eval", "test"))
    assert "training images; TM-dSprites (re-made), held out:" in note


def test_nothing_is_said_of_like_seeds_nor_of_what_was_not_kept() -> None:
    assert not warnings({}, {"train_seconds": 1.0, "restarts": 2})
    assert not warnings({}, {"train_steps": None})


@pytest.mark.parametrize(
    ("trained_on", "dataset", "split", "preset", "said"),
    [
        ("birds", "birds", "all", "quick", True),
        ("clevr6-rendered", "clevr6-rendered", "eval", "quick", True),
        ("birds", "birds", "all", "paper", False),
        ("birds-split", "birds-split", "test", "quick", False),
        ("tm-dsprites", "tm-dsprites", "eval", "quick", False),
        ("ecssd", "coco-mval", "all", "quick", False),
    ],
)
def test_which_training_images_are_scored_is_said_where_there_are_more(
    trained_on: str, dataset: str, split: str, preset: str, said: bool
) -> None:
    entry = replace(
        TABLE.entries[0], method="DRC", variant="full", train_dataset=trained_on, dataset=dataset, split=split
    )
    row = replace(ROW, test_dataset=dataset, split=split)
    notes = notes_of(TABLE, preset, [Printed(entry, preset, "measured", rows=(row,))])
    assert any("scored among the first 512, on which every method trains" in note for note in notes) is said
    cut = f"{place_of(entry)}: scored among the first 512."
    assert (cut in notes) is (dataset == "coco-mval")  # on which nothing trains


def test_where_methods_stand_in_columns_the_one_that_lacks_a_seed_is_named() -> None:
    table = load_table("4")
    lacking = next(entry for entry in table.entries if entry.column == "DRC by responsibilities")
    notes = notes_of(table, "quick", [Printed(lacking, "quick", "measured", "seed 2 not measured", (ROW,))])
    assert f"Not with every seed, DRC by responsibilities ({lacking.line}): seed 2 not measured" in notes


def test_footnotes_and_published_figures_are_spoken_of_where_they_stand() -> None:
    """A mark is explained only under a table that shows it."""
    entries = [e for e in load_table("1").entries if e.dataset == "tm-dsprites" and e.split == "test"]
    every = [
        Printed(e, "quick", "measured", rows=(replace(ROW, method=e.method, split=e.split),)) for e in entries
    ]
    some = [p for p in every if p.entry.variant not in ("responsibilities", "untuned")]
    for printed, marks in ((every, {"¶", "‖"}), (some, set())):
        notes = notes_of(TABLE, "quick", printed)
        assert {mark for mark in "¶‖" if any(note.startswith(mark) for note in notes)} == marks
        assert "The published figures" not in notes[0]
    beside = replace(some[0], published_iou=50.0)
    assert "The published figures are at 128×128" in notes_of(TABLE, "quick", [beside])[0]


def test_a_time_that_is_the_same_in_two_trainings_is_said_once() -> None:
    (entry,) = (e for e in TABLE.entries if (e.line, e.dataset, e.split) == ("DRC", "tm-dsprites", "test"))
    rows = tuple(replace(ROW, seed=seed, train_seconds=130.9 + seed / 10) for seed in (0, 1))
    notes = notes_of(TABLE, "quick", [Printed(entry, "quick", "measured", rows=rows)])
    assert any("DRC: 131 training seconds in each of 2 trainings" in note for note in notes)


def held_out(line: str, **changes: Any) -> Printed:
    """A line of Table 1 where the held-out images of TM-dSprites are scored."""
    (entry,) = (e for e in TABLE.entries if (e.line, e.dataset, e.split) == (line, "tm-dsprites", "test"))
    return Printed(entry, "quick", "measured", rows=(replace(ROW, **changes),))


@pytest.mark.parametrize(("iou", "near"), [(0.15, False), (0.192, True), (0.208, True), (0.25, False)])
def test_only_what_is_within_a_point_of_a_floor_is_near_it(iou: float, near: bool) -> None:
    method, floor = held_out("DRC", iou=iou), held_out("all-foreground", iou=0.2)
    assert near_floors([method, floor]) == ([(method, floor)] if near else [])


def test_a_single_training_at_a_floor_is_told_where_the_mean_is_far_from_it() -> None:
    seeds = [replace(ROW, seed=seed, iou=iou) for seed, iou in enumerate((0.6, 0.205, 0.1))]
    method, floor = replace(held_out("ReDO"), rows=tuple(seeds)), held_out("all-foreground", iou=0.2)
    (note,) = (n for n in notes_of(TABLE, "quick", [method, floor]) if n.startswith("Within a point"))
    assert (
        "ReDO (seed 1 of 0, 1, 2) on TM-dSprites (re-made), held out, IoU 20.5, where all-foreground has 20.0"
        in note
    )


def test_nothing_is_told_of_the_making_of_what_the_paper_lacks() -> None:
    entry = next(e for e in load_table("photos").entries if e.dataset == "ecssd")
    rows = (replace(ROW, data_name="ecssd-remade"),)
    notes = notes_of(load_table("photos"), "quick", [Printed(entry, "quick", "measured", rows=rows)])
    assert not [note for note in notes if "prepared as" in note]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["dogs-remade"],
            "Dogs, all: prepared as dogs-remade (The authors' selection and masks are not public; ",
        ),
        (["dogs-authors"], "Dogs, all: prepared as dogs-authors."),
        (["dogs-remade", "dogs-authors"], "), dogs-authors."),
        (["dogs"], None),
        ([""], None),
    ],
)
def test_it_is_told_which_making_of_a_data_set_was_scored(names: list[str], said: str | None) -> None:
    entry = next(e for e in TABLE.entries if (e.line, e.dataset) == ("DRC", "dogs"))
    rows = tuple(replace(ROW, seed=seed, data_name=name) for seed, name in enumerate(names))
    notes = notes_of(TABLE, "quick", [Printed(entry, "quick", "measured", rows=rows)])
    assert [said in note for note in notes if "prepared as" in note] == ([] if said is None else [True])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (110.0, "The trained methods' headlines had about equal training time: 100 to 110 seconds."),
        (90.0, "The trained methods' headlines had about equal training time: 90 to 100 seconds."),
        (300.0, "The trained methods' headlines had unequal training time, in seconds: DRC 100, ReDO 300."),
    ],
)
def test_it_is_said_whether_methods_as_a_table_names_them_trained_equally_long(
    seconds: float, said: str
) -> None:
    printed = [
        held_out("DRC", train_seconds=100.0),
        held_out("DRC untuned", train_seconds=900.0),
        held_out("ReDO", train_seconds=seconds),
    ]
    (note,) = (note for note in notes_of(TABLE, "quick", printed) if note.startswith("The trained methods"))
    assert note == said


def test_a_single_image_that_a_method_gave_up_is_said() -> None:
    entry = next(
        e for e in TABLE.entries if (e.line, e.dataset, e.split) == ("GrabCut", "tm-dsprites", "test")
    )
    row = replace(ROW, method="GrabCut", variant="border", failures=1, n_images=96)
    (note,) = [
        note
        for note in notes_of(TABLE, "quick", [Printed(entry, "quick", "measured", rows=(row,))])
        if "empty masks" in note
    ]
    assert note.startswith(f"GrabCut failed on 1 of 96 images of {place_of(entry)}")


def test_a_floor_is_near_on_its_own_images_only() -> None:
    ious = {("DRC", "eval"): 0.3, ("all-foreground", "eval"): 0.301, ("DRC", "test"): 0.6}
    ious |= {("all-foreground", "test"): 0.302}
    printed = [
        Printed(e, "quick", "measured", rows=(replace(ROW, split=e.split, iou=ious[e.line, e.split]),))
        for e in TABLE.entries
        if e.dataset == "tm-dsprites" and (e.line, e.split) in ious
    ]
    assert [(p.entry.line, p.entry.split, floor.entry.split) for p, floor in near_floors(printed)] == [
        ("DRC", "eval", "eval")
    ]


@pytest.mark.parametrize(("count", "said"), [(9, True), (10, False)])
def test_figures_of_a_handful_of_images_are_called_so(count: int, said: bool) -> None:
    (note, *_) = (n for n in notes_of(TABLE, "quick", [held_out("DRC", n_images=count)]) if "scored: " in n)
    assert ("figures and intervals say little" in note) == said
