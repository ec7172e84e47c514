from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.metrics import dice, foreground_ari, iou


def masks(seed: int, *, count: int = 20, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    share = rng.uniform(0, 1, (2, count, 1, 1))
    return tuple(rng.uniform(size=(2, count, size, size)) < share)  # type: ignore[return-value]


def pair_counting_ari(regions: np.ndarray, objects: np.ndarray) -> float:
    """ARI of one image from its definition: count the pairs of pixels that both partitions keep together."""
    pixels = [(int(r), int(o)) for r, o in zip(regions.flat, objects.flat, strict=True) if o]
    pairs = list(itertools.combinations(pixels, 2))
    both = sum(a == b for a, b in pairs)
    one, other = sum(a[0] == b[0] for a, b in pairs), sum(a[1] == b[1] for a, b in pairs)
    expected, highest = one * other / len(pairs), (one + other) / 2
    return 1.0 if highest == expected else (both - expected) / (highest - expected)


def test_iou_and_dice_equal_loops_over_sets_of_pixels() -> None:
    prediction, truth = masks(0)
    for i in range(len(truth)):
        a, b = set(np.flatnonzero(prediction[i])), set(np.flatnonzero(truth[i]))
        assert iou(prediction, truth)[i] == pytest.approx(len(a & b) / len(a | b))
        assert dice(prediction, truth)[i] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))


def test_known_values() -> None:
    truth = np.zeros((1, 2, 2), bool)
    truth[0, 0] = True
    everything = np.ones_like(truth)
    assert iou(everything, truth)[0] == 0.5
    assert dice(everything, truth)[0] == pytest.approx(2 / 3)
    assert iou(truth, truth)[0] == dice(truth, truth)[0] == 1
    assert iou(~truth, truth)[0] == dice(~truth, truth)[0] == 0


def test_dice_follows_from_iou_on_every_image() -> None:
    prediction, truth = masks(1)
    j = iou(prediction, truth)
    np.testing.assert_allclose(dice(prediction, truth), 2 * j / (1 + j))


def test_empty_over_empty_is_one_and_empty_over_something_zero() -> None:
    empty, some = np.zeros((1, 3, 3), bool), np.eye(3, dtype=bool)[None]
    assert iou(empty, empty)[0] == dice(empty, empty)[0] == 1
    assert iou(empty, some)[0] == dice(empty, some)[0] == iou(some, empty)[0] == 0


def test_masks_of_other_types_or_shapes_are_refused() -> None:
    mask = np.ones((2, 3, 3), bool)
    with pytest.raises(ValueError, match="one shape"):
        iou(mask, mask[:1])
    with pytest.raises(ValueError, match="bool"):
        dice(mask.astype(float), mask)


def test_ari_equals_counting_pairs() -> None:
    rng = np.random.default_rng(2)
    regions, objects = rng.integers(0, 4, (12, 5, 5)), rng.integers(0, 4, (12, 5, 5))
    expected = [pair_counting_ari(r, o) for r, o in zip(regions, objects, strict=True)]
    np.testing.assert_allclose(foreground_ari(regions, objects), expected)


def test_ari_known_value() -> None:
    objects = np.array([[[1, 1, 1], [2, 2, 2]]])
    regions = np.array([[[0, 0, 1], [1, 2, 2]]])
    assert foreground_ari(regions, objects)[0] == pytest.approx(
        0.24242424
    )  # Hubert & Arabie's formula by hand


def test_ari_ignores_background_pixels_and_names() -> None:
    objects = np.array([[[0, 0, 1], [2, 2, 1]]])
    regions = np.array([[[0, 1, 5], [3, 3, 5]]])
    assert foreground_ari(regions, objects)[0] == 1
    regions[0, 0, :2] = 7
    assert foreground_ari(regions, objects)[0] == 1


def test_ari_of_one_object() -> None:
    objects = np.ones((2, 2, 2), int)
    regions = np.array([np.zeros((2, 2), int), [[0, 0], [1, 1]]])
    np.testing.assert_array_equal(foreground_ari(regions, objects), [1, 0])


def test_ari_without_objects_is_undefined() -> None:
    objects = np.zeros((2, 2, 2), np.uint8)
    objects[1, 0, 0] = 1
    found = foreground_ari(np.zeros((2, 2, 2), np.uint8), objects)
    assert np.isnan(found[0])
    assert found[1] == 1
