"""What a training will cost, before it is begun: parameters, arithmetic, memory and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from drc import compiled, fast
from drc.amortised import AmortisedModel, objective
from drc.build import build_model, build_trainer
from drc.config import DRCConfig
from drc.model import DRCModel, Regions
from drc.objectives import generator_terms, lebm_loss, posterior_potential, prior_potential
from drc.sampler import compiles, records
from drc.words import in_hours, in_units, plural

STEPS = 10  # of training are measured, of a whole batch
MEASURED_FLOPS = {"cpu": 3e12, "cuda": 1e15}
"""The most that is spent on them all; above it the batch shrinks, then there are fewer steps."""
LONG_ENOUGH = 60.0  # seconds, after which no further step is measured


@dataclass(frozen=True)
class Cost:
    """Arithmetic in FLOP, counting matrix products and convolutions alone, and memory in bytes."""

    parameters: dict[str, int]  # per network
    posterior_step: int  # one Langevin step of a batch's posterior chains, gradient included
    prior_step: int
    m_step: int
    step: int  # one iteration of Algorithm 1
    run: int
    inference: int  # one image
    weights: int  # with their gradients and Adam's moments
    chains: int
    activations: int  # what the M-step keeps for its backward pass
    recorded: int  # what a posterior step keeps for its own, where it is recorded and so stays, or 0


def estimate(config: DRCConfig, count: int, device: str = "cpu") -> Cost:
    """The cost of training on `count` images, or as many as the settings take, without computing anything.

    That of a posterior step depends on the form that it takes on the device.
    """
    count = min(count, config.train_images or count)
    c = replace(config, batch_size=min(config.batch_size, count))
    with torch.device("meta"):
        model = build_model(c)
        images = torch.zeros(c.batch_size, 3, c.image_size, c.image_size)
        learn = partial(loss, model, images, c)
        activations = saved_bytes(model, learn)
        m_step = flops(lambda: learn().backward())
        model.requires_grad_(False)
        recorded = records(c, torch.device(device)) and not c.amortised
        posterior, prior, inference = sampling(model, images, c, compiled.render if recorded else fast.render)
        kept = recorded_bytes(model, images, c) if recorded else 0
    step = c.posterior_steps * posterior + c.prior_steps * prior + m_step
    networks = {name: parameter_count(network) for name, network in model.named_children()}
    return Cost(
        parameters=networks,
        posterior_step=posterior,
        prior_step=prior,
        m_step=m_step,
        step=step,
        run=step * c.train_steps,
        inference=inference,
        weights=4 * 4 * sum(networks.values()),
        chains=4 * (1 if c.amortised else 2) * model.z_dim * count,
        activations=activations,
        recorded=kept,
    )


def loss(model: DRCModel, images: Tensor, config: DRCConfig) -> Tensor:
    """What the M-step, or the VAE of amortised inference, takes a gradient of."""
    if isinstance(model, AmortisedModel):
        mean, log_variance = model.encode(images)
        regions = fast.render(model, mean + log_variance)
        return objective(model, regions, images, mean, log_variance, config)[0]
    z = torch.zeros(len(images), model.z_dim, device=images.device)
    terms = generator_terms(model, fast.render(model, z), model.lebm(z), images, config)
    return terms.total(config) + lebm_loss(model, z, z)


def sampling(
    model: DRCModel, images: Tensor, config: DRCConfig, form: Callable[..., Regions]
) -> tuple[int, int, int]:
    """Arithmetic of a posterior step and of a prior step of a batch, and of segmenting one image.

    `form` is the forward that chains descend, `fast.render` or `compiled.render`.
    """
    if isinstance(model, AmortisedModel):
        return 0, 0, flops(lambda: fast.render(model, model.encode(images)[0])) // len(images)
    z = chains_of(model, images)
    posterior = flops(
        lambda: posterior_potential(model, partial(form, model), z, images, config).sum().backward()
    )
    prior = flops(lambda: prior_potential(model, z).sum().backward())
    return posterior, prior, posterior * config.inference_steps * config.inference_chains // len(images)


def recorded_bytes(model: DRCModel, images: Tensor, config: DRCConfig) -> int:
    """What the compiled form of a posterior step keeps for its backward pass, in the sampler's precision."""
    kernels = compiled.kernels(model, fast.PRECISIONS[config.sampler_precision])
    z = chains_of(model, images)
    return saved_bytes(model, lambda: compiled.potential(model, kernels, z, images, config))


