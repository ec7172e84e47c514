"""Which region is the foreground? Named strategies that turn region masks into one foreground mask.

A strategy is a pure function `(masks, truth) -> foreground`:

- `masks`: (N, K, H, W), soft masks that sum to 1 over K, or their one-hot form;
- `truth`: (N, H, W) bool, the true foreground. Strategies that look at it are oracles, and say so;
- `foreground`: (N, H, W) bool.

All of them cost time linear in N and K: a choice needs only the overlap of each region with the truth.
IoU and Dice of an image rise and fall together (Dice = 2 IoU / (1 + IoU)), so what is best by one is best by the other;
what is chosen for a whole data set is chosen by its mean IoU.
docs/protocols.md says which method is judged by which strategy, and why.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Strategy = Callable[[np.ndarray, np.ndarray], np.ndarray]


def one_hot(masks: np.ndarray) -> np.ndarray:
    """Assign every pixel to one region.

    masks (N, K, H, W) float -> (N, K, H, W) bool, exactly one True over K. With two regions, region 0 needs
    more than one half (π_f > 0.5, the rule of DRC's code); with more, the first largest wins.
    """
    if masks.dtype == bool:
        return masks
    regions = masks.shape[1]
    winner = np.where(masks[:, 0] > 0.5, 0, 1) if regions == 2 else masks.argmax(axis=1)
    return winner[:, None] == np.arange(regions)[None, :, None, None]


def region_iou(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of each region with the truth: one-hot (N, K, H, W), (N, H, W) -> (N, K); empty over empty is 1."""
    images, regions = masks.shape[:2]
    flat = masks.reshape(images, regions, -1)
    wanted = truth.reshape(images, -1)
    shared = np.stack([(flat[:, k] & wanted).sum(axis=1) for k in range(regions)], axis=1)
    union = flat.sum(axis=2) + wanted.sum(axis=1)[:, None] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def unmatched(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Region 0, as it is: for methods that name their foreground. The truth is not looked at."""
    return one_hot(masks)[:, 0]


def image_permutation(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Oracle, two regions: for each image, the region of the higher IoU with the truth (the paper's §)."""
    _needs_two_regions(masks, "image-permutation")
    return best_slot(masks, truth)


def dataset_permutation(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Oracle, two regions: one region for the whole data set, that of the higher mean IoU."""
    _needs_two_regions(masks, "dataset-permutation")
    hard = one_hot(masks)
    return hard[:, int(region_iou(hard, truth).mean(axis=0).argmax())]


def best_slot(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Oracle: for each image, the single region with the highest IoU with the true foreground."""
    hard = one_hot(masks)
    return _pick(hard, region_iou(hard, truth).argmax(axis=1))


def background_slot_by_truth(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Oracle: the region with the highest IoU with the true background is background, the rest foreground."""
    hard = one_hot(masks)
    return ~_pick(hard, region_iou(hard, ~truth).argmax(axis=1))


def background_slot_by_area(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """No oracle: the largest region is background, all others foreground. The truth is not looked at."""
    hard = one_hot(masks)
    return ~_pick(hard, hard.sum(axis=(2, 3)).argmax(axis=1))


def best_of_two(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Oracle: best-slot or background-slot-by-truth for the whole data set, whichever has the higher mean IoU.

    The paper's rule for methods of several slots: of two conversions, the better result. With two regions
    best-slot always wins, so that this is image-permutation.
    """
    hard = one_hot(masks)
    choices = np.stack([best_slot(hard, truth), background_slot_by_truth(hard, truth)], axis=1)
    return choices[:, int(region_iou(choices, truth).mean(axis=0).argmax())]


STRATEGIES: dict[str, Strategy] = {
    "unmatched": unmatched,
    "image-permutation": image_permutation,
    "dataset-permutation": dataset_permutation,
    "best-slot": best_slot,
    "background-slot-by-truth": background_slot_by_truth,
    "background-slot-by-area": background_slot_by_area,
    "best-of-two": best_of_two,
}


def applicable(regions: int, names_foreground: bool) -> tuple[str, ...]:
    """The strategies that make sense for a method of so many regions, without those that coincide.

    One that names its foreground is never matched. With two regions best-slot and best-of-two are
    image-permutation. Raises ValueError for fewer than two regions.
    """
    if regions < 2:
        raise ValueError(f"a partition has at least two regions, not {regions}")
    if names_foreground:
        return ("unmatched",)
    if regions == 2:
        best: tuple[str, ...] = ("image-permutation", "dataset-permutation")
    else:
        best = ("best-of-two", "best-slot")
    return (*best, "background-slot-by-truth", "background-slot-by-area")


def _pick(hard: np.ndarray, region: np.ndarray) -> np.ndarray:
    """(N, K, H, W) bool and one region number for each image -> (N, H, W) bool."""
    return hard[np.arange(len(hard)), region]


def _needs_two_regions(masks: np.ndarray, name: str) -> None:
    if masks.shape[1] != 2:
        raise ValueError(
            f"the strategy {name} needs two regions and was given {masks.shape[1]}: "
            "choose best-slot or background-slot-by-truth for more"
        )
