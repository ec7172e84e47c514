"""From a method's masks to its scores: what each strategy chooses is what is scored, in pieces of any size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from baselines.matching import STRATEGIES, applicable
from benchmarks import scoring
from benchmarks.data import Evaluation, object_boxes
from benchmarks.grid import strategies_of
from benchmarks.metrics import dice, foreground_ari, iou
from benchmarks.scoring import check_masks, score

COUNT, SIZE = 5, 8


class Fixed:
    """A method that answers with masks it was given, image by image, and gives one image in each call up."""

    name = "Fixed"
    needs_boxes = True

    def __init__(self, regions: np.ndarray, names_foreground: bool) -> None:
        self.regions, self.names_foreground = regions, names_foreground
        self.seen = 0
        self.failures = 0
        self.boxes: list[np.ndarray] = []

    def segment(self, images: np.ndarray, *, boxes: Any, progress: Any = None) -> np.ndarray:
        self.boxes += list(boxes)
        self.seen, first = self.seen + len(images), self.seen
        self.failures = 1
        hard = np.eye(self.regions.max() + 1, dtype=np.float32)[self.regions[first : self.seen]]
        return 0.6 * hard.transpose(0, 3, 1, 2) + 0.4 / hard.shape[-1]  # soft, of the same order


def evaluation() -> Evaluation:
    """Two objects an image, on the left and on the right."""
    objects = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    objects[:, 1:4, :3] = 1
    objects[:, 4:7, 5:] = 2
    images = np.zeros((COUNT, SIZE, SIZE, 3), np.uint8)
    return Evaluation(images, objects, [f"image-{i}" for i in range(COUNT)])


def regions(count: int) -> np.ndarray:
    """Regions that follow the objects, but for noise, under numbers that change from image to image."""
    rng = np.random.default_rng(0)
    found = np.minimum(evaluation().objects.astype(int), count - 1)
    noise = rng.integers(0, count, found.shape)
    found = np.where(rng.random(found.shape) < 0.3, noise, found)
    return np.stack([rng.permutation(count)[image] for image in found])


@pytest.mark.parametrize("chunk", [2, 100])
@pytest.mark.parametrize(
    ("count", "strategy"), [(2, "unmatched"), (2, "image-permutation"), (3, "best-of-two"), (3, "best-slot")]
)
def test_the_masks_are_judged_by_the_strategy_and_by_the_others(
    count: int, strategy: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK", chunk)
    data, masks = evaluation(), regions(count)
    method = Fixed(masks, names_foreground=strategy == "unmatched")
    scores = score(method, data, strategy)
    one_hot = np.eye(count)[masks].transpose(0, 3, 1, 2)
    chosen = STRATEGIES[strategy](one_hot, data.truth)
    assert np.array_equal(scores.foreground, chosen)
    assert scores.table["id"].tolist() == data.ids
    assert scores.table["iou"].to_numpy() == pytest.approx(iou(chosen, data.truth))
    assert scores.table["dice"].to_numpy() == pytest.approx(dice(chosen, data.truth))
    assert scores.table["fg_ari"].to_numpy() == pytest.approx(foreground_ari(masks, data.objects))
    assert (scores.table["iou"] < scores.table["dice"]).any()
    others = set(applicable(count, method.names_foreground)) - {strategy}
    assert set(scores.alternatives) == others
    for name in others:
        foreground = STRATEGIES[name](one_hot, data.truth)
        assert scores.alternatives[name]["iou"] == pytest.approx(iou(foreground, data.truth).mean())
        assert scores.alternatives[name]["dice"] == pytest.approx(dice(foreground, data.truth).mean())
    assert scores.failures == -(-COUNT // chunk)
    assert np.array_equal(method.boxes, object_boxes(data.objects))


def test_an_image_without_objects_does_not_count_in_the_mean_over_objects() -> None:
    data, masks = evaluation(), regions(3)
    data.objects[2] = 0
    each = foreground_ari(masks, data.objects)
    assert np.isnan(each).tolist() == [False, False, True, False, False]
    found = score(Fixed(masks, names_foreground=False), data, "best-of-two").fg_ari
    assert found == pytest.approx(np.delete(each, 2).mean())


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.25, 0.25), "do not sum to 1"),
        ((0.75, 0.75), "do not sum to 1"),
        ((0.51, 0.5), "do not sum to 1"),
        ((-0.5, 1.5), "negative or non-finite"),
        ((float("nan"), 0.5), "negative or non-finite"),
        ((float("inf"), 0.0), "negative or non-finite"),
    ],
)
def test_masks_that_are_no_shares_are_refused(shares: tuple[float, float], said: str) -> None:
    data = evaluation()
    masks = np.full((COUNT, 2, SIZE, SIZE), 0.5, np.float32)
    assert check_masks(masks, data.images, "Fixed") is masks
    masks[3, :, 2, 1] = shares
    with pytest.raises(ValueError, match=f"Fixed gave masks .*{said}"):
        check_masks(masks, data.images, "Fixed")


@pytest.mark.parametrize(
    "shape",
    [(COUNT, 1, SIZE, SIZE), (COUNT, SIZE, SIZE), (COUNT - 1, 2, SIZE, SIZE), (COUNT, 2, SIZE, SIZE + 1)],
)
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Fixed gave masks of shape \(.*\) for images of shape"):
        check_masks(np.full(shape, 1 / shape[1], np.float32), evaluation().images, "Fixed")


def test_a_strategy_counts_as_the_mean_over_seeds_where_every_seed_has_it() -> None:
    alternatives = [
        {"best-slot": {"iou": 0.2, "dice": 0.3}, "unmatched": {"iou": 0.9, "dice": 0.9}},
        {"best-slot": {"iou": 0.4, "dice": 0.5}},
    ]
    rows = [
        SimpleNamespace(protocol="image-permutation, oracle", alternatives=found) for found in alternatives
    ]
    printed: Any = SimpleNamespace(rows=rows, iou=50.0, dice=60.0)
    found = strategies_of(printed)
    assert list(found) == ["image-permutation", "best-slot"]
    assert found["image-permutation"] == {"iou": 50.0, "dice": 60.0}
    assert found["best-slot"] == pytest.approx({"iou": 30.0, "dice": 40.0})
