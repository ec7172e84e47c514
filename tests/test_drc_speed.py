"""What `nox -s speed` writes holds together; the speeds themselves are for a quiet machine."""

from __future__ import annotations

import pytest

from benchmarks import speed


def test_rates_ratios_and_arithmetic_agree_with_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "MATRIX_SIZE", {"cpu": 128})
    monkeypatch.setattr(speed, "SETTINGS", {"cpu": {"quick": speed.Setting("smoke", 16, 2, 2)}})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = speed.run()
    rates = {
        way: found[f"cpu_quick_{way}_images_steps_per_second"] for way in ("released", "reference", "fast")
    }
    assert all(rate > 0 for rate in rates.values())
    assert found["cpu_quick_ratio_float32"] == pytest.approx(rates["fast"] / rates["released"])
    assert found["cpu_quick_ratio"] >= found["cpu_quick_ratio_float32"]
    best = found["cpu_quick_ratio"] * rates["released"]
    assert found["cpu_quick_flops_per_second"] == pytest.approx(
        found["cpu_quick_flops_per_step_and_image"] * best
    )
    assert found["gpu_authors_width_ratio"] is None
    assert "no CUDA device" in found["gpu"]
    assert all(value is None or isinstance(value, int | float | str | dict) for value in found.values())
    assert "released" in speed.describe(found)
