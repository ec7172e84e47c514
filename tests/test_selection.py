"""Which annotated images are kept: every rule drops what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep import selection
from data_prep.annotations import Instance
from data_prep.errors import DataPrepError
from data_prep.selection import REASONS, SelectionRules

DOG = SelectionRules(categories=("dog", "wolf"))


def dog(rows: slice, columns: slice, score: float = 0.95, category: str = "dog") -> Instance:
    mask = np.zeros((100, 100), bool)
    mask[rows, columns] = True
    return Instance(category, score, mask)


CLEAR = dog(slice(30, 70), slice(30, 70))
BOX = (30.0, 30.0, 40.0, 40.0)


@pytest.mark.parametrize(
    ("instances", "box", "reason"),
    [
        ([CLEAR], BOX, ""),
        ([dog(slice(0, 9), slice(0, 9), 0.4), CLEAR], BOX, ""),
        ([CLEAR, dog(slice(0, 90), slice(0, 90), 0.99, "sofa")], BOX, ""),
        ([], BOX, REASONS[0]),
        ([dog(slice(30, 70), slice(30, 70), category="cat")], BOX, REASONS[0]),
        ([dog(slice(30, 70), slice(30, 70), 0.7)], BOX, REASONS[1]),
        ([CLEAR, dog(slice(0, 9), slice(0, 9), 0.6)], BOX, REASONS[2]),
        ([CLEAR, dog(slice(30, 70), slice(30, 69), 0.6)], BOX, REASONS[2]),
        ([CLEAR, dog(slice(0, 9), slice(0, 9), 0.6, "wolf")], BOX, REASONS[2]),
        ([CLEAR, dog(slice(30, 70), slice(30, 69), 0.6, "wolf")], BOX, ""),  # one thing under two names
        ([CLEAR], (0.0, 0.0, 40.0, 40.0), REASONS[3]),
        ([dog(slice(48, 52), slice(30, 70))], (30.0, 48.0, 40.0, 4.0), REASONS[4]),
        ([dog(slice(5, 95), slice(5, 95))], (5.0, 5.0, 90.0, 90.0), REASONS[5]),
        ([dog(slice(0, 70), slice(0, 100))], (0.0, 0.0, 100.0, 70.0), REASONS[6]),
        ([dog(slice(20, 80), slice(0, 100))], (0.0, 20.0, 100.0, 60.0), REASONS[6]),
        ([dog(slice(0, 100), slice(20, 80))], (20.0, 0.0, 60.0, 100.0), REASONS[6]),
        ([dog(slice(70, 100), slice(0, 90))], (0.0, 70.0, 90.0, 30.0), REASONS[6]),  # by two sides each
        ([dog(slice(0, 30), slice(10, 100))], (10.0, 0.0, 90.0, 30.0), REASONS[6]),
    ],
)
def test_each_rule_drops_its_own(instances: list[Instance], box: tuple[float, ...], reason: str) -> None:
    crop = (0, 0, 100, 100) if reason in REASONS[5:] else (20, 20, 80, 80)
    chosen, why = selection.select(instances, box, crop, DOG)  # type: ignore[arg-type]
    assert why == reason
    assert (chosen is None) == bool(reason)


def test_rules_are_settings() -> None:
    rules = selection.override(DOG, ["min_score=0.5", "max_instances=3"])
    assert (rules.min_score, rules.max_instances, rules.max_area) == (0.5, 3, DOG.max_area)
    assert selection.override(DOG, ["min_score=0.3"]).min_score == 0.3
    assert selection.override(DOG, ["categories=car + fire hydrant"]).categories == ("car", "fire hydrant")
    for bad, message in [
        ("beauty=1", "no rule 'beauty'; choose from categories, min_score"),
        ("min_score=high", "has no number"),
        ("min_score=2", "choose 0 to 1"),
        ("max_instances=0", "choose 1 or more"),
        ("min_score=0.29", r"what scores below 0\.3 is not annotated at all; choose 0\.3 to 1"),
        ("count_score=0", r"what scores below 0\.3 is not annotated at all"),
        ("same_thing=1.5", "choose 0 to 1"),
        ("categories=", "has an empty name"),
        ("categories=car+", "has an empty name"),
    ]:
        with pytest.raises(DataPrepError, match=message):
            selection.override(DOG, [bad])


def test_how_far_one_thing_under_two_names_overlaps_is_a_setting() -> None:
    both = [CLEAR, dog(slice(30, 70), slice(30, 56), 0.6, "wolf")]  # IoU 26 / 40 = 0.65
    for changes, reason in (([], REASONS[2]), (["same_thing=0.6"], "")):
        rules = selection.override(DOG, changes)
        assert selection.select(both, BOX, (20, 20, 80, 80), rules)[1] == reason


def test_box_overlap() -> None:
    assert selection.box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert selection.box_iou((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
    assert selection.box_iou((0, 0, 2, 2), (5, 5, 2, 2)) == 0
    assert selection.box_iou((0, 0, 0, 0), (5, 5, 0, 0)) == 0


def test_areas_are_shares_of_the_crop_on_its_own_sides() -> None:
    tall, box = dog(slice(10, 50), slice(60, 80)), (60.0, 10.0, 20.0, 40.0)
    crop = (55, 5, 85, 55)  # left, top, right, bottom
    assert selection.select([tall], box, crop, DOG) == (0, "")
    half = selection.override(DOG, ["max_area=0.5"])  # 800 of 1,500 pixels are more
    assert selection.select([tall], box, crop, half)[1] == REASONS[5]
