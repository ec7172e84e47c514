"""The forward of `drc.model.DRCModel`, arranged for speed; `drc.model` remains the readable reference and the oracle.

Three things differ, and no result does beyond rounding: feature maps stay in channels-last memory, where the small
convolutions of a decoder run more than twice as fast on a CPU; instance norm with its LeakyReLU is one autograd node
that works in that layout (PyTorch's own falls back to channels-first and copies); and a convolution of an enlarged
map is taken apart, so that its products over channels are made before the enlarging, on a quarter of the pixels.

The convolutions may be asked to work in bfloat16, which processors with instructions for it do about twice as fast
and others slower; normalisation, latents and energies stay in float32. Results then differ in the third digit, so it
is a setting (`DRCConfig.sampler_precision`) and off unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc.config import DRCConfig
from drc.model import DRCModel, Regions, compose
from drc.networks import BASE, Decoder, RegionGenerator

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WIDE = 128  # channels; up to here it is not the products that take the time


class NormedLeakyReLU(torch.autograd.Function):
    """LeakyReLU(instance_norm(x)) over x seen as (B, pixels, C), means taken as matrix products."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        average = x.new_full((1, 1, x.shape[1]), 1 / x.shape[1]).expand(x.shape[0], -1, -1)
        mean = average @ x
        variance = ((average @ x.square()) - mean.square()).clamp(min=0)  # rounding can leave it below
        inverse_std = (variance + 1e-5).rsqrt()
        scale = weight * inverse_std
        y = F.leaky_relu_(torch.addcmul(bias - mean * scale, x, scale), slope)
        ctx.save_for_backward(x, y, average, mean, inverse_std, scale)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx, grad_y: Tensor):
        x, y, average, mean, inverse_std, scale = ctx.saved_tensors
        g = torch.ops.aten.leaky_relu_backward(grad_y, y, ctx.slope, True)
        g_mean, gx_mean = average @ g, average @ (g * x)
        slope_of_x = (gx_mean - mean * g_mean) * inverse_std  # mean of g·x̂
        k = slope_of_x * inverse_std * scale
        grad_x = torch.addcmul(mean * k - scale * g_mean, g, scale).addcmul_(x, k, value=-1.0)
        pixels = x.shape[1]
        grad_weight = pixels * slope_of_x.sum(dim=(0, 1)) if ctx.needs_input_grad[1] else None
        grad_bias = pixels * g_mean.sum(dim=(0, 1)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None


def normed_leaky_relu(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """LeakyReLU(instance_norm(x)), (B, C, H, W) channels-last -> the same."""
    height, width = x.shape[2:]
    flat = x.permute(0, 2, 3, 1).flatten(1, 2)
    return NormedLeakyReLU.apply(flat, weight, bias, slope).unflatten(1, (height, width)).permute(0, 3, 1, 2)


@lru_cache
def placement(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Where the rows of a map go when it is enlarged and read by the three rows of a kernel: (3, 2·side, side).

    Entry (t, i, j) is how much of row j there is in row i + t - 1 of the map enlarged bilinearly; outside it are zeros.
    """
    rows = torch.eye(side, dtype=dtype, device=device).unsqueeze(0)
    enlarged = F.interpolate(rows, scale_factor=2.0, mode="linear", align_corners=False)[0].T
    padded = F.pad(enlarged, (0, 0, 1, 1))
    return torch.stack([padded[tap : tap + 2 * side] for tap in range(3)])


def enlarged_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """A 3×3 convolution of x enlarged twice, (B, C, s, s) channels-last -> (B, D, 2s, 2s) channels-last.

    Enlarging and shifting act on pixels and the kernel's nine matrices on channels, so they may change places: first
    the nine products, `kernel` being (3 rows, C, 3 columns · D), then `placement` along the height and the width.
    """
    batch, _, side, _ = x.shape
    place = placement(side, x.dtype, x.device)
    down = place.transpose(0, 1).flatten(1)  # columns: row of the kernel, row of the map
    across = place.permute(1, 2, 0).flatten(1)  # columns: column of the map, column of the kernel
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)
    y = torch.stack([(pixels @ taps).view(batch, side, -1) for taps in kernel], dim=1)
    y = down @ y.flatten(1, 2)
    y = across @ y.view(2 * side * batch, 3 * side, -1)
    return y.unflatten(0, (batch, 2 * side)).permute(0, 3, 1, 2)


def arrange(weight: Tensor, side: int, precision: torch.dtype) -> Tensor:
    """A 3×3 kernel (D, C, 3, 3) for maps of side × side, as it is or as `enlarged_conv` takes it.

    The latter saves 6.75·C of the 9·C products that a number of the result takes and adds 7.5·side to place them: it
    is chosen where channels are many and outnumber the enlarged map's rows, from where on it is measurably faster.
    """
    weight = weight.to(precision)
    if weight.shape[1] <= max(WIDE, 2 * side):
        return weight
    return weight.permute(2, 1, 3, 0).flatten(2)


class Kernels(NamedTuple):
    """The three decoders' convolution kernels, one a block, as `arrange` makes them."""

    fg: list[Tensor]
    bg: list[Tensor]
    reassign: list[Tensor]


def kernels(
    model: DRCModel,
    precision: torch.dtype,
    arranged_by: Callable[[Tensor, int, torch.dtype], Tensor] = arrange,
) -> Kernels:
    """The kernels of `model` in `precision`, each as `arranged_by` makes it for the side of its block's maps."""

    def of(decoder: Decoder | None) -> list[Tensor]:
        blocks = decoder.up_blocks if decoder is not None else []
        return [arranged_by(block.conv.weight, BASE * 2**k, precision) for k, block in enumerate(blocks)]

    return Kernels(of(model.fg), of(model.bg), of(model.reassign))


def grow(decoder: Decoder, x: Tensor, arranged: list[Tensor]) -> Tensor:
    """`Decoder.grow` in channels-last memory, its convolutions, and its result, in the precision of their kernels."""
    full = x.dtype
    x = x.contiguous(memory_format=torch.channels_last)
    for block, kernel in zip(decoder.up_blocks, arranged, strict=True):
        x = x.to(kernel.dtype)
        if kernel.ndim == 3:
            x = enlarged_conv(x, kernel)
        else:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = F.conv2d(x, kernel, padding=1)
        x = normed_leaky_relu(x.to(full), block.norm.weight, block.norm.bias, 0.01).to(kernel.dtype)
    return x


Grow = Callable[[Decoder, Tensor, list[Tensor]], Tensor]


def head(features: Tensor, *convolutions: nn.Conv2d) -> Tensor:
    """Convolutions of the same features as one, in the precision of these, to maps in that of the weights."""
    weight = torch.cat([convolution.weight for convolution in convolutions])
    bias = torch.cat([convolution.bias for convolution in convolutions if convolution.bias is not None])
    painted = F.conv2d(features, weight.to(features.dtype), bias.to(features.dtype), padding=1)
    return painted.to(weight.dtype, memory_format=torch.contiguous_format)


def paint(
    region: RegionGenerator, z: Tensor, arranged: list[Tensor], grow: Grow
) -> tuple[Tensor, Tensor, Tensor]:
    """`RegionGenerator.forward` with both heads in one convolution."""
    start = region.start(z)
    content, logit = head(grow(region, start, arranged), region.content, region.mask).split((3, 1), dim=1)
    return content.tanh(), logit, start


def render(model: DRCModel, z: Tensor, arranged: Kernels | None = None, grow: Grow = grow) -> Regions:
    """`DRCModel.forward`: (B, z_dim) -> Regions; with kernels arranged before, or in the precision of z."""
    arranged = arranged or kernels(model, z.dtype)
    z_fg, z_bg, z_reassign = z.split(model.z_dims, dim=1)
    content_fg, logit_fg, _ = paint(model.fg, z_fg, arranged.fg, grow)
    source_bg, source_logit_bg, start_bg = paint(model.bg, z_bg, arranged.bg, grow)
    grid = None
    if model.reassign is not None:
        warp = model.reassign
        start = torch.cat([start_bg.detach(), warp.start(z_reassign)], dim=1)
        features = grow(warp, start, arranged.reassign)
        grid = head(features, warp.grid).tanh().permute(0, 2, 3, 1)
    return compose(content_fg, logit_fg, source_bg, source_logit_bg, grid)


def sampler_render(model: DRCModel, config: DRCConfig) -> Callable[[Tensor], Regions]:
    """The render that the posterior's sampler uses under these settings, with the weights as they now are."""
    with torch.no_grad():
        return partial(render, model, arranged=kernels(model, PRECISIONS[config.sampler_precision]))
