from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from baselines.matching import STRATEGIES, applicable, one_hot
from benchmarks.metrics import dice, iou


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


def conversions(masks: np.ndarray, order: tuple[int, ...]) -> list[np.ndarray]:
    """The two ways to read slots in this order: the first is the foreground; the first is the background."""
    first = one_hot(masks)[:, list(order)][:, 0]
    return [first, ~first]


@pytest.mark.parametrize("regions", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_no_permutation_beats_the_oracles(regions: int, seed: int) -> None:
    masks, truth = case(regions, seed)
    orders = list(itertools.permutations(range(regions)))
    tried = [[scores([c], truth)[0] for c in conversions(masks, order)] for order in orders]
    slot, complement = np.array(tried).transpose(1, 2, 0)  # (images, orders) each
    overlap = np.array([iou(~conversions(masks, order)[1], ~truth) for order in orders])
    by_truth = np.take_along_axis(complement, overlap.argmax(axis=0)[:, None], axis=1)[:, 0]
    expected = {"best-slot": slot.max(axis=1), "background-slot-by-truth": by_truth}
    expected["best-of-two"] = max(expected.values(), key=lambda values: values.mean())
    for name, values in expected.items():
        np.testing.assert_allclose(iou(STRATEGIES[name](masks, truth), truth), values, err_msg=name)


def test_best_of_two_finds_objects_spread_over_slots() -> None:
    masks, truth = np.zeros((4, 4, 6, 6), np.float32), np.zeros((4, 6, 6), bool)
    truth[:, 2:4, :] = True
    masks[:, 0] = 1
    for k in range(3):
        masks[:, 0, 2:4, 2 * k : 2 * k + 2] = 0
        masks[:, k + 1, 2:4, 2 * k : 2 * k + 2] = 1
    np.testing.assert_array_equal(STRATEGIES["best-of-two"](masks, truth), truth)
    one_slot = STRATEGIES["best-slot"](masks, truth)
    assert iou(one_slot, truth).mean() == pytest.approx(1 / 3)


def test_best_of_two_is_chosen_by_the_mean_over_images() -> None:
    """One slot is right in most images; all but the background are nearly right in these and right in the last."""
    whole, spread = [0, 0, 0, 0, 0, 2, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]
    slots = np.array([whole, whole, spread])[:, None, None]
    masks = slots == np.arange(3)[:, None, None]
    truth = np.broadcast_to(np.arange(10) >= 6, (3, 1, 10))
    assert iou(STRATEGIES["best-slot"](masks, truth), truth) == pytest.approx([1, 1, 0.5])
    assert iou(STRATEGIES["best-of-two"](masks, truth), truth) == pytest.approx([0.8, 0.8, 1])


def test_with_two_regions_best_slot_and_best_of_two_are_the_permutation() -> None:
    masks, truth = case(2, seed=5)
    wanted = STRATEGIES["image-permutation"](masks, truth)
    for name in ("best-slot", "best-of-two"):
        np.testing.assert_array_equal(STRATEGIES[name](masks, truth), wanted)


def test_the_choice_is_best_by_dice_too() -> None:
    masks, truth = case(2, seed=7)
    best = np.max([dice(one_hot(masks)[:, k], truth) for k in range(2)], axis=0)
    np.testing.assert_allclose(dice(STRATEGIES["image-permutation"](masks, truth), truth), best)


@pytest.mark.parametrize("regions", [2, 7])
def test_only_oracles_look_at_the_truth(regions: int) -> None:
    masks, truth = case(regions, count=40)
    for name, strategy in STRATEGIES.items():
        if regions == 2 or not name.endswith("-permutation"):
            looked = not np.array_equal(strategy(masks, truth), strategy(masks, ~truth))
            assert looked == (name not in ("unmatched", "background-slot-by-area")), name


@pytest.mark.parametrize("name", ["best-slot", "background-slot-by-truth", "background-slot-by-area"])
def test_an_image_is_judged_by_itself(name: str) -> None:
    masks, truth = case(4, count=9)
    alone = [STRATEGIES[name](masks[i : i + 1], truth[i : i + 1]) for i in range(9)]
    np.testing.assert_array_equal(STRATEGIES[name](masks, truth), np.concatenate(alone))


@pytest.mark.parametrize("regions", [2, 3, 7])
def test_applicable_strategies_run_and_differ(regions: int) -> None:
    masks, truth = case(regions, count=40)
    names = applicable(regions, names_foreground=False)
    means = [iou(STRATEGIES[name](masks, truth), truth).mean() for name in names]
    assert max(means) == means[0], "the headline is the most generous"
    assert len({STRATEGIES[name](masks, truth).tobytes() for name in names}) >= len(names) - (regions > 2)


def test_what_names_its_foreground_is_never_matched() -> None:
    assert applicable(2, names_foreground=True) == ("unmatched",)
    with pytest.raises(ValueError, match="two regions"):
        applicable(1, names_foreground=True)


def test_no_strategy_slows_down_with_the_number_of_images() -> None:
    """Ten times the images may cost ten times as long, with much to spare for a busy machine."""

    def seconds(count: int) -> float:
        masks = np.tile(one_hot(case(7)[0])[:10], (count // 10, 1, 1, 1))
        truth = np.tile(case(7)[1][:10], (count // 10, 1, 1))
        began = time.perf_counter()
        for name in applicable(7, names_foreground=False):
            STRATEGIES[name](masks, truth)
        return time.perf_counter() - began

    seconds(100)
    assert seconds(20_000) < 40 * min(seconds(2_000) for _ in range(3))


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


@pytest.mark.parametrize("name", ["image-permutation", "best-slot"])
def test_of_an_image_without_objects_the_empty_region_is_the_right_one(name: str) -> None:
    masks = np.zeros((1, 2, 4, 4), np.float32)
    masks[:, 0] = 1
    assert not STRATEGIES[name](masks, np.zeros((1, 4, 4), bool)).any()
