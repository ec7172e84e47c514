"""What the tests of trainings share: pictures of noise, and a training on the CPU that says nothing."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Within it a file can have so many bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def quiet(step: int, total: int, **values: float) -> None:
    """A progress callback that says nothing."""


def noise_pictures(count: int = 8, *, size: int = 16, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def noise_batch(count: int, seed: int = 0) -> Tensor:
    """The same pictures as the baselines' networks take them, (count, 3, 16, 16) from 0 to 1."""
    return torch.from_numpy(noise_pictures(count, seed=seed)).permute(0, 3, 1, 2).float() / 255


def parameters(network: nn.Module) -> int:
    """How many weights a network has."""
    return sum(p.numel() for p in network.parameters())


def train_method(
    method: Any, images: np.ndarray, config: Any, folder: Path, *, seed: int = 0, progress: Any = quiet
) -> Any:
    """The method after its training on the CPU, checkpoints below `folder`."""
    method.fit(images, config=config, seed=seed, device="cpu", checkpoint_dir=folder, progress=progress)
    return method
