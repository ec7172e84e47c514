"""Between arrays, devices and tensors, and between the finite numbers and the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class DivergedError(Exception):
    """Training or inference left the finite numbers; the message says where, and what to do."""


def resolve_device(name: str) -> str:
    """`auto` -> cuda where there is one that works, else cpu; ValueError for a device that is not usable here."""
    if name == "auto":
        if torch.cuda.is_available() and not is_usable("cuda"):
            log.warning("there is a GPU that cannot be used, for want of memory or of its kind: cpu is taken")
            return "cpu"
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not is_usable(name):
        raise ValueError(
            f"the device {name!r} is not usable here; choose cpu, auto, or cuda where there is a GPU"
        )
    return name


def is_usable(device: str) -> bool:
    """Whether a device is a CPU or a CUDA device, and can hold a number."""
    try:
        return torch.device(device).type in ("cpu", "cuda") and torch.zeros(1, device=device).item() == 0
    except (RuntimeError, AssertionError, ImportError):
        return False


def to_signed(images: np.ndarray, device: str | torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1]."""
    pixels = torch.from_numpy(np.array(images)).to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """`numbers` on the device; a GPU that is at work is not waited for."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.contiguous().pin_memory().to(device, non_blocking=True)


def as_numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    """Scalars of a device as numbers, all in one transfer."""
    stacked = torch.stack([term.detach() for term in terms.values()])
    return dict(zip(terms, stacked.tolist(), strict=True))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within it, gradients go to the latents alone."""
    model.requires_grad_(False)
    try:
        yield
    finally:
        model.requires_grad_(True)


@contextmanager
def matrix_products_in_tf32(device: torch.device) -> Iterator[None]:
    """Within it, a GPU takes float32 matrices in TF32, as PyTorch has it take convolutions anyway."""
    if device.type != "cuda":
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    try:
        name, before = "allow_tf32", matmul.allow_tf32
    except RuntimeError:  # where whoever drives the training uses PyTorch's later name, which does not mix
        name, before = "fp32_precision", matmul.fp32_precision
    setattr(matmul, name, "tf32" if name == "fp32_precision" else True)
    try:
        yield
    finally:
        setattr(matmul, name, before)
