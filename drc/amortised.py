"""Amortised inference, a row of Table 2: encoders in place of the latent EBM and its sampler, trained as a VAE.

q(z | x) is a normal distribution with a mean and a variance for every number of z, given by one encoder for each of
the foreground, the background and the re-assignment; the prior is N(0, I). There is no symbolic vector y without the
LEBM, and so no pseudo label.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from drc import rng
from drc.config import DRCConfig
from drc.model import DRCModel, Regions, expected_log_likelihood, log_likelihoods
from drc.networks import RegionClassifier
from drc.objectives import orthogonality, total_variation
from drc.tensors import as_numbers
from drc.trainer import Trainer


class AmortisedModel(DRCModel):
    """DRC's generators and, for each latent, an encoder of the classifiers' layout."""

    def __init__(self, config: DRCConfig, seed: int | None = 0) -> None:
        super().__init__(config, seed=None)
        del self.lebm
        c = config
        self.encoders = nn.ModuleList(
            RegionClassifier(c.width, c.image_size, 2 * length) for length in self.z_dims if length
        )
        if seed is not None:
            self.draw(seed)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """q(z | x): images (B, 3, H, W) in [-1, 1] -> its mean and log-variance, (B, z_dim) each."""
        halves = [cast(Tensor, encoder(images)).chunk(2, dim=1) for encoder in self.encoders]
        return torch.cat([mean for mean, _ in halves], 1), torch.cat([spread for _, spread in halves], 1)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, I)), (B, d) each -> (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def negative_elbo(
    regions: Regions, images: Tensor, mean: Tensor, log_variance: Tensor, config: DRCConfig
) -> Tensor:
    """The VAE's loss of images (B, 3, H, W) with mean and log_variance (B, d), per pixel and channel -> scalar.

    With γ held fixed, as in Eq. 12, its gradient is the negative ELBO's over 3·H·W, of a pixel's or of each channel's
    mixture as in `posterior_potential`, but for what z_bg changes of the re-assignment. The likelihood is the E-step's,
    Eq. 12 with 2σ²: only so does it balance the KL. Where `pixel_weight` is below 1 it is tempered like the chains',
    and this is a β-VAE's loss, β = 1 / pixel_weight.
    """
    log_p = log_likelihoods(regions, images, norm=config.likelihood, scale=2 * config.sigma**2)
    expected = expected_log_likelihood(regions.pi, log_p, config.gamma_per)
    likelihood = config.pixel_weight * expected.sum(dim=(1, 2, 3))
    return (kl_to_standard_normal(mean, log_variance) - likelihood).mean() / images[0].numel()


def objective(
    model: AmortisedModel,
    regions: Regions,
    images: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    config: DRCConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What is minimised, the negative ELBO and the regularisers that remain -> their weighted sum, and each."""
    terms = {
        "negative_elbo": negative_elbo(regions, images, mean, log_variance, config),
        "tv": total_variation(regions.content_bg),
        "ortho": orthogonality(model.fg, model.bg),
    }
    weighted = config.tv_weight * terms["tv"] + config.ortho_weight * terms["ortho"]
    return terms["negative_elbo"] + weighted, terms


class AmortisedTrainer(Trainer):
    """Trains an AmortisedModel; its "chains" are the last samples of q for each image, kept for pictures alone."""

    model: AmortisedModel

    def __init__(self, images: np.ndarray, config: DRCConfig, seed: int, device: str = "cpu") -> None:
        super().__init__(images, config, seed, device)
        self.posterior_chains = self.posterior_chains.clone()  # which shared its memory with the prior's
        self.prior_chains = self.prior_chains.new_empty(self.count, 0)

    def build(self) -> None:
        self.model = AmortisedModel(self.config, self.seed).to(self.device)
        self.optimisers = {"generators": self.adam(self.model.parameters(), self.config.lr_generators)}

    def update(self, rows: list[int], visit: int, images: Tensor) -> dict[str, float]:
        """One step down the objective -> its terms, as numbers."""
        mean, log_variance = self.model.encode(images)
        z = mean + (0.5 * log_variance).exp() * self.noise(rng.POSTERIOR, rows, visit, 1)[0]
        regions = self.render(z)
        total, terms = objective(self.model, regions, images, mean, log_variance, self.config)
        values = as_numbers(
            terms
            | {
                "kl": kl_to_standard_normal(mean, log_variance).mean(),
                "reconstruction": (regions.image - images).abs().mean(),
                "foreground": regions.pi[:, 0].mean(),
                "z_norm": z.square().mean().sqrt(),
            }
        )
        self.check_finite(values)
        self.descend("generators", total)
        self.posterior_chains[rows] = z.detach().cpu()
        return values
