"""What a training will cost: the memory of its chains, the time of a whole batch, and in which unit it is said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from drc_helpers import SMOKE, smoke

from drc import dry_run
from drc.build import build_trainer
from drc.config import configure
from drc.dry_run import estimate, in_hours, measure
from drc.model import DRCModel
from drc.trainer import Trainer


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
