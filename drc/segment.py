"""Masks and regions of images never seen: z from white noise, posterior steps only (Section 3.3, Inference)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from drc import fast, rng
from drc.amortised import AmortisedModel
from drc.kept import KeptChains
from drc.langevin import falling, langevin
from drc.model import EPSILON, Regions, log_likelihoods
from drc.networks import products_of
from drc.sampler import Sampler, records
from drc.tensors import DivergedError, frozen, to_device, to_signed

CHAIN = 1 << 64  # from the key of an image's chain to that of its next one
FILL = 4  # batches are filled up to a multiple of this; see `infer_regions`
ROWS = 64  # ... and the products of linear layers are of so many rows each


def infer(
    sampler: Sampler,
    images: Tensor,
    keys: Sequence[int],
    seed: int,
    taken: Callable[[int], None] = lambda steps: None,
) -> Tensor:
    """Posterior samples for images (B, 3, H, W) in [-1, 1] -> z (B, d); `taken` is told of the steps taken so far.

    Every chain starts from N(0, start_scale² I) and takes `inference_steps` Langevin steps, whose size falls from the
    first to the last that the settings name; its noise is keyed by its number in `keys`, so a mask does not depend on
    the batch it was inferred in. A model with amortised inference answers with the mean of q(z | x) instead.

    Gradients are taken wherever it is called, within `torch.no_grad` and `torch.inference_mode` too.
    """
    model, c = sampler.model, sampler.config
    if isinstance(model, AmortisedModel):
        taken(c.inference_steps)
        with torch.no_grad():
            return model.encode(images)[0]

    def noise() -> Iterator[Tensor]:
        for visit, done in enumerate(range(0, c.inference_steps, c.posterior_steps)):
            steps = min(c.posterior_steps, c.inference_steps - done)
            drawn = rng.chain_noise(seed, rng.INFERENCE, keys, visit, (steps, model.z_dim)).transpose(0, 1)
            yield from to_device(drawn, images.device) * c.temperature**0.5
            taken(done + steps)

    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        start = c.start_scale * rng.chain_noise(seed, rng.INFERENCE_START, keys, 0, (model.z_dim,))
        return langevin(
            sampler.posterior(images),
            start.to(images.device),
            noise(),
            falling(c.inference_step_size, c.inference_last_step_size, c.inference_steps),
            c.inference_momentum,
        )


def infer_regions(
    sampler: Sampler,
    images: np.ndarray,
    seed: int,
    device: str,
    progress: Callable[..., None] | None = None,
    keys: Sequence[int] | None = None,
    kept: KeptChains | None = None,
) -> Iterator[Regions]:
    """Regions of images (N, H, W, 3) uint8, a batch at a time, in order, each the average of `inference_chains` chains.

    Where the settings ask for masks by responsibilities, these stand in π's place, in the generated image too.
    `progress(step, total)` counts the sampler's steps over all chains and batches; `keys` are what the images' noise
    is keyed by, their rows where there are none; a chain found in `kept` is not sampled, and any other kept there.
    Matrix products of few rows round otherwise than larger ones, and a chain amplifies that to masks one can tell
    apart. So linear layers take ROWS rows at once, whatever the batch, and copies of the last image fill it up to a
    multiple of FILL: on a CPU a mask has the same bits in any batch. Where generators are compiled on a GPU, they fill
    it to `inference_batch_size`, the one size compiled for there.

    Raises ValueError for no images and for those of another size than the model's, and DivergedError where a
    chain leaves the finite numbers.
    """
    model, config = sampler.model, sampler.config
    check_images(images, config.image_size)
    starts, chains = range(0, len(images), config.inference_batch_size), range(config.inference_chains)
    recorded = records(config, torch.device(device))
    fill, rows_at_once = (config.inference_batch_size, None) if recorded else (FILL, ROWS)
    total = len(starts) * len(chains) * config.inference_steps
    for batch, first in enumerate(starts):
        count = min(config.inference_batch_size, len(images) - first)
        rows = list(range(first, first + count)) + [first + count - 1] * (-count % fill)
        inputs, found = to_signed(images[rows], device), []
        with products_of(rows_at_once, model):
            for chain in chains:
                taken = counter(progress, (batch * len(chains) + chain) * config.inference_steps, total)
                own_keys = [chain * CHAIN + (row if keys is None else keys[row]) for row in rows]
                sample = partial(infer, sampler, inputs, own_keys, seed, taken)
                if kept is None:
                    z = sample()
                else:
                    found_there = partial(taken, config.inference_steps)
                    z = kept.ends(images[rows], own_keys, sample, found_there).to(device)
                check_settled(z[:count], first)
                with torch.no_grad():
                    found.append(fast.render(model, z))
        regions = averaged(found)
        if config.inference_masks == "responsibilities":
            regions = regions._replace(pi=pooled_responsibilities(found, inputs, config.likelihood))
        yield Regions._make(None if part is None else part[:count] for part in regions)


def counter(progress: Callable[..., None] | None, before: int, total: int) -> Callable[[int], None]:
    """What tells `progress`, if there is one, of the steps taken after the `before` others of a `total`."""

    def taken(steps: int) -> None:
        if progress is not None:
            progress(before + steps, total)

    return taken


def check_images(images: np.ndarray, size: int) -> None:
    """ValueError unless images are (N, size, size, 3) uint8, with N above 0."""
    if not isinstance(images, np.ndarray):
        raise ValueError(f"the images are {type(images).__name__}: give a NumPy array of uint8, (N, H, W, 3)")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"the images are {images.dtype} of shape {images.shape}: give uint8 from 0 to 255 of shape (N, H, W, 3)"
        )
    if not len(images):
        raise ValueError("there are no images: give one or more")
    if images.shape[1:3] != (size, size):
        height, width = images.shape[1:3]
        raise ValueError(
            f"the images have {height}×{width} pixels and the model's image_size is {size}: resize them to "
            f"{size}×{size} first"
        )


def check_settled(z: Tensor, first: int) -> None:
    """DivergedError where ends of chains (B, d), of the images from `first` on, are not finite."""
    if wrong := (~z.isfinite().all(dim=1)).nonzero().flatten().tolist():
        raise DivergedError(
            f"inference diverged on {len(wrong)} of the {len(z)} images of a batch, the first at position "
            f"{first + wrong[0]} of all: the model's inference_step_size, inference_last_step_size or "
            "inference_momentum is too large"
        )


def averaged(found: Sequence[Regions]) -> Regions:
    """The mean over chains of the same images: of π, and of each region's content weighed by its π.

    What only one chain saw is outvoted. The background before re-assignment, the logits and the grid are the first
    chain's.
    """
    if len(found) == 1:
        return found[0]
    pi = torch.stack([regions.pi for regions in found]).mean(dim=0)
    fg = torch.stack([regions.pi[:, :1] * regions.content_fg for regions in found]).mean(dim=0)
    bg = torch.stack([regions.pi[:, 1:] * regions.content_bg for regions in found]).mean(dim=0)
    return found[0]._replace(
        pi=pi, content_fg=fg / (pi[:, :1] + EPSILON), content_bg=bg / (pi[:, 1:] + EPSILON)
    )


def pooled_responsibilities(found: Sequence[Regions], images: Tensor, norm: str) -> Tensor:
    """Who owns each pixel of images (B, 3, H, W), by all of their chains together: (B, 2, H, W), foreground first.

    Eq. 7 with the chains' mixture in place of one z: γ_k ∝ Σ_z π_k(z) p(x | g_k(z)). So a chain counts most where it
    explains the image, and the image itself draws the edges. The three channels of a pixel, which miss together,
    count as one; p falls with their miss on the scale of the mean miss that the chains leave in this image, for
    chains that have not settled miss by more than σ.
    """
    misses = torch.stack([-log_likelihoods(r, images, norm=norm, scale=1.0).mean(dim=2) for r in found])
    pi = torch.stack([regions.pi for regions in found])  # (chains, B, 2, H, W)
    scale = (pi * misses).sum(dim=2).mean(dim=(0, 2, 3)) + EPSILON
    log_weights = (pi + EPSILON).log() - misses / scale[:, None, None, None]
    return log_weights.logsumexp(dim=0).softmax(dim=1)
