"""Table 2's amortised inference: encoders, a KL and a VAE that trains, resumes and segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drc_helpers import smoke
from torch.distributions import Normal, kl_divergence
from training_helpers import noise_pictures, quiet, train_method

from drc import rng
from drc.amortised import AmortisedModel, AmortisedTrainer, kl_to_standard_normal, objective
from drc.method import DRC
from drc.model import expected_log_likelihood, log_likelihoods
from drc.tensors import to_signed
from drc.trainer import train

SMOKE = smoke("amortised-inference")


def test_encoders_stand_in_place_of_the_latent_ebm() -> None:
    model = AmortisedModel(SMOKE)
    mean, log_variance = model.encode(torch.zeros(3, 3, 16, 16))
    assert mean.shape == log_variance.shape == (3, model.z_dim)
    assert not [name for name, _ in model.named_parameters() if "lebm" in name or "classifier" in name]


def test_the_kl_is_that_of_normal_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 4, 5, generator=generator)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


@pytest.mark.parametrize("pixel_weight", [1.0, 0.25])
def test_the_loss_is_the_negative_elbo_of_a_pixel_with_its_regularisers(pixel_weight: float) -> None:
    config = replace(SMOKE, tv_weight=2.0, ortho_weight=3.0, pixel_weight=pixel_weight)
    model, images = AmortisedModel(config), to_signed(noise_pictures(2), "cpu")
    mean, log_variance = model.encode(images)
    regions = model(mean)
    total, terms = objective(model, regions, images, mean, log_variance, config)
    log_p = log_likelihoods(regions, images, norm=config.likelihood, scale=2 * config.sigma**2)
    kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    elbo = (pixel_weight * expected_log_likelihood(regions.pi, log_p).sum() - kl) / images.numel()
    torch.testing.assert_close(terms["negative_elbo"], -elbo)
    torch.testing.assert_close(total, -elbo + 2 * terms["tv"] + 3 * terms["ortho"])


def test_a_sample_is_spread_by_the_standard_deviation() -> None:
    trainer, rows = AmortisedTrainer(noise_pictures(16), SMOKE, seed=0), [3, 0, 7]
    for encoder in trainer.model.encoders:
        torch.nn.init.constant_(list(encoder.parameters())[-1], 1.0)  # far from a variance of one
    images = trainer.pixels(rows, 2)
    with torch.no_grad():
        mean, log_variance = trainer.model.encode(images)
    trainer.update(rows, 2, images)
    (noise,) = trainer.noise(rng.POSTERIOR, rows, 2, 1)
    spread = trainer.posterior_chains[rows] - mean
    torch.testing.assert_close(spread, log_variance.exp().sqrt() * noise)


def test_the_loss_falls_on_a_fixed_set() -> None:
    trainer = AmortisedTrainer(noise_pictures(8), replace(SMOKE, train_steps=40, lr_generators=2e-3), seed=0)
    losses = [trainer.train_step()["negative_elbo"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def stop_at_two(step: int, total: int, **values: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    whole, parts = (AmortisedTrainer(noise_pictures(16), SMOKE, seed=1) for _ in range(2))
    train(whole, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        train(AmortisedTrainer(noise_pictures(16), SMOKE, seed=1), tmp_path / "parts", stop_at_two)
    train(parts, tmp_path / "parts", quiet)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name


def test_masks_are_the_same_after_loading(tmp_path: Path) -> None:
    method = DRC()
    train_method(method, noise_pictures(16), SMOKE, tmp_path)
    method.save(tmp_path / "model.pt")
    loaded = DRC.load(tmp_path / "model.pt")
    np.testing.assert_array_equal(loaded.segment(noise_pictures(3)), method.segment(noise_pictures(3)))


def test_masks_are_generated_from_the_mean_that_the_encoders_give_each_image(tmp_path: Path) -> None:
    method, images = DRC(), noise_pictures(3)
    train_method(method, noise_pictures(16), SMOKE, tmp_path)
    assert isinstance(method.model, AmortisedModel)
    with torch.no_grad():
        mean, _ = method.model.encode(to_signed(images, "cpu"))
        expected = method.model(mean).pi.numpy()
    np.testing.assert_allclose(method.segment(images), expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_a_checkpoint_holds_no_chains_but_the_last_samples() -> None:
    trainer = AmortisedTrainer(noise_pictures(16), SMOKE, seed=0)
    kept = [trainer.state()[f"{name}_chains"] for name in ("posterior", "prior")]
    assert [chains.shape for chains in kept] == [(16, trainer.model.z_dim), (16, 0)]
    assert [chains.untyped_storage().nbytes() for chains in kept] == [16 * trainer.model.z_dim * 4, 0]
