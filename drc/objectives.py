"""The terms of Eq. 12 and the regularisers of Section 3.4, one small function each, and the two steps' sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc.config import DRCConfig
from drc.model import DRCModel, Regions, expected_log_likelihood, log_likelihoods, responsibilities
from drc.networks import Energies


def total_variation(picture: Tensor) -> Tensor:
    """|dx| + |dy|, each averaged over its own differences: (B, C, H, W) -> scalar."""
    dx, dy = picture.diff(dim=3).abs(), picture.diff(dim=2).abs()
    return dx.mean() + dy.mean()


def total_variation_sum(picture: Tensor) -> Tensor:
    """|dx| + |dy| summed over everything but the batch: (B, C, H, W) -> (B,)."""
    dx, dy = picture.diff(dim=3).abs(), picture.diff(dim=2).abs()
    return dx.sum(dim=(1, 2, 3)) + dy.sum(dim=(1, 2, 3))


def pseudo_label_loss(class_logits: Tensor, prior_logits: Tensor) -> Tensor:
    """Cross-entropy of the classifier's logits to the softmax of the LEBM's, both (B, classes) -> scalar.

    That softmax is the pseudo label y, and gets no gradient (Section 3.4).
    """
    return F.cross_entropy(class_logits, prior_logits.detach().softmax(dim=1))


def orthogonality(*networks: nn.Module) -> Tensor:
    """Squared off-diagonal entries of W Wᵀ over every 4-D weight W, rows being output channels -> scalar."""
    total = torch.zeros(())
    for network in networks:
        for weight in network.parameters():
            if weight.ndim == 4:
                gram = weight.flatten(1) @ weight.flatten(1).T
                total = total + gram.square().sum() - gram.diagonal().square().sum()
    return total


def prior_potential(model: DRCModel, z: Tensor) -> Tensor:
    """-log p_α(z) up to a constant (Eq. 2): energy(z) + ½‖z‖², (B, d) -> (B,)."""
    return model.lebm(z).energy + 0.5 * z.square().sum(dim=1)


def posterior_potential(
    model: DRCModel, render: Callable[[Tensor], Regions], z: Tensor, images: Tensor, config: DRCConfig
) -> Tensor:
    """The E-step's potential, -J of Eq. 12 as a function of z with γ held fixed: (B, d), (B, 3, H, W) -> (B,).

    Its gradient is that of -log p_θ(z | x), with Eq. 6 for a pixel where γ is one a pixel and for each channel by
    itself where γ is one a channel, but for what z_bg changes of the re-assignment, which the released code stops too;
    its value exceeds that by γ's entropy. As in the released code, and beyond Eq. 12, it has the background's total
    variation, unless `tv_in_e_step` is off; `pixel_weight` is ours. σ enters here as 2σ². `render` is the model's
    forward or a compiled form of it.
    """
    regions = render(z)
    log_p = log_likelihoods(regions, images, norm=config.likelihood, scale=2 * config.sigma**2)
    pixels = -expected_log_likelihood(regions.pi, log_p, config.gamma_per).sum(dim=(1, 2, 3))
    if config.tv_in_e_step:
        pixels = pixels + config.tv_weight * total_variation_sum(regions.content_bg)
    return config.pixel_weight * pixels + prior_potential(model, z)


class GeneratorTerms(NamedTuple):
    """The M-step's terms for the generators, unweighted scalars (to be minimised)."""

    likelihood: Tensor
    tv: Tensor
    pseudo_fg: Tensor
    pseudo_bg: Tensor
    ortho: Tensor

    def total(self, config: DRCConfig) -> Tensor:
        """The weighted sum that the generators descend."""
        pseudo = config.pseudo_label_weight * (self.pseudo_fg + self.pseudo_bg)
        return self.likelihood + config.tv_weight * self.tv + pseudo + config.ortho_weight * self.ortho


def generator_terms(
    model: DRCModel, regions: Regions, energies: Energies, images: Tensor, config: DRCConfig
) -> GeneratorTerms:
    """The M-step's terms at the sampled z (Algorithm 1, line 6); the likelihood is -mean over pixels and channels."""
    log_p = m_step_log_likelihoods(regions, images, config)
    zero = images.new_zeros(())
    pseudo_fg = pseudo_bg = zero
    if model.fg.classifier is not None and model.bg.classifier is not None:
        picture_fg = regions.content_fg * regions.logit_fg.sigmoid()
        picture_bg = regions.source_bg * regions.source_logit_bg.sigmoid()
        pseudo_fg = pseudo_label_loss(model.fg.classifier(picture_fg), energies.classes_fg)
        pseudo_bg = pseudo_label_loss(model.bg.classifier(picture_bg), energies.classes_bg)
    return GeneratorTerms(
        likelihood=-expected_log_likelihood(regions.pi, log_p, config.gamma_per).mean(),
        tv=total_variation(regions.content_bg),
        pseudo_fg=pseudo_fg,
        pseudo_bg=pseudo_bg,
        ortho=orthogonality(model.fg, model.bg) if config.ortho_weight else zero,
    )


def m_step_log_likelihoods(regions: Regions, images: Tensor, config: DRCConfig) -> Tensor:
    """log p_k as the M-step takes it, with σ or without: (B, 2, 3, H, W)."""
    scale = 2 * config.sigma**2 if config.sigma_in_m_step else 1.0
    return log_likelihoods(regions, images, norm=config.likelihood, scale=scale)


@torch.no_grad()
def generation(regions: Regions, images: Tensor, config: DRCConfig) -> Tensor:
    """Eq. 12's objective for image generation alone, as the M-step has it: -Σ_k γ_k log p_k, averaged -> scalar.

    The rest of the M-step's likelihood is the objective for the partitioning, -Σ_k γ_k log π_k.
    """
    log_p = m_step_log_likelihoods(regions, images, config)
    return -(responsibilities(regions.pi, log_p, config.gamma_per) * log_p).sum(dim=1).mean()


def lebm_loss(model: DRCModel, z_posterior: Tensor, z_prior: Tensor) -> Tensor:
    """Contrast of the energy at posterior and prior samples, (B, d) each (Eq. 3; Algorithm 1, line 5) -> scalar."""
    return model.lebm(z_posterior).energy.mean() - model.lebm(z_prior).energy.mean()
