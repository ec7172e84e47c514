"""From latent vectors to regions: what the two experts paint, who owns each pixel, and how likely the image is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from drc.config import DRCConfig
from drc.networks import LatentEBM, PixelReassignment, RegionGenerator, initialise, reassign

EPSILON = 1e-8  # in log π and in the denominator of γ, as the authors have it


class Regions(NamedTuple):
    """What z generates, for a batch of B images."""

    content_fg: Tensor  # (B, 3, H, W) in [-1, 1]
    content_bg: Tensor  # (B, 3, H, W) in [-1, 1], after re-assignment
    pi: Tensor  # (B, 2, H, W): mixing weights, foreground first, sum to 1 (Eq. 4)
    grid: Tensor | None  # (B, H, W, 2): where the background is read, None without re-assignment
    source_bg: Tensor  # (B, 3, H, W): the background before re-assignment
    logit_fg: Tensor  # (B, 1, H, W)
    source_logit_bg: Tensor  # (B, 1, H, W): before re-assignment

    @property
    def image(self) -> Tensor:
        """The generated image Σ_k π_k g_k, the mean of Eq. 6: (B, 3, H, W)."""
        return self.pi[:, :1] * self.content_fg + self.pi[:, 1:] * self.content_bg


class DRCModel(nn.Module):
    """Both generators β, the re-assignment β_pix and the latent EBM α. One latent z = (z_fg, z_bg, z_reassign)."""

    def __init__(self, config: DRCConfig, seed: int | None = 0) -> None:
        """Weights are drawn from `seed`; None leaves PyTorch's, for those who fill them otherwise."""
        super().__init__()
        c = config
        self.z_dims = (c.z_fg, c.z_bg, c.z_reassign if c.reassign else 0)
        classes = c.classes if c.pseudo_label_weight else 0
        self.fg = RegionGenerator(c.z_fg, c.start, c.width, c.image_size, classes)
        self.bg = RegionGenerator(c.z_bg, c.start, c.width, c.image_size, classes)
        self.reassign = (
            PixelReassignment(c.z_reassign, c.start, c.width, c.image_size) if c.reassign else None
        )
        self.lebm = LatentEBM(self.z_dims, c.classes)
        self.mask_bias, self.mask_gain = c.mask_bias, c.mask_gain
        if seed is not None:
            self.draw(seed)

    def draw(self, seed: int) -> None:
        """Draw all weights from `seed`; π_1 starts around sigmoid(`mask_bias`), and with `mask_gain` 0 at just that."""
        initialise(self, torch.Generator().manual_seed(seed))
        for region in (self.fg, self.bg):
            region.mask.weight = nn.Parameter(self.mask_gain * region.mask.weight.detach())
        self.fg.mask.bias = nn.Parameter(torch.full((1,), float(self.mask_bias)))

    @property
    def z_dim(self) -> int:
        """Length of the whole latent vector."""
        return sum(self.z_dims)

    def generator_parameters(self) -> list[nn.Parameter]:
        """β: all but the latent EBM."""
        return [p for name, p in self.named_parameters() if not name.startswith("lebm.")]

    def forward(self, z: Tensor) -> Regions:
        """Generate the regions of z (B, z_dim)."""
        z_fg, z_bg, z_reassign = z.split(self.z_dims, dim=1)
        content_fg, logit_fg, _ = self.fg(z_fg)
        source_bg, source_logit_bg, start_bg = self.bg(z_bg)
        grid = None if self.reassign is None else self.reassign(z_reassign, start_bg)
        return compose(content_fg, logit_fg, source_bg, source_logit_bg, grid)


def compose(
    content_fg: Tensor, logit_fg: Tensor, source_bg: Tensor, source_logit_bg: Tensor, grid: Tensor | None
) -> Regions:
    """Re-assign the background's content and logit by the grid, and let the two logits compete (Eq. 4).

    Contents are (B, 3, H, W) in [-1, 1], logits (B, 1, H, W), the grid (B, H, W, 2) in [-1, 1] or None.
    """
    content_bg, logit_bg = source_bg, source_logit_bg
    if grid is not None:
        moved = reassign(torch.cat([source_bg, source_logit_bg], dim=1), grid)
        content_bg, logit_bg = moved.split((3, 1), dim=1)
    pi = torch.cat([logit_fg, logit_bg], dim=1).softmax(dim=1)
    return Regions(content_fg, content_bg, pi, grid, source_bg, logit_fg, source_logit_bg)


def log_likelihoods(regions: Regions, images: Tensor, *, norm: str, scale: float) -> Tensor:
    """log p(x_i | w_ik = 1) up to a constant, per channel: (B, 2, 3, H, W), foreground first (Eq. 5).

    `norm` "l1" is the Laplace likelihood of the authors' code, -|g - x| / scale; "l2" the paper's Gaussian,
    -(g - x)² / scale. With `scale` 2σ² the Gaussian is Eq. 5's.
    """
    difference = torch.stack([regions.content_fg, regions.content_bg], dim=1) - images.unsqueeze(1)
    return -(difference.abs() if norm == "l1" else difference.square()) / scale


def responsibilities(pi: Tensor, log_p: Tensor, per: str = "channel") -> Tensor:
    """γ (Eq. 7): who owns each pixel a posteriori. π (B, 2, H, W) and log p (B, 2, 3, H, W) -> (B, 2, 3 or 1, H, W).

    `per` "channel" is the authors' code: each channel has a γ of its own, with ε in the denominator, so that what both
    experts find impossible goes to the background. `per` "pixel" is Eq. 7: one γ, by all channels together.
    """
    if per == "pixel":
        return ((pi + EPSILON).log().unsqueeze(2) + log_p.sum(dim=2, keepdim=True)).softmax(dim=1)
    foreground, background = (pi.unsqueeze(2) * log_p.exp()).unbind(dim=1)
    gamma = foreground / (foreground + background + EPSILON)
    return torch.stack([gamma, 1 - gamma], dim=1)


def expected_log_likelihood(pi: Tensor, log_p: Tensor, per: str = "channel") -> Tensor:
    """Σ_k γ_k (log π_k + log p_k), the last two terms of Eq. 12, with γ held fixed: (B, 3, H, W).

    `per` as for `responsibilities`. By "channel" log π counts in each of the three channels, by "pixel" once in all.
    """
    gamma, log_pi = responsibilities(pi.detach(), log_p.detach(), per), (pi + EPSILON).log().unsqueeze(2)
    if per == "pixel":
        log_pi = log_pi / log_p.shape[2]
    return (gamma * (log_pi + log_p)).sum(dim=1)
