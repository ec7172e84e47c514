"""Which annotated images show one clear object before a background, by explicit rules.

The authors of DRC kept 5,024 dogs and 12,322 cars by a rule they did not publish. These rules are ours, every
threshold is a setting, and each image that is dropped is counted under the rule that dropped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from data_prep.annotations import Instance
from data_prep.annotators import MIN_SCORE
from data_prep.errors import DataPrepError
from data_prep.pictures import Crop

REASONS = (
    "no instance of the category",
    "best score too low",
    "too many instances",
    "disagrees with the annotated box",
    "object too small in the crop",
    "object too large in the crop",
    "object touches the crop's border too much",
)


@dataclass(frozen=True)
class SelectionRules:
    """Thresholds of the rules, applied in the order of REASONS. DataPrepError on values out of range."""

    categories: tuple[str, ...]
    """COCO categories that count as the object."""
    min_score: float = 0.9
    """Least score of the best instance."""
    max_instances: int = 1
    """Most instances of the category whose score reaches count_score."""
    count_score: float = 0.5
    min_box_iou: float = 0.5
    """Least overlap (IoU) of the mask's box with the annotated box."""
    min_area: float = 0.05
    """Least share of the crop that the mask covers."""
    max_area: float = 0.8
    """Most of it."""
    max_border: float = 0.25
    """Most of the crop's border pixels that the mask may cover."""
    same_thing: float = 0.7
    """Least overlap (IoU) of the boxes of two categories that are around one thing, counted once."""

    def __post_init__(self) -> None:
        if not all(self.categories):
            raise DataPrepError("The rule categories has an empty name; write it like categories=car+truck.")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not 0 <= value <= 1:
                raise DataPrepError(f"The rule {field.name} = {value} is out of range; choose 0 to 1.")
        if self.max_instances < 1:
            raise DataPrepError(
                f"The rule max_instances = {self.max_instances} is out of range; choose 1 or more."
            )


def override(rules: SelectionRules, changes: Sequence[str]) -> SelectionRules:
    """The rules with texts like min_score=0.8 and categories=car+truck applied.

    DataPrepError on an unknown rule, on no number or category, and on a score below what annotators keep.
    """
    known = [field.name for field in fields(rules)]
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise DataPrepError(f"There is no rule {name!r}; choose from {', '.join(known)}.")
        if name == "categories":
            values[name] = tuple(category.strip() for category in text.split("+"))
            continue
        try:
            values[name] = int(text) if name == "max_instances" else float(text)
        except ValueError as error:
            raise DataPrepError(f"The rule {change!r} has no number; write it like {name}=1.") from error
        if name in ("min_score", "count_score") and values[name] < MIN_SCORE:
            raise DataPrepError(
                f"The rule {change!r} is of no use, as what scores below {MIN_SCORE} is not annotated at all; "
                f"choose {MIN_SCORE} to 1."
            )
    return replace(rules, **values)


def select(
    instances: Sequence[Instance],
    box: tuple[float, float, float, float],
    crop: Crop,
    rules: SelectionRules,
) -> tuple[int | None, str]:
    """Which of the instances is the one object of an image, or None and why (one of REASONS) it is dropped.

    box: the annotated one, x, y, width and height; crop: the part of the image that is kept. What is found again under
    another category in the same place, as a pick-up may be as car and as truck, counts once.
    """
    found = [number for number, one in enumerate(instances) if one.category in rules.categories]
    if not found:
        return None, REASONS[0]
    chosen = max(found, key=lambda number: instances[number].score)
    best = instances[chosen]
    counted = [
        one
        for one in (instances[number] for number in found)
        if one.score >= rules.count_score
        and (one.category == best.category or box_iou(one.box, best.box) < rules.same_thing)
    ]
    left, top, right, bottom = crop
    inside = best.mask[top:bottom, left:right]
    share = inside.mean()
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]]).mean()
    broken = (
        best.score < rules.min_score,
        len(counted) > rules.max_instances,
        box_iou(best.box, box) < rules.min_box_iou,
        share < rules.min_area,
        share > rules.max_area,
        border > rules.max_border,
    )
    reason = next((reason for reason, is_broken in zip(REASONS[1:], broken, strict=True) if is_broken), "")
    return (None if reason else chosen), reason


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height); 0 if both are empty."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    union = a[2] * a[3] + b[2] * b[3] - common
    return common / union if union > 0 else 0.0
