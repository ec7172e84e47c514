"""Each term is taken with the settings that are named, and pulls what it is meant to move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from drc_helpers import SMOKE, block_pictures
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from drc.amortised import AmortisedModel, negative_elbo, objective
from drc.model import DRCModel, Regions, expected_log_likelihood
from drc.objectives import (
    generator_terms,
    m_step_log_likelihoods,
    orthogonality,
    posterior_potential,
    prior_potential,
    total_variation,
)
from drc.tensors import to_signed
from drc.trainer import Trainer

IMAGES = to_signed(block_pictures(3), "cpu")
SETTINGS = [
    {"likelihood": "l1", "sigma": 0.25},
    {"likelihood": "l2", "sigma": 0.25},
    {"likelihood": "l2", "sigma": 0.5, "gamma_per": "pixel"},
]


def disturbed(model: Any) -> Any:
    """A model whose convolutions are no longer orthogonal."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def some_z(model: Any) -> Tensor:
    return torch.randn(len(IMAGES), model.z_dim, generator=torch.Generator().manual_seed(1))


def misses(regions: Regions, likelihood: str) -> Tensor:
    """How far each region is from the images, (B, 2, 3, H, W)."""
    difference = torch.stack([regions.content_fg - IMAGES, regions.content_bg - IMAGES], dim=1)
    return difference.abs() if likelihood == "l1" else difference**2


@pytest.mark.parametrize("changes", SETTINGS)
def test_both_steps_take_the_likelihood_and_the_sigma_that_are_set(changes: dict[str, Any]) -> None:
    config = replace(SMOKE, tv_in_e_step=False, **changes)
    model = DRCModel(config, seed=0)
    z = some_z(model)
    regions, miss = model(z), misses(model(z), config.likelihood)
    log_p = -miss / (2 * config.sigma**2)
    expected = prior_potential(model, z)
    expected = expected - expected_log_likelihood(regions.pi, log_p, config.gamma_per).sum(dim=(1, 2, 3))
    torch.testing.assert_close(posterior_potential(model, model, z, IMAGES, config), expected)
    torch.testing.assert_close(m_step_log_likelihoods(regions, IMAGES, config), -miss)


@pytest.mark.parametrize("changes", SETTINGS)
def test_the_elbo_takes_them_too(changes: dict[str, Any]) -> None:
    config = replace(SMOKE, pseudo_label_weight=0.0, amortised=True, **changes)
    model = AmortisedModel(config)
    mean, log_variance = model.encode(IMAGES)
    regions = model(mean)
    log_p = -misses(regions, config.likelihood) / (2 * config.sigma**2)
    kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
    elbo = (expected_log_likelihood(regions.pi, log_p, config.gamma_per).sum() - kl) / IMAGES.numel()
    torch.testing.assert_close(negative_elbo(regions, IMAGES, mean, log_variance, config), -elbo)


def pull_of_total_variation(model: Any, z: Tensor) -> Tensor:
    return total_variation(model(z).content_bg)


def pull_of_orthogonality(model: Any, z: Tensor) -> Tensor:
    return orthogonality(model.fg, model.bg)


PULLS = [("tv_weight", pull_of_total_variation), ("ortho_weight", pull_of_orthogonality)]


def gradient(loss: Tensor, model: Any) -> Tensor:
    parameters = [*model.fg.parameters(), *model.bg.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize(("weight", "pull"), PULLS)
def test_a_regulariser_pulls_the_generators_by_its_weight(
    weight: str, pull: Callable[[Any, Tensor], Tensor]
) -> None:
    model = disturbed(DRCModel(SMOKE, seed=0))
    z = some_z(model)

    def of_all(value: float) -> Tensor:
        config = replace(SMOKE, tv_weight=0.0, ortho_weight=0.0, pseudo_label_weight=0.0)
        config = replace(config, **{weight: value})
        return gradient(generator_terms(model, model(z), model.lebm(z), IMAGES, config).total(config), model)

    alone = gradient(pull(model, z), model)
    assert alone.abs().max() > 1e-4
    torch.testing.assert_close(of_all(2.0) - of_all(0.0), 2 * alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("weight", "pull"), PULLS)
def test_it_pulls_an_amortised_model_too(weight: str, pull: Callable[[Any, Tensor], Tensor]) -> None:
    plain = replace(SMOKE, pseudo_label_weight=0.0, amortised=True, tv_weight=0.0, ortho_weight=0.0)
    model = disturbed(AmortisedModel(plain))
    mean, log_variance = (part.detach() for part in model.encode(IMAGES))

    def of_all(value: float) -> Tensor:
        config = replace(plain, **{weight: value})
        return gradient(objective(model, model(mean), IMAGES, mean, log_variance, config)[0], model)

    torch.testing.assert_close(
        of_all(2.0) - of_all(0.0), 2 * gradient(pull(model, mean), model), rtol=1e-3, atol=1e-5
    )


def test_each_optimiser_has_the_learning_rate_of_its_own() -> None:
    trainer = Trainer(block_pictures(), replace(SMOKE, lr_generators=3e-4, lr_lebm=7e-5), seed=0)
    trainer.train_step()
    rates = {name: optimiser.param_groups[0]["lr"] for name, optimiser in trainer.optimisers.items()}
    assert rates == {"generators": 3e-4, "lebm": 7e-5}
