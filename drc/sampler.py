"""What the E-step and inference run, in the fastest form that the device has."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor

from drc import compiled, fast
from drc.config import DRCConfig
from drc.model import DRCModel
from drc.objectives import posterior_potential, prior_potential

log = logging.getLogger(__name__)
Potential = Callable[[Tensor], Tensor]


class Recorded:
    """A potential for chains of one shape as two CUDA graphs, one of its value and one of its gradient.

    They read the model's weights, and whatever else the potential holds, where these lie: new values may be copied
    there, and an optimiser may go on moving the weights.
    """

    def __init__(self, potential: Potential, chains: Tensor) -> None:
        self.potential = potential  # keeps alive what the graphs read
        gc.collect()  # earlier recordings, which hold gigabytes, are in cycles of references
        with torch.cuda.device_of(chains), torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The AccumulateGrad")  # nothing accumulates here
            sample = chains.detach().clone().requires_grad_(True)
            graphs = torch.cuda.make_graphed_callables(lambda z: potential(z), (sample,))
        self.graphs = cast(Potential, graphs)

    def __call__(self, z: Tensor) -> Tensor:
        """(B, d) -> (B,)."""
        return self.graphs(z)


class Posterior(Recorded):
    """That of images (B, 3, H, W), for one model; `renew` before each use."""

    def __init__(self, model: DRCModel, config: DRCConfig, images: Tensor) -> None:
        self.model, self.precision = model, fast.PRECISIONS[config.sampler_precision]
        self.images, self.kernels = images.clone(), compiled.kernels(model, self.precision)
        function = compiled.fused(compiled.potential)
        potential = partial(function, model, self.kernels, images=self.images, config=config)
        super().__init__(potential, torch.zeros(len(images), model.z_dim, device=images.device))

    def renew(self, images: Tensor) -> Potential:
        """The potential with other images and with the weights as they now are."""
        self.images.copy_(images)
        for kept, new in zip(self.kernels, compiled.kernels(self.model, self.precision), strict=True):
            if new:
                torch._foreach_copy_(kept, new)
        return self


class Sampler:
    """The potentials that the chains of one model descend, with its weights as they are when one is asked for.

    If the settings say `compiled`, that of the posterior is compiled when chains of some shape first come; on a GPU
    both are recorded then, and replayed from then on. Weights must be frozen where a potential is asked for, and one of
    the posterior serves until the next one is.
    """

    def __init__(self, model: DRCModel, config: DRCConfig) -> None:
        self.model, self.config = model, config
        self._seen: set[torch.Size] = set()
        self._posteriors: dict[torch.Size, Posterior] = {}
        self._priors: dict[torch.Size, Recorded] = {}

    def posterior(self, images: Tensor) -> Potential:
        """Of images (B, 3, H, W) in [-1, 1]: (B, d) -> (B,)."""
        if self.config.sampler_precision == "bfloat16" and images.device.type == "cpu":
            warn_where_bfloat16_is_slow()
        if not compiles(self.config, images.device):
            render = fast.sampler_render(self.model, self.config)
            return partial(posterior_potential, self.model, render, images=images, config=self.config)
        if images.shape not in self._seen:
            self._seen.add(images.shape)
            log.info("compiling the sampler for batches of %d images: about a minute", len(images))
        with torch.no_grad():
            if not records(self.config, images.device):
                return compiled.cpu_potential(self.model, self.config, images)
            if images.shape not in self._posteriors:
                self._posteriors[images.shape] = Posterior(self.model, self.config, images)
            return self._posteriors[images.shape].renew(images)

    def prior(self, chains: Tensor) -> Potential:
        """For chains (B, d): (B, d) -> (B,)."""
        potential = partial(prior_potential, self.model)
        if not records(self.config, chains.device):
            return potential
        if chains.shape not in self._priors:
            self._priors[chains.shape] = Recorded(potential, chains)
        return self._priors[chains.shape]


def compiles(config: DRCConfig, device: torch.device) -> bool:
    """Whether these settings ask for what is compiled, on a device where that can be had."""
    return config.compiled and compiled.usable(device.type)


def records(config: DRCConfig, device: torch.device) -> bool:
    """Whether potentials are recorded as CUDA graphs too: on a GPU, where they are compiled."""
    return device.type == "cuda" and compiles(config, device)


@lru_cache
def warn_where_bfloat16_is_slow() -> None:
    """Say so, once, if PyTorch has no fast bfloat16 convolutions for this processor: where AVX2 is all it has."""
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        log.warning(
            "bfloat16 steps take many times as long on a processor without AVX-512; "
            "sampler_precision float32 is faster here"
        )
