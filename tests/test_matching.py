from __future__ import annotations

import itertools

import numpy as np
import pytest

from baselines.matching import STRATEGIES, one_hot
from benchmarks.metrics import iou


def case(regions: int, seed: int = 0, count: int = 15, size: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = rng.dirichlet([0.3] * regions, (count, size, size)).transpose(0, 3, 1, 2).astype(np.float32)
    return masks, rng.uniform(size=(count, size, size)) < rng.uniform(0.1, 0.9, (count, 1, 1))


def scores(candidates: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """(candidates, images) IoU."""
    return np.stack([iou(c, truth) for c in candidates])


def test_two_regions_each_image_gets_its_best_permutation() -> None:
    masks, truth = case(2)
    hard = one_hot(masks)
    orders = itertools.permutations(range(2))
    best = scores([hard[:, list(order)][:, 0] for order in orders], truth).max(axis=0)
    np.testing.assert_allclose(iou(STRATEGIES["image-permutation"](masks, truth), truth), best)
    assert (best > iou(hard[:, 0], truth)).any()


def test_two_regions_one_permutation_for_the_data_set() -> None:
    masks, truth = case(2, seed=3)
    hard = one_hot(masks)
    orders = itertools.permutations(range(2))
    best = scores([hard[:, list(order)][:, 0] for order in orders], truth).mean(axis=1).max()
    chosen = STRATEGIES["dataset-permutation"](masks, truth)
    assert iou(chosen, truth).mean() == pytest.approx(best)
    assert any(np.array_equal(chosen, hard[:, k]) for k in range(2))


@pytest.mark.parametrize("regions", [2, 4, 7])
def test_best_slot_equals_trying_each(regions: int) -> None:
    masks, truth = case(regions)
    hard = one_hot(masks)
    best = scores([hard[:, k] for k in range(regions)], truth).max(axis=0)
    np.testing.assert_allclose(iou(STRATEGIES["best-slot"](masks, truth), truth), best)


@pytest.mark.parametrize("regions", [2, 4, 7])
def test_background_slot_by_truth_equals_trying_each(regions: int) -> None:
    masks, truth = case(regions)
    hard = one_hot(masks)
    chosen = STRATEGIES["background-slot-by-truth"](masks, truth)
    for i in range(len(truth)):
        overlaps = [iou(hard[i : i + 1, k], ~truth[i : i + 1])[0] for k in range(regions)]
        np.testing.assert_array_equal(chosen[i], ~hard[i, int(np.argmax(overlaps))])


def test_what_claims_no_oracle_does_not_look_at_the_truth() -> None:
    masks, truth = case(5)
    for name in ("unmatched", "background-slot-by-area"):
        np.testing.assert_array_equal(STRATEGIES[name](masks, truth), STRATEGIES[name](masks, ~truth))


def test_background_slot_by_area_leaves_out_the_largest_region() -> None:
    masks = np.zeros((1, 3, 2, 3), np.float32)
    masks[0, 1] = 1
    masks[0, :, 0, 0], masks[0, :, 0, 1] = (1, 0, 0), (0, 0, 1)
    truth = np.zeros((1, 2, 3), bool)
    expected = np.array([[[True, True, False], [False, False, False]]])
    np.testing.assert_array_equal(STRATEGIES["background-slot-by-area"](masks, truth), expected)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_shapes_types_and_hard_masks(name: str) -> None:
    masks, truth = case(2)
    before = masks.copy()
    found = STRATEGIES[name](masks, truth)
    assert found.shape == truth.shape
    assert found.dtype == bool
    np.testing.assert_array_equal(found, STRATEGIES[name](one_hot(masks), truth))
    np.testing.assert_array_equal(masks, before)


@pytest.mark.parametrize("name", ["image-permutation", "dataset-permutation"])
def test_permutations_need_two_regions(name: str) -> None:
    with pytest.raises(ValueError, match="two regions"):
        STRATEGIES[name](*case(3))


def test_a_tie_of_two_regions_is_background() -> None:
    assert not one_hot(np.full((1, 2, 1, 1), 0.5, np.float32))[0, 0, 0, 0]
