"""IODINE's likelihood, prior and networks, at the sizes of the authors' released code."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, Tensor]  # of an LSTM: hidden and cell, (N, hidden) each
PRIOR_VARIANCE = math.log(2)  # softplus(0): the prior is the posterior whose parameters are all zero
LEGACY = 5.0  # a constant that the authors' decoder is given beside z


def component_log_probs(images: Tensor, means: Tensor, scale: float) -> Tensor:
    """log p(x | slot) at each pixel, logistic, its channels independent: (B, K, 1, H, W).

    `images` are (B, 3, H, W), `means` (B, K, 3, H, W).
    """
    x = (images.unsqueeze(1) - means) / scale
    return (-x - 2 * F.softplus(-x) - math.log(scale)).sum(dim=2, keepdim=True)


def log_mixture(logits: Tensor, components: Tensor) -> Tensor:
    """log p(x) at each pixel, mixed by the softmax of the mask logits: two of (B, K, 1, H, W) -> (B, 1, 1, H, W)."""
    return (logits.log_softmax(dim=1) + components).logsumexp(dim=1, keepdim=True)


def log_mixture_without(logits: Tensor, components: Tensor) -> Tensor:
    """log p(x) were slot k not there, the others sharing its mask: (B, K, 1, H, W)."""
    slots = range(logits.shape[1])
    others = [[j for j in slots if j != k] for k in slots]
    return torch.cat([log_mixture(logits[:, rest], components[:, rest]) for rest in others], dim=1)


def moments(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the posterior from its parameters (..., 2·z_dim)."""
    location, raw = parameters.chunk(2, dim=-1)
    return location, F.softplus(raw)


def sample(parameters: Tensor, noise: Tensor) -> Tensor:
    """z (..., z_dim) from the posterior, reparametrised by standard normal noise."""
    location, variance = moments(parameters)
    return location + variance.sqrt() * noise


def kl_from_prior(parameters: Tensor) -> Tensor:
    """KL divergence of the posterior from the prior, summed over z: (..., 2·z_dim) -> (...)."""
    location, variance = moments(parameters)
    ratio = variance / PRIOR_VARIANCE
    return 0.5 * (location.square() / PRIOR_VARIANCE + ratio - 1 - ratio.log()).sum(dim=-1)


def coordinates(size: int, kind: str) -> Tensor:
    """Where a pixel is: "linear", x and y in [-1, 1], (2, S, S); "cosine", 3 waves of x times 3 of y, (8, S, S)."""
    if kind == "linear":
        line = torch.linspace(-1, 1, size)
        return torch.stack([line.expand(size, size), line[:, None].expand(size, size)])
    waves = torch.cos(torch.linspace(0, math.pi, size) * torch.arange(3.0)[:, None])
    return torch.einsum("fx,gy->fgyx", waves, waves).flatten(0, 1)[1:]


def start_as_the_authors(module: nn.Module) -> None:
    """Weights from a truncated normal of variance 1 / fan-in, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            deviation = layer.weight[0].numel() ** -0.5
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def convolutions(channels: int, width: int, kernel: int, layers: int, stride: int) -> list[nn.Module]:
    """Convolutions that keep the resolution or, with stride 2, halve it, each followed by an ELU."""
    found: list[nn.Module] = []
    for i in range(layers):
        found += [nn.Conv2d(width if i else channels, width, kernel, stride, kernel // 2), nn.ELU()]
    return found


class Decoder(nn.Module):
    """z on every pixel of the image, with its coordinates, through convolutions (spatial broadcast)."""

    coordinates: Tensor

    def __init__(self, size: int, z_dim: int, width: int, kernel: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("coordinates", coordinates(size, "linear"), persistent=False)
        last = nn.Conv2d(width, 4, kernel, padding=kernel // 2)
        self.layers = nn.Sequential(*convolutions(z_dim + 3, width, kernel, layers, 1), last)
        start_as_the_authors(self)

    def forward(self, z: Tensor) -> Tensor:
        """(B, K, z_dim) -> (B, K, 4, S, S): mask logit, then means of red, green and blue."""
        folded = F.pad(z.flatten(0, 1), (0, 1), value=LEGACY)
        size = self.coordinates.shape[-2:]
        maps = [
            folded[:, :, None, None].expand(-1, -1, *size),
            self.coordinates.expand(len(folded), -1, -1, -1),
        ]
        painted = self.layers(torch.cat(maps, dim=1).contiguous(memory_format=torch.channels_last))
        return painted.unflatten(0, z.shape[:2])


class InputNorm(nn.Module):
    """Layer normalisation over slots' channels and pixels together, with a gain and an offset for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, channels, ...) -> the same, of mean 0 and variance 1 for each image and slot."""
        shape = (-1, *[1] * (x.ndim - 3))
        return F.layer_norm(x, x.shape[2:]) * self.gain.view(shape) + self.offset.view(shape)


class LSTM(nn.Module):
    """One step of a long short-term memory whose forget gate starts open by a bias of 1."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(channels + hidden, 4 * hidden)

    def forward(self, x: Tensor, state: State) -> State:
        """(N, channels) and the state -> the new state; its first part is the output."""
        h, cell = state
        enter, candidate, forget, leave = self.gates(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        cell = (forget + 1).sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        return leave.sigmoid() * cell.tanh(), cell


class Refinement(nn.Module):
    """How to change the posterior of each slot, from maps (N, channels, S, S) and vectors (N, 2·parameters + 1)."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        layers: int,
        mlp_layers: int,
        hidden: int,
        parameters: int,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.maps = nn.Sequential(*convolutions(channels, width, kernel, layers, 2))
        mlp: list[nn.Module] = [nn.Linear(width, hidden)]
        for _ in range(mlp_layers - 1):
            mlp += [nn.ELU(), nn.Linear(hidden, hidden)]
        self.mlp = nn.Sequential(*mlp)
        self.lstm = LSTM(hidden + 2 * parameters + 1, hidden)
        self.change = nn.Linear(hidden, parameters)
        start_as_the_authors(self)

    def start(self, count: int) -> State:
        """The state before the first refinement, for `count` slots: zeros."""
        zeros = self.change.weight.new_zeros(count, self.hidden)
        return zeros, zeros

    def forward(self, maps: Tensor, flat: Tensor, state: State) -> tuple[Tensor, State]:
        """-> what to add to the parameters (N, parameters), and the new state."""
        seen = self.maps(maps.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
        state = self.lstm(torch.cat([self.mlp(seen), flat], dim=1), state)
        return self.change(state[0]), state
