"""What a training will cost: its arithmetic, the memory of its chains, the time of a batch, and how it is said."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, call, make_data, smoke

from drc import dry_run
from drc.build import build_trainer
from drc.config import VARIANT_CHANGES, configure
from drc.dry_run import estimate, flops, measure
from drc.model import DRCModel
from drc.objectives import posterior_potential
from drc.trainer import Trainer
from drc.words import in_hours


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("prepared") / "sprites")


def test_every_image_has_two_chains_of_four_bytes_a_number() -> None:
    assert estimate(SMOKE, count=24).chains == 24 * 2 * DRCModel(SMOKE).z_dim * 4


def test_amortised_inference_has_one_chain_an_image() -> None:
    config = smoke("amortised-inference")
    trainer = build_trainer(np.zeros((8, 16, 16, 3), np.uint8), config, 0, "cpu")
    held = sum(chains.nbytes for chains in (trainer.posterior_chains, trainer.prior_chains))
    assert estimate(config, count=8).chains == held


def test_where_a_step_is_compiled_its_own_arithmetic_and_memory_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the authors' width the form for a processor has half of the products."""
    gpu = configure(variant="full", preset="gpu", dataset="tm-dsprites", image_size=128)
    plain = estimate(gpu, 1000, "cpu")
    monkeypatch.setattr(dry_run, "records", lambda config, device: device.type == "cuda")
    fused = estimate(gpu, 1000, "cuda")
    assert fused.posterior_step == pytest.approx(48 * 59.6e9, rel=0.01)
    assert plain.posterior_step < 0.6 * fused.posterior_step
    assert fused.m_step == plain.m_step
    assert plain.recorded == 0
    assert fused.recorded > 1e9


def test_a_step_of_few_images_stands_for_that_of_a_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, clock = estimate(SMOKE, 8), iter(range(0, 1000, 3))
    monkeypatch.setattr(dry_run, "MEASURED_FLOPS", {"cpu": 2.5 * dry_run.STEPS * cost.step / 8})
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(Trainer, "train_step", lambda self: None)
    measured = measure(np.zeros((8, 16, 16, 3), np.uint8), SMOKE, 0, "cpu", cost)
    assert (measured.images, measured.seconds, measured.batch_seconds) == (2, 3, 12)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (59, "59.0 seconds"),
        (60, "1.0 minutes"),
        (3540, "59.0 minutes"),
        (3600, "1.0 hours"),
        (82_800, "23.0 hours"),
        (86_400, "1.0 days"),
    ],
)
def test_a_time_is_said_in_the_largest_unit_that_it_fills(seconds: float, said: str) -> None:
    assert in_hours(seconds) == said


def test_a_dry_run_says_all_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = call("train", "--data", data, "--out", out, "--preset", "smoke", "--dry-run", "--device", "cpu")
    assert result.exit_code == 0
    assert not out.exists()
    for name, value in asdict(SMOKE).items():
        assert f"  {name} = {value}\n" in result.output
    model = DRCModel(SMOKE)
    assert f"in all: {sum(p.numel() for p in model.parameters()):,}\n" in result.output
    assert "the run, 4 steps:" in result.output
    assert "10 steps of 8 images" in result.output


def test_a_dry_run_ends_after_a_minute_of_slow_steps(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "LONG_ENOUGH", 0.0)
    result = call("train", "--data", data, "--preset", "smoke", "--dry-run", "--device", "cpu")
    assert result.exit_code == 0
    assert "measured: 1 step of 8 images" in result.output


@pytest.mark.parametrize("compiled", [True, False])
def test_a_first_step_that_compiles_is_not_timed(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, clock = list[str](), iter(range(0, 1000, 50))
    monkeypatch.setattr(dry_run, "compiles", lambda config, device: compiled)
    timer = SimpleNamespace(monotonic=lambda: (taken.append("clock"), next(clock))[1])
    monkeypatch.setattr(dry_run, "time", timer)
    monkeypatch.setattr(Trainer, "train_step", lambda self: taken.append("step"))
    images = np.zeros((8, 16, 16, 3), np.uint8)
    measured = dry_run.measure(images, SMOKE, 0, "cpu", estimate(SMOKE, 8))
    assert taken == ["step"] * compiled + ["clock", "step", "clock"] * 2
    assert (measured.steps, measured.seconds) == (2, 50)


@pytest.mark.parametrize("variant", VARIANT_CHANGES)
def test_every_variant_has_an_estimate(variant: str, data: Path, tmp_path: Path) -> None:
    cost = estimate(configure(variant=variant, preset="smoke", dataset="any", image_size=16), count=24)
    assert cost.step >= cost.m_step > 0
    assert cost.inference > 0
    assert (cost.posterior_step == 0) == (variant == "amortised-inference")


def test_without_a_sampler_a_dry_run_speaks_of_none(data: Path, tmp_path: Path) -> None:
    words = ["--preset", "smoke", "--variant", "amortised-inference", "--dry-run", "--device", "cpu"]
    result = call("train", "--data", data, "--out", tmp_path / "run", *words)
    assert result.exit_code == 0
    assert "posterior step" not in result.output
    assert "one pass" in result.output


def test_estimates_follow_the_settings() -> None:
    cost = estimate(SMOKE, count=24)
    assert cost.run == cost.step * SMOKE.train_steps
    twice = estimate(replace(SMOKE, batch_size=16), count=24)
    assert twice.posterior_step == 2 * cost.posterior_step
    assert twice.chains == cost.chains
    assert cost.activations < twice.activations <= 2 * cost.activations
    few = estimate(replace(SMOKE, train_images=4), count=24)
    assert (few.chains, few.posterior_step) == (cost.chains // 6, cost.posterior_step // 2)
    longer = estimate(replace(SMOKE, posterior_steps=SMOKE.posterior_steps + 1), count=24)
    assert longer.step == cost.step + cost.posterior_step
    assert sum(cost.parameters.values()) * 16 == cost.weights


def test_the_arithmetic_of_the_authors_setting_is_under_half_of_their_networks() -> None:
    """59 GFLOP an image, three generators forward and back to z; the fast path makes most products on fewer pixels."""
    config = configure(variant="full", preset="paper", dataset="birds", image_size=128)
    with torch.device("meta"):
        model = DRCModel(config, seed=None).requires_grad_(False)
        z, images = torch.zeros(1, model.z_dim, requires_grad=True), torch.zeros(1, 3, 128, 128)
        plain = flops(lambda: posterior_potential(model, model, z, images, config).sum().backward())
    assert plain == pytest.approx(59e9, rel=0.03)
    cost = estimate(config, count=11_788)
    assert cost.posterior_step / 48 == pytest.approx(28e9, rel=0.03)
    assert cost.inference == pytest.approx(300 * 28e9, rel=0.03)
