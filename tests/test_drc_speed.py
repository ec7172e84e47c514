"""What `nox -s speed` writes holds together; the speeds themselves are for a quiet machine."""

from __future__ import annotations

import pytest
import torch
from drc_helpers import SMOKE

from benchmarks import speed
from drc import compiled, fast
from drc.model import DRCModel


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes most of a minute, and changes nothing of what is tested here."""
    monkeypatch.setattr("drc.compiled.usable", lambda device: False)


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
    assert all(value is None or isinstance(value, int | float | str) for value in found.values())
    assert found["device"] == found["cpu"]
    assert found["version_torch"]
    assert "prior steps a second: released" in speed.describe(found)


@pytest.mark.parametrize("value", [3.3, 33.3, 77.7])
def test_the_norm_of_a_map_that_is_the_same_everywhere_is_a_number(value: float) -> None:
    """Rounding makes the mean of its squares less than the square of its mean."""
    x = torch.full((1, 8, 8, 4), value)
    for norm, seen in ((fast.NormedLeakyReLU, x.flatten(1, 2)), (compiled.NormedLeakyReLU, x)):
        assert norm.apply(seen, torch.ones(4), torch.zeros(4), 0.01).abs().max() < 0.1


def test_the_first_round_is_thrown_away_and_the_median_of_the_others_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = {"slow": [900.0, 6.0, 2.0, 5.0], "fast": [0.001, 1.0, 3.0, 2.0]}
    actions = {name: iter(times).__next__ for name, times in taken.items()}
    monkeypatch.setattr(speed, "seconds", lambda action, device: action())
    assert speed.compare(actions, 3, "cpu", "x") == {"slow": 5.0, "fast": 2.0}


def test_ratios_are_of_released_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"released": 12.0, "reference": 6.0, "fast": 4.0, "fast_bfloat16": 3.0}
    taken |= {"prior_released": 10.0, "prior_reference": 5.0, "prior": 2.0}
    monkeypatch.setattr(speed, "ways", lambda *words: taken)
    monkeypatch.setattr(speed, "compare", lambda actions, *words: actions)
    monkeypatch.setattr(speed, "step_flops", lambda *words: 60)
    monkeypatch.setattr(speed, "best_matrix_rate", lambda device: 80.0)
    found = speed.measure("name", speed.Setting("smoke", 16, 2, 2), "cpu")
    assert found == {
        **{f"cpu_name_{way}_images_steps_per_second": 2 / seconds for way, seconds in taken.items()},
        "cpu_name_ratio": 4.0,
        "cpu_name_ratio_float32": 3.0,
        "cpu_name_prior_ratio": 5.0,
        "cpu_name_flops_per_step_and_image": 30.0,
        "cpu_name_flops_per_second": 20.0,
        "cpu_name_matmul_share": 0.25,
    }


def test_what_is_compiled_is_a_way_of_its_own_and_may_be_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc.compiled.usable", lambda device: True)
    monkeypatch.setattr("drc.compiled.fused", lambda function: function)  # run as it stands
    model = DRCModel(SMOKE, 0)
    actions = speed.ways(model, SMOKE, torch.zeros(2, model.z_dim), torch.zeros(2, 3, 16, 16))
    assert [way for way in actions if way in speed.POSTERIOR] == list(speed.POSTERIOR)
    taken = dict.fromkeys(actions, 8.0) | {"compiled_bfloat16": 1.0, "fast": 4.0}
    monkeypatch.setattr(speed, "compare", lambda actions, *words: taken)
    monkeypatch.setattr(speed, "best_matrix_rate", lambda device: 80.0)
    found = speed.measure("quick", speed.Setting("smoke", 16, 2, 2), "cpu")
    assert (found["cpu_quick_ratio"], found["cpu_quick_ratio_float32"]) == (8.0, 2.0)
    found |= {"cpu_peak_memory_mb": 1.0}
    assert "fast_bfloat16 0.2, compiled_bfloat16 2.0; fastest over released 8.00" in speed.describe(found)


def test_a_matrix_product_is_two_operations_for_each_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MATRIX_SIZE", {"cpu": 10})
    monkeypatch.setattr(speed, "seconds", lambda action, device: 0.5)
    assert speed.matrix_rate("cpu", torch.float32) == 2 * 10**3 / 0.5


def test_anomalies_are_looked_for_as_released_and_not_in_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    monkeypatch.setattr(speed, "gradient", lambda target, z: looked.append(torch.is_anomaly_enabled()))
    config = SMOKE
    model = DRCModel(config, 0)
    actions = speed.ways(model, config, torch.zeros(2, model.z_dim), torch.zeros(2, 3, 16, 16))
    for action in actions.values():
        action()
    assert dict(zip(actions, looked, strict=True)) == {
        name: name in ("released", "prior_released") for name in actions
    }
