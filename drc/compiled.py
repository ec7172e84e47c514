"""The posterior's potential as torch.compile fuses it on a GPU.

There the small operations between the convolutions would take most of the time, each a pass over maps of hundreds of
megabytes. They are written here so that they fuse: maps as (B, H, W, C), the enlarging as sums of reads in both
directions, instance norm as two sums. Convolutions stay cuDNN's. `drc.model` remains the oracle.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from drc import fast
from drc.config import DRCConfig
from drc.model import DRCModel, Regions
from drc.networks import Decoder
from drc.objectives import posterior_potential

log = logging.getLogger(__name__)
# A value that is made of up to so many reads may be computed again instead of being stored; a norm's gradient has six.
INLINED = 8


class Enlarge(torch.autograd.Function):
    """The bilinear ×2 of a block, (B, s, s, C) -> (B, 2s, 2s, C), whose gradient is read and not scattered."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        side = x.shape[1]
        pixel = torch.arange(2 * side, device=x.device)
        near, beside = pixel // 2, ((pixel - 1) // 2 + pixel % 2).clamp(0, side - 1)
        rows = 0.75 * x[:, near] + 0.25 * x[:, beside]
        return 0.75 * rows[:, :, near] + 0.25 * rows[:, :, beside]

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        side = grad.shape[1] // 2
        first = 2 * torch.arange(side, device=grad.device)
        before, after = (first - 1).clamp(min=0), (first + 2).clamp(max=2 * side - 1)
        rows = 0.75 * (grad[:, first] + grad[:, first + 1]) + 0.25 * (grad[:, before] + grad[:, after])
        inner = rows[:, :, first] + rows[:, :, first + 1]
        return 0.75 * inner + 0.25 * (rows[:, :, before] + rows[:, :, after])


class NormedLeakyReLU(torch.autograd.Function):
    """LeakyReLU(instance_norm(x)) over x (B, H, W, C) in any precision, worked out in that of the weights.

    The gradient before the norm is kept in x's precision: it is written once and read by two sums and by the result.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        full = x.to(weight.dtype)
        mean = full.mean(dim=(1, 2), keepdim=True)
        inverse_std = (full.square().mean(dim=(1, 2), keepdim=True) - mean.square() + 1e-5).rsqrt()
        scale = weight * inverse_std
        shift = bias - mean * scale
        ctx.save_for_backward(x, mean, inverse_std, scale, shift)
        ctx.slope = slope
        y = F.leaky_relu(full * scale + shift, slope)
        # Compiled by PyTorch 2.11, a cast without effect would lose the gradient.
        return y if y.dtype == x.dtype else y.to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, mean, inverse_std, scale, shift = ctx.saved_tensors
        full = x.to(scale.dtype)
        g = torch.where(full * scale + shift > 0, grad, ctx.slope * grad).to(x.dtype).to(scale.dtype)
        g_mean, gx_mean = g.mean(dim=(1, 2), keepdim=True), (g * full).mean(dim=(1, 2), keepdim=True)
        slope_of_x = (gx_mean - mean * g_mean) * inverse_std  # mean of g·x̂
        k = slope_of_x * inverse_std * scale
        grad_x = (g * scale - full * k + (mean * k - scale * g_mean)).to(x.dtype)
        pixels = x.shape[1] * x.shape[2]
        grad_weight = pixels * slope_of_x.sum(dim=(0, 1, 2)) if ctx.needs_input_grad[1] else None
        grad_bias = pixels * g_mean.sum(dim=(0, 1, 2)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None


def grow(decoder: Decoder, start: Tensor, weights: list[Tensor]) -> Tensor:
    """`Decoder.grow` with its convolutions, and its result, in the precision of the weights."""
    x = start.permute(0, 2, 3, 1)
    for block, weight in zip(decoder.up_blocks, weights, strict=True):
        x = Enlarge.apply(x.to(weight.dtype))
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)
        x = NormedLeakyReLU.apply(x, block.norm.weight, block.norm.bias, 0.01)
    return x.permute(0, 3, 1, 2)


def kernels(model: DRCModel, precision: torch.dtype) -> fast.Kernels:
    """The decoders' convolution kernels, (D, C, 3, 3) in channels-last memory."""
    return fast.kernels(model, precision, channels_last)


def channels_last(weight: Tensor, side: int, precision: torch.dtype) -> Tensor:
    """A kernel in `precision` and in channels-last memory, whatever the maps' side."""
    return weight.to(precision).contiguous(memory_format=torch.channels_last)


def render(model: DRCModel, z: Tensor, arranged: fast.Kernels | None = None) -> Regions:
    """`DRCModel.forward` in the form that fuses; with kernels arranged before, or in the precision of z."""
    return fast.render(model, z, arranged or kernels(model, z.dtype), grow)


def potential(
    model: DRCModel, arranged: fast.Kernels, z: Tensor, images: Tensor, config: DRCConfig
) -> Tensor:
    """`posterior_potential` in the form that fuses: (B, d), (B, 3, H, W) -> (B,)."""
    return posterior_potential(model, partial(render, model, arranged=arranged), z, images, config)


@cache
def usable() -> bool:
    """Whether torch.compile works on a GPU here; if not, that is said once and the slower way is taken."""
    from torch.utils._triton import has_triton

    if not has_triton():
        log.warning("torch.compile needs Triton, which is not usable here: the GPU will be slower")
    return has_triton()


@cache
def fused(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` compiled for just the shapes and settings that it meets, however many these are in a process."""
    torch._dynamo.config.recompile_limit = 64
    warnings.filterwarnings("ignore", module="torch._inductor")  # its advice is for whoever writes `function`
    return torch.compile(function, dynamic=False, options={"realize_reads_threshold": INLINED})
