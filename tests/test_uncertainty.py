"""Intervals over images, and differences on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.uncertainty import RESAMPLES, bootstrap, paired_difference, resample_weights


def test_the_interval_has_the_width_of_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, 400)
    found = bootstrap(values)
    width = 2 * 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(width, rel=0.12)
    assert found.low < found.mean < found.high


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    intervals = [bootstrap(rng.exponential(1.0, 60)) for _ in range(300)]
    share = np.mean([i.low <= 1.0 <= i.high for i in intervals])
    assert 0.88 <= share <= 0.98


def test_the_same_values_give_the_same_interval_and_equal_values_none() -> None:
    values = np.random.default_rng(3).uniform(size=50)
    before = bootstrap(values)
    assert bootstrap(values.copy()) == before
    resample_weights.cache_clear()
    assert bootstrap(values) == before
    flat = bootstrap(np.full(30, 0.25))
    assert (flat.low, flat.high) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("count", [7, 192, 256])
def test_the_interval_lies_within_the_values(count: int) -> None:
    for worst in (1.0, 0.999):
        found = bootstrap(np.array([worst, *[1.0] * (count - 1)]))
        assert worst <= found.low <= found.high <= 1


def test_pairing_removes_what_images_have_in_common() -> None:
    rng = np.random.default_rng(4)
    hardness = rng.uniform(0, 1, 200)
    one, other = hardness + 0.02, hardness + rng.normal(0, 0.01, 200)
    found = paired_difference(one, other)
    assert 0 < found.low < 0.02 < found.high < 0.03
    swapped = paired_difference(other, one)
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx(
        (-found.mean, -found.high, -found.low), abs=1e-6
    )


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        paired_difference(np.zeros(3), np.zeros(4))


def test_weights_are_shares_of_resamples() -> None:
    weights = resample_weights(17)
    assert weights.shape == (RESAMPLES, 17)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
