"""The posterior's potential as torch.compile fuses it, on a GPU and on a processor.

The small operations between the convolutions would take most of the time, each a pass over all maps. They are written
here so that they fuse: maps as (B, H, W, C), the enlarging as sums of reads, instance norm as two sums. Convolutions
stay PyTorch's. `drc.model` remains the oracle.
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


class Interleave(Enlarge):
    """`Enlarge` for a processor, whose vectors take rows that lie side by side and not reads from here and there."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return doubled(doubled(x, 1), 2)


def doubled(x: Tensor, dim: int) -> Tensor:
    """A map twice as long in one dimension, linearly in between."""
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    before = torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), last], dim)
    return torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim + 1).flatten(dim, dim + 1)


class NormedLeakyReLU(torch.autograd.Function):
    """LeakyReLU(instance_norm(x)) over x (B, H, W, C) in any precision, worked out in that of the weights.

    The gradient before the norm is kept in x's precision: it is written once and read by two sums and by the result.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        full = x.to(weight.dtype)
        mean = full.mean(dim=(1, 2), keepdim=True)
        variance = (full.square().mean(dim=(1, 2), keepdim=True) - mean.square()).clamp(min=0)
        inverse_std = (variance + 1e-5).rsqrt()
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


def grow(decoder: Decoder, start: Tensor, weights: list[Tensor], enlarge: type[Enlarge] = Enlarge) -> Tensor:
    """`Decoder.grow` with its convolutions, and its result, in the precision of the weights."""
    x = start.permute(0, 2, 3, 1).to(weights[0].dtype)
    for block, weight in zip(decoder.up_blocks, weights, strict=True):
        if weight.ndim == 3:
            x = fast.enlarged_conv(x.permute(0, 3, 1, 2), weight)
        else:
            x = F.conv2d(enlarge.apply(x).permute(0, 3, 1, 2), weight, padding=1)
        x = NormedLeakyReLU.apply(x.permute(0, 2, 3, 1), block.norm.weight, block.norm.bias, 0.01)
    return x.permute(0, 3, 1, 2)


def kernels(model: DRCModel, precision: torch.dtype) -> fast.Kernels:
    """The decoders' convolution kernels for a GPU, (D, C, 3, 3) in channels-last memory."""
    return fast.kernels(model, precision, channels_last)


def channels_last(weight: Tensor, side: int, precision: torch.dtype) -> Tensor:
    """A kernel in `precision` and in channels-last memory, whatever the maps' side."""
    return weight.to(precision).contiguous(memory_format=torch.channels_last)


def cpu_kernels(model: DRCModel, precision: torch.dtype) -> fast.Kernels:
    """Those for a processor: as `fast.arrange` makes them, and what it leaves as it is in channels-last memory."""

    def arrange(weight: Tensor, side: int, precision: torch.dtype) -> Tensor:
        arranged = fast.arrange(weight, side, precision)
        return arranged if arranged.ndim == 3 else channels_last(weight, side, precision)

    return fast.kernels(model, precision, arrange)


def render(
    model: DRCModel, z: Tensor, arranged: fast.Kernels | None = None, enlarge: type[Enlarge] = Enlarge
) -> Regions:
    """`DRCModel.forward` in the form that fuses; with kernels arranged before, or in the precision of z."""
    return fast.render(model, z, arranged or kernels(model, z.dtype), partial(grow, enlarge=enlarge))


def potential(
    model: DRCModel,
    arranged: fast.Kernels,
    z: Tensor,
    images: Tensor,
    config: DRCConfig,
    enlarge: type[Enlarge] = Enlarge,
) -> Tensor:
    """`posterior_potential` in the form that fuses: (B, d), (B, 3, H, W) -> (B,)."""
    form = partial(render, model, arranged=arranged, enlarge=enlarge)
    return posterior_potential(model, form, z, images, config)


def cpu_potential(model: DRCModel, config: DRCConfig, images: Tensor) -> Callable[[Tensor], Tensor]:
    """That of images (B, 3, H, W) on a processor, compiled, with the weights as they now are: (B, d) -> (B,)."""
    arranged = cpu_kernels(model, fast.PRECISIONS[config.sampler_precision])
    return partial(fused(potential), model, arranged, images=images, config=config, enlarge=Interleave)


@cache
def usable(device: str) -> bool:
    """Whether torch.compile works on `cuda` or `cpu` here; if not, that is said once and the slower way is taken."""
    if device == "cuda":
        from torch.utils._triton import has_triton

        reason = None if has_triton() else "it needs Triton"
    else:
        try:
            fused(lambda x: x + 1)(torch.zeros(1))
            reason = None
        except (RuntimeError, OSError) as error:  # whatever a compiler says, or that there is none
            reason = str(error).strip().partition("\n")[0]
    if reason is not None:
        log.warning("torch.compile does not work here, and the sampler will be slower: %s", reason)
    return reason is None


@cache
def fused(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` compiled for just the shapes and settings that it meets, however many these are in a process."""
    torch._dynamo.config.recompile_limit = 64
    warnings.filterwarnings("ignore", module="torch._inductor")  # its advice is for whoever writes `function`
    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
    return torch.compile(function, dynamic=False, options={"realize_reads_threshold": INLINED})
