"""The forward of `drc.model.DRCModel`, arranged for speed; `drc.model` remains the readable reference and the oracle.

Two things differ, and no result does beyond rounding: feature maps stay in channels-last memory, where the small
convolutions of a decoder run more than twice as fast on a CPU, and instance norm with its LeakyReLU is one
autograd node that works in that layout (PyTorch's own falls back to channels-first and copies).

The convolutions may be asked to work in bfloat16, which processors with instructions for it do about twice as fast
and others slower; normalisation, heads, latents and energies stay in float32. Results then differ in the third
digit, so it is a setting (`DRCConfig.sampler_precision`) and off unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from drc.config import DRCConfig
from drc.model import DRCModel, Regions, compose
from drc.networks import Decoder, RegionGenerator

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}  # None: whatever z has, float64 in tests


class NormedLeakyReLU(torch.autograd.Function):
    """LeakyReLU(instance_norm(x)) over x seen as (B, pixels, C), means taken as matrix products."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        average = x.new_full((1, 1, x.shape[1]), 1 / x.shape[1]).expand(x.shape[0], -1, -1)
        mean = average @ x
        inverse_std = ((average @ x.square()) - mean.square() + 1e-5).rsqrt()
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


def grow(decoder: Decoder, x: Tensor, precision: torch.dtype) -> Tensor:
    """`Decoder.grow` in channels-last memory, its convolutions in `precision`."""
    full = x.dtype
    x = x.contiguous(memory_format=torch.channels_last)
    for block in decoder.up_blocks:
        x = F.interpolate(x.to(precision), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = F.conv2d(x, block.conv.weight.to(precision), padding=1).to(full)
        x = normed_leaky_relu(x, block.norm.weight, block.norm.bias, 0.01)
    return x


def paint(region: RegionGenerator, z: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """`RegionGenerator.forward` with both heads in one convolution."""
    start = region.start(z)
    heads = (region.content, region.mask)
    weight = torch.cat([head.weight for head in heads])
    bias = torch.cat([head.bias for head in heads if head.bias is not None])
    painted = F.conv2d(grow(region, start, precision), weight, bias, padding=1).contiguous()
    return painted[:, :3].tanh(), painted[:, 3:], start


def render(model: DRCModel, z: Tensor, precision: torch.dtype | None = None) -> Regions:
    """`DRCModel.forward`: (B, z_dim) -> Regions; `precision` of the convolutions, None for that of z."""
    precision = precision or z.dtype
    z_fg, z_bg, z_reassign = z.split(model.z_dims, dim=1)
    content_fg, logit_fg, _ = paint(model.fg, z_fg, precision)
    source_bg, source_logit_bg, start_bg = paint(model.bg, z_bg, precision)
    grid = None
    if model.reassign is not None:
        warp = model.reassign
        start = torch.cat([start_bg.detach(), warp.start(z_reassign)], dim=1)
        features = grow(warp, start, precision)
        grid = warp.grid(features).tanh().permute(0, 2, 3, 1)
    return compose(content_fg, logit_fg, source_bg, source_logit_bg, grid)


def sampler_render(model: DRCModel, config: DRCConfig) -> Callable[[Tensor], Regions]:
    """The render that the posterior's sampler uses under these settings."""
    return partial(render, model, precision=PRECISIONS[config.sampler_precision])