def chains_of(model: DRCModel, images: Tensor) -> Tensor:
    """A chain for each image, (B, d), that takes a gradient."""
    return torch.zeros(len(images), model.z_dim, device=images.device, requires_grad=True)


def parameter_count(network: torch.nn.Module) -> int:
    """Number of weights and biases."""
    return sum(p.numel() for p in network.parameters())


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def saved_bytes(model: DRCModel, work: Callable[[], Tensor]) -> int:
    """Bytes of what autograd keeps of `work` for its backward pass, the model's weights left out."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for storage, size in storages.items() if storage not in weights)


@dataclass(frozen=True)
class Measurement:
    """Training steps as timed on a device."""

    steps: int
    images: int  # a step's
    seconds: float  # a step's, the median
    batch_seconds: float  # expected of a step of the whole batch


def measure(
    images: np.ndarray,
    config: DRCConfig,
    seed: int,
    device: str,
    cost: Cost,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measurement:
    """Time up to STEPS steps of the run itself, of fewer images where a whole batch would take too long.

    Where a first step compiles, that is taken before, and not timed.
    """
    images = images[: config.train_images]
    batch = min(config.batch_size, len(images))
    per_image = cost.step / batch
    allowed = MEASURED_FLOPS[torch.device(device).type]
    few = int(np.clip(allowed / (STEPS * per_image), 1, batch))
    steps = int(np.clip(allowed / (few * per_image), 1, STEPS))
    trainer = build_trainer(images[:few], replace(config, batch_size=few), seed, device)
    if compiles(config, torch.device(device)):
        trainer.train_step()
    seconds = []
    for done in range(steps):
        began = time.monotonic()
        trainer.train_step()  # ends with numbers on the CPU, so it has been waited for
        seconds.append(time.monotonic() - began)
        progress(done + 1, steps)
        if sum(seconds) > LONG_ENOUGH:
            break
    return Measurement(len(seconds), few, median(seconds), median(seconds) * batch / few)


def describe(config: DRCConfig, cost: Cost, measured: Measurement, device: str) -> list[str]:
    """All of it as lines to print."""
    c = config
    total = sum(cost.parameters.values())
    memory = cost.weights + cost.chains + cost.activations + cost.recorded
    if c.amortised:
        parts, segmenting = "", "one pass"
    else:
        parts = (
            f" = {c.posterior_steps} posterior steps of {in_units(cost.posterior_step, 'FLOP')}"
            f" + {c.prior_steps} prior steps of {in_units(cost.prior_step, 'FLOP')}"
            f" + M-step {in_units(cost.m_step, 'FLOP')}"
        )
        segmenting = f"{plural(c.inference_chains, 'chain')} of {c.inference_steps:,} steps"
    sample = f"{plural(measured.steps, 'step')} of {plural(measured.images, 'image')}, {measured.seconds:.3g} s each"
    return [
        "settings",
        *(f"  {name} = {value}" for name, value in asdict(c).items()),
        "parameters",
        *(f"  {name}: {count:,}" for name, count in cost.parameters.items()),
        f"  in all: {total:,}",
        "arithmetic (convolutions and matrix products, forward and backward)",
        f"  a training step: {in_units(cost.step, 'FLOP')}{parts}",
        f"  the run, {c.train_steps:,} steps: {in_units(cost.run, 'FLOP')}",
        f"  segmenting an image, {segmenting}: {in_units(cost.inference, 'FLOP')}",
        "memory (estimated, beside what PyTorch itself takes)",
        f"  weights, gradients and Adam: {in_units(cost.weights, 'B')}; chains: {in_units(cost.chains, 'B')}; "
        f"activations: {in_units(cost.activations, 'B')}"
        + (f"; a recorded step's: {in_units(cost.recorded, 'B')}" if cost.recorded else "")
        + f"; in all {in_units(memory, 'B')}",
        f"time on this device ({device}, one process; measured: {sample})",
        f"  a training step: {measured.batch_seconds:.3g} s, "
        f"{in_units(cost.step / measured.batch_seconds, 'FLOP/s')}",
        f"  the run: {in_hours(measured.batch_seconds * c.train_steps)}",
    ]
