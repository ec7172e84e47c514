"""The four networks of ReDO (Chen et al., 2019): masks, region generators, discriminator, recovery of z.

Shapes are written for B images of S×S pixels, S being 8, 16, 32, ...; the authors' is 128. With S = 128 the maps of the
generators and of the discriminator go through 4, 8, 16, 32, 64 and 128 pixels; a smaller S leaves out the wide blocks
at the coarse end.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

BASE = 4  # side of the coarsest map
PYRAMID = (1, 2, 3, 6)  # cells a side of the mask network's pooled maps
# Of the orthogonal initialisation of every weight. The authors' own misses, on a GPU, those under spectral norm.
GAIN = 0.8


def doublings(image_size: int) -> int:
    """Doublings from 4 to `image_size` pixels; ValueError unless that is 8, 16, 32, ..."""
    blocks = (image_size // BASE).bit_length() - 1
    if image_size != BASE * 2**blocks or blocks < 1:
        raise ValueError(
            f"ReDO's image_size is {image_size}; it must be 8, 16, 32, ..., which are 4 times 2, 4, 8, ..."
        )
    return blocks


def convolution(
    c_in: int, c_out: int, side: int, *, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Conv2d:
    """A convolution with orthogonal weights."""
    layer = nn.Conv2d(c_in, c_out, side, stride, padding, bias=bias)
    nn.init.orthogonal_(layer.weight, GAIN)
    return layer


def linear(c_in: int, c_out: int) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    layer = nn.Linear(c_in, c_out)
    nn.init.orthogonal_(layer.weight, GAIN)
    return layer


def normed(c_in: int, c_out: int, side: int, *, bias: bool = True) -> nn.Module:
    """A convolution under spectral normalisation that keeps the map's size."""
    return spectral_norm(convolution(c_in, c_out, side, padding=side // 2, bias=bias))


class SelfAttention(nn.Module):
    """Attention of every pixel to a half-size map, added with a learned weight that starts at 0 (SAGAN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // 8, 1)
        self.query = normed(channels, narrow, 1, bias=False)
        self.key = normed(channels, narrow, 1, bias=False)
        self.value = normed(channels, channels // 2, 1, bias=False)
        self.out = normed(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); h and w even."""
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        weights = torch.softmax(key.transpose(1, 2) @ query, dim=1)  # over the keys: (B, hw / 4, hw)
        attended = (value @ weights).unflatten(2, x.shape[2:])
        return x + self.gamma * self.out(attended)


class ResidualBlock(nn.Module):
    """Two convolutions around which the map is carried; of the mask network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            convolution(channels, channels, 3, padding=1),
        )
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return F.relu(self.norm(x + self.layers(x)))


class MaskNetwork(nn.Module):
    """From images in [-1, 1] to the masks of two regions, which sum to 1."""

    def __init__(self, image_size: int, width: int, residual_blocks: int) -> None:
        super().__init__()
        self.side = image_size // 4
        self.down = nn.Sequential(
            nn.ReflectionPad2d(3),
            convolution(3, width // 4, 7, bias=False),
            nn.InstanceNorm2d(width // 4, affine=True),
            nn.ReLU(),
            convolution(width // 4, width // 2, 3, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(width // 2, affine=True),
            nn.ReLU(),
            convolution(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(),
            *(ResidualBlock(width) for _ in range(residual_blocks)),
        )
        self.pyramid = nn.ModuleList(convolution(width, 1, 1) for _ in PYRAMID)
        channels = width + len(PYRAMID)
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            convolution(channels, channels // 2, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels // 2, affine=True),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            convolution(channels // 2, channels // 4, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels // 4, affine=True),
            nn.ReLU(),
            nn.ReflectionPad2d(3),
            convolution(channels // 4, 1, 7),
        )

    def pooled(self, features: Tensor) -> list[Tensor]:
        """A one-channel map for each size of the pyramid: (B, C, S/4, S/4) -> 4 × (B, 1, S/4, S/4)."""
        maps = []
        for cells, layer in zip(PYRAMID, self.pyramid, strict=True):
            cell = max(self.side // cells, 1)  # as the authors', what is left over at the edge is not pooled
            small = layer(F.avg_pool2d(features, cell))
            maps.append(F.interpolate(small, size=self.side, mode="bilinear", align_corners=False))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 2, S, S)."""
        features = self.down(images)
        mask = torch.sigmoid(self.up(torch.cat([features, *self.pooled(features)], dim=1)))
        return torch.cat([mask, 1 - mask], dim=1)


class Modulation(nn.Module):
    """Instance normalisation whose scale and shift are linear in z, then ReLU."""

    def __init__(self, z_dim: int, channels: int) -> None:
        super().__init__()
        self.scale = linear(z_dim, channels)
        self.shift = linear(z_dim, channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, C, h, w) and (B, z_dim) -> (B, C, h, w)."""
        return F.relu(F.instance_norm(x) * self.scale(z)[..., None, None] + self.shift(z)[..., None, None])


class UpBlock(nn.Module):
    """Doubles the resolution, conditioned on z and on the mask at the coarser resolution."""

    def __init__(self, z_dim: int, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first, self.second = Modulation(z_dim, c_in), Modulation(z_dim, c_out)
        self.conv_first = normed(c_in + 1, c_out, 3, bias=False)
        self.conv_second = normed(c_out, c_out, 3)
        self.shortcut = normed(c_in, c_out, 1)

    def forward(self, x: Tensor, mask: Tensor, z: Tensor) -> Tensor:
        """(B, C, h, w), the mask (B, 1, S, S) and z (B, z_dim) -> (B, C', 2h, 2w)."""
        seen = F.adaptive_avg_pool2d(mask, x.shape[-1])
        h = torch.cat([self.first(x, z), seen], dim=1)
        h = self.conv_first(F.interpolate(h, scale_factor=2.0))
        h = self.conv_second(self.second(h, z))
        return h + F.interpolate(self.shortcut(x), scale_factor=2.0)


class RegionGenerator(nn.Module):
    """Paints one region from z, within its mask."""

    def __init__(self, image_size: int, width: int, z_dim: int, attention: bool) -> None:
        super().__init__()
        blocks = doublings(image_size)
        outs = [width * 2**k for k in reversed(range(blocks))]
        ins = [outs[0], *outs[:-1]]
        self.start = linear(z_dim, ins[0] * BASE * BASE)
        self.blocks = nn.ModuleList(UpBlock(z_dim, c, d) for c, d in zip(ins, outs, strict=True))
        self.attention = SelfAttention(ins[-1]) if attention else nn.Identity()
        self.last = Modulation(z_dim, width)
        self.out = normed(width + 1, 3, 3)

    def forward(self, mask: Tensor, z: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] and (B, z_dim) -> (B, 3, S, S) in [-1, 1], zero where the mask is zero."""
        x = self.start(z).unflatten(1, (-1, BASE, BASE))
        for block in self.blocks[:-1]:
            x = block(x, mask, z)
        x = self.blocks[-1](self.attention(x), mask, z)
        return torch.tanh(self.out(torch.cat([self.last(x, z), mask], dim=1))) * mask


class DownBlock(nn.Module):
    """A residual block of the trunk; `halve` averages 2×2 pixels, `first` takes the image without a ReLU."""

    def __init__(self, c_in: int, c_out: int, *, halve: bool = True, first: bool = False) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        self.conv_first = normed(c_in, c_out, 3)
        self.conv_second = normed(c_out, c_out, 3)
        self.shortcut = normed(c_in, c_out, 1) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h/2, w/2), or the same size."""
        h = self.conv_second(F.relu(self.conv_first(x if self.first else F.relu(x))))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class Trunk(nn.Module):
    """Images to numbers: the discriminator with 1 output, the recovery of z with two times z_dim."""

    def __init__(self, image_size: int, width: int, outputs: int, attention: bool = False) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(doublings(image_size))]
        self.first = DownBlock(3, width, first=True)
        self.attention = SelfAttention(width) if attention else nn.Identity()
        self.blocks = nn.Sequential(
            *(DownBlock(c, d) for c, d in pairwise(widths)),
            DownBlock(widths[-1], widths[-1], halve=False),
        )
        self.head = linear(widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, outputs)."""
        features = self.blocks(self.attention(self.first(images)))
        return self.head(features.sum(dim=(2, 3)))
