"""Langevin dynamics (Eq. 13): the one sampler of both the posterior and the prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat

import torch
from torch import Tensor


def langevin(
    potential: Callable[[Tensor], Tensor],
    z: Tensor,
    noise: Iterable[Tensor],
    step_size: float | Iterable[float],
    momentum: float = 0.0,
) -> Tensor:
    """v ← μv - ½δ²∇U(z) + δ√(1-μ)ε, z ← z + v, from v = 0, once for every ε of `noise`.

    Without momentum this is Eq. 13, with s = ½δ², for the target Q ∝ exp(-U); with it, its underdamped form, which
    has the same target and a stationary variance of 1 / (1 - δ²/(4(1+μ))) where that is N(0, 1). `potential` maps
    (B, d) to U (B,), one number a chain; `z` is (B, d); `noise` gives one ε (B, d) a step, standard normal, or
    scaled by the square root of a temperature; `step_size` is δ, one for all steps or one for each; `momentum` is μ
    in [0, 1). Chains do not see one another. Returns the last z, detached; ValueError if there are more or fewer step
    sizes than steps.
    """
    z, v = z.detach(), torch.zeros_like(z)
    step_sizes = step_size if isinstance(step_size, Iterable) else repeat(step_size)
    for epsilon, delta in zip(noise, step_sizes, strict=not isinstance(step_sizes, repeat)):
        z.requires_grad_(True)
        (gradient,) = torch.autograd.grad(potential(z).sum(), z)
        v = momentum * v - 0.5 * delta**2 * gradient + delta * (1 - momentum) ** 0.5 * epsilon
        z = z.detach() + v
    return z


def falling(first: float, last: float, steps: int) -> list[float]:
    """Step sizes from `first` to `last`, each the same share of the one before it; a single step takes `last`."""
    return [last * (first / last) ** (left / max(1, steps - 1)) for left in reversed(range(steps))]
