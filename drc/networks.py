"""The networks of DRC: two region generators, the pixel re-assignment, the latent EBM, the region classifiers.

Shapes are written for a batch of B images of H = W = `image_size` pixels. The layout follows the authors'
implementation: every decoder is one linear layer to a 4×4 map of `start` channels (128 there), followed by
log2(H / 4) blocks that double the resolution; the first has the most channels, each later one half as many, down to
`width` (64).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 4  # side of the map that every decoder starts from and every classifier ends at


def block_count(image_size: int) -> int:
    """Number of doublings from 4 to `image_size`, which DRCConfig has be 8, 16, 32, ..."""
    return (image_size // BASE).bit_length() - 1


class Linear(nn.Linear):
    """A linear layer, (B, d) -> (B, d'), whose products are of `rows` rows each, filled up with zeros, if that is set.

    For a product of few rows, PyTorch's libraries may sum in another order than for one of many: by this a row's result
    has the same bits in any batch.
    """

    rows: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is None or self.rows == len(x):
            return super().forward(x)
        parts = [F.pad(part, (0, 0, 0, self.rows - len(part))) for part in x.split(self.rows)]
        return torch.cat([F.linear(part, self.weight, self.bias) for part in parts])[: len(x)]


@contextmanager
def products_of(rows: int | None, model: nn.Module) -> Iterator[None]:
    """Within it, the products of a model's linear layers are of so many rows each, or, for None, of the batch's."""
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    for layer in layers:
        layer.rows = rows
    try:
        yield
    finally:
        for layer in layers:
            del layer.rows  # as it was before: a layer that holds None is another one to what is compiled


class UpBlock(nn.Module):
    """Bilinear ×2, convolution 3×3, instance norm, LeakyReLU: (B, C, h, w) -> (B, C', 2h, 2w)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(channels_out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


class DownBlock(nn.Module):
    """Convolution 4×4 of stride 2, instance norm, LeakyReLU: (B, C, h, w) -> (B, C', h/2, w/2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(channels_out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


class Decoder(nn.Module):
    """The trunk shared in form, not in weights, by the three generators: a latent vector to a full-size map."""

    def __init__(self, z_dim: int, start: int, width: int, image_size: int, extra_channels: int = 0) -> None:
        super().__init__()
        blocks = block_count(image_size)
        self.start_channels = start
        channels = [start + extra_channels, *(width * 2**k for k in reversed(range(blocks)))]
        self.fc = Linear(z_dim, start * BASE * BASE)
        self.blocks = [f"block{k}" for k in range(1, blocks + 1)]
        for name, c_in, c_out in zip(self.blocks, channels, channels[1:], strict=False):
            self.add_module(name, UpBlock(c_in, c_out))

    def start(self, z: Tensor) -> Tensor:
        """(B, z_dim) -> the 4×4 map (B, start, 4, 4)."""
        return F.leaky_relu(self.fc(z), 0.2).view(-1, self.start_channels, BASE, BASE)

    def grow(self, x: Tensor) -> Tensor:
        """The 4×4 map, with any extra channels, -> (B, width, H, W)."""
        for block in self.up_blocks:
            x = block(x)
        return x

    @property
    def up_blocks(self) -> list[UpBlock]:
        """block1, block2, ... in order."""
        return [cast(UpBlock, self.get_submodule(name)) for name in self.blocks]


class RegionClassifier(nn.Module):
    """Auxiliary classifier of one region's picture: (B, 3, H, W) -> class logits (B, classes) (Section 3.4)."""

    def __init__(self, width: int, image_size: int, classes: int) -> None:
        super().__init__()
        blocks = block_count(image_size)
        channels = [3, *(width * 2**k for k in range(blocks))]
        self.blocks = [f"block{k}" for k in range(1, blocks + 1)]
        for name, c_in, c_out in zip(self.blocks, channels, channels[1:], strict=False):
            self.add_module(name, DownBlock(c_in, c_out))
        self.out = nn.Conv2d(channels[-1], classes, 6, stride=4, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return self.out(x).flatten(1)


class RegionGenerator(Decoder):
    """β_k: a region's content g in [-1, 1] and its mask logit l (Eqs. 4 and 5), with its auxiliary classifier."""

    def __init__(self, z_dim: int, start: int, width: int, image_size: int, classes: int) -> None:
        super().__init__(z_dim, start, width, image_size)
        self.content = nn.Conv2d(width, 3, 3, padding=1)
        self.mask = nn.Conv2d(width, 1, 3, padding=1)
        self.classifier = RegionClassifier(width, image_size, classes) if classes else None

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, z_dim) -> content (B, 3, H, W), mask logit (B, 1, H, W), the 4×4 start map (B, start, 4, 4)."""
        start = self.start(z)
        features = self.grow(start)
        return torch.tanh(self.content(features)), self.mask(features), start


class PixelReassignment(Decoder):
    """β_pix: where each background pixel is taken from, absolute coordinates in [-1, 1] (Section 3.2)."""

    def __init__(self, z_dim: int, start: int, width: int, image_size: int) -> None:
        super().__init__(z_dim, start, width, image_size, extra_channels=start)
        self.grid = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, z: Tensor, background_start: Tensor) -> Tensor:
        """(B, z_dim) and the background's 4×4 start map, which gets no gradient -> grid (B, H, W, 2)."""
        features = self.grow(torch.cat([background_start.detach(), self.start(z)], dim=1))
        return torch.tanh(self.grid(features)).permute(0, 2, 3, 1)


def reassign(picture: Tensor, grid: Tensor) -> Tensor:
    """Read `picture` (B, C, H, W) at `grid` (B, H, W, 2; x, y in [-1, 1]), zeros outside -> (B, C, H, W)."""
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class MLP(nn.Module):
    """Linear layers named 1, 2, ... with LeakyReLU 0.2 between them: (B, sizes[0]) -> (B, sizes[-1])."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.names = [str(k) for k in range(1, len(sizes))]
        for name, d_in, d_out in zip(self.names, sizes, sizes[1:], strict=False):
            self.add_module(name, Linear(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names[:-1]:
            x = F.leaky_relu(self.get_submodule(name)(x), 0.2)
        return self.get_submodule(self.names[-1])(x)


class Energies(NamedTuple):
    """What the latent EBM says of z: the energy (B,) and the class logits of both regions (B, classes)."""

    energy: Tensor
    classes_fg: Tensor
    classes_bg: Tensor


class LatentEBM(nn.Module):
    """The prior p_α(z) ∝ exp(-energy(z) - ½‖z‖²) (Eq. 2; f_α is minus this energy), one head per latent.

    A region's energy is the log-sum-exp of its class logits, whose softmax stands for the symbolic vector y of
    Section 3.1; the re-assignment's is a scalar head. Hidden layers are as wide as the authors'.
    """

    def __init__(self, z_dims: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        z_fg, z_bg, z_reassign = self.z_dims = z_dims
        self.fg = MLP(z_fg, 200, 200, classes)
        self.bg = MLP(z_bg, 200, 200, classes)
        self.reassign = MLP(z_reassign, 400, 400, 400, 1) if z_reassign else None

    def forward(self, z: Tensor) -> Energies:
        """(B, z_fg + z_bg + z_reassign) -> energies."""
        z_fg, z_bg, z_reassign = z.split(self.z_dims, dim=1)
        classes_fg, classes_bg = self.fg(z_fg), self.bg(z_bg)
        energy = classes_fg.logsumexp(1) + classes_bg.logsumexp(1)
        if self.reassign is not None:
            energy = energy + self.reassign(z_reassign).squeeze(1)
        return Energies(energy, classes_fg, classes_bg)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Orthogonal weights for every linear and convolutional layer, zero biases (Section 3.4)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
