"""Random numbers that depend on what they are for, and on nothing that ran before.

A chain's noise is keyed by (seed, stream, image, visit): its path does not depend on the batch it sits in, on the
number of processes, or on whether training was interrupted. PyTorch's generator takes 32 bits of a key: among the five
million draws of the preset `paper`, two a visit, a few thousand pairs share their noise by chance.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

# What a stream of numbers is for. Inference has its own: a training image is not given the noise it was trained with.
INITIAL, POSTERIOR, PRIOR, ORDER, RESTART, FLIP, INFERENCE_START, INFERENCE = range(8)


def checked_seed(seed: int) -> int:
    """The seed as Python's int, NumPy's among others; ValueError for what is no whole number from 0 to 2^63 - 1."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise ValueError(f"the seed {seed!r} is no whole number from 0 to 2**63 - 1")
    return number


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a tuple of non-negative integers.

    Zeros that fill it up to four words of 32 bits do not count: (3,) is (3, 0).
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def chain_noise(seed: int, stream: int, images: Iterable[int], visit: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers for each image's chain on its `visit`-th visit: (images, *shape)."""
    return torch.stack(
        [torch.randn(shape, generator=keyed_generator(seed, stream, i, visit)) for i in images]
    )


def chosen(seed: int, stream: int, images: Iterable[int], visit: int, share: float) -> Tensor:
    """Which of the images something is done to on this visit, each with probability `share`: (images,) bool."""
    draws = [torch.rand((), generator=keyed_generator(seed, stream, i, visit)) for i in images]
    return torch.stack(draws) < share


def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The order in which an epoch goes through its images: a permutation of range(count)."""
    return torch.randperm(count, generator=keyed_generator(seed, ORDER, epoch))
