"""IODINE (Greff et al., ICML 2019): slots that explain an image together, inferred by learned, iterative refinement.

Each of K slots has a Gaussian over a latent vector, from which one shared decoder paints colours and a mask logit. The
image is a mixture of the slots at every pixel. A recurrent network that sees how well the present slots explain the
image, gradients included, corrects all Gaussians a few times. Settings and sizes are those of the authors' released
code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.iodine_networks import (
    Decoder,
    InputNorm,
    Refinement,
    State,
    component_log_probs,
    coordinates,
    kl_from_prior,
    log_mixture,
    log_mixture_without,
    sample,
)
from baselines.trained import SingleLearner, TrainedMethod, to_pixels
from baselines.training import SEGMENTING, keyed_generator


@dataclass(frozen=True)
class IODINEConfig:
    """All settings of one run; the defaults are the authors' for CLEVR6, with the two slots of single objects."""

    image_size: int = 128  # pixels a side
    slots: int = 2  # K
    z_dim: int = 64  # length of a slot's latent vector
    iterations: int = 5  # refinements of the posterior
    kernel: int = 3  # of all convolutions
    width: int = 64  # channels of the decoder's convolutions
    refinement_width: int = 64  # channels of the refinement's convolutions
    decoder_layers: int = 4  # before the one that paints
    refinement_layers: int = 4  # each halves the resolution
    mlp_layers: int = 2  # after the refinement's convolutions; the last is linear
    hidden: int = 256  # width of the MLP and of the LSTM
    coordinates: str = "linear"  # shown to the refinement: "linear", or "cosine", a basis of 8
    scale: float = 0.03  # of the logistic components

    train_steps: int = 1_000_000
    batch_size: int = 32
    lr: float = 1e-3
    lr_decay_steps: int = 1_000_000  # the rate falls tenfold over so many
    clip: float = 5.0  # largest norm of a step's gradient

    inference_iterations: int = 5  # refinements when it segments
    inference_samples: bool = True  # z is drawn for each decoding; else for the first, to tell slots apart


# The authors' settings for Multi-dSprites go with sprites, but for their six slots (see docs/protocols.md); those for
# CLEVR6 go with everything else.
DATASET_CHANGES: dict[str, dict[str, Any]] = {
    "clevr6": {"slots": 7},
    "tm-dsprites": {
        "z_dim": 16, "kernel": 5, "width": 32, "refinement_width": 32, "refinement_layers": 3, "mlp_layers": 1,
        "hidden": 128, "coordinates": "cosine", "batch_size": 128, "lr": 3e-4,
    },
}  # fmt: skip

# Budgets: how far the authors' settings are cut down. `paper` cuts nothing; the settings of `gpu` are not yet tried.
# `quick` refines three times, not five, for the sake of more steps. Its logistic is wider: on few pixels the authors'
# narrow one makes a single slot paint everything, which the toy of three sprites (`nox -s validate`) showed. There,
# the means of the posterior and more refinements give steadier masks than fresh draws do.
BUDGET_CHANGES: dict[str, dict[str, Any]] = {
    "paper": {},
    "gpu": {"train_steps": 5_000, "batch_size": 16, "lr": 4e-4, "lr_decay_steps": 5_000},
    "quick": {
        "z_dim": 8, "iterations": 3, "kernel": 3, "width": 16, "refinement_width": 32, "decoder_layers": 3,
        "refinement_layers": 3, "mlp_layers": 1, "hidden": 64, "scale": 0.12, "train_steps": 3_200, "batch_size": 8,
        "lr": 7e-4, "lr_decay_steps": 100_000, "inference_iterations": 8, "inference_samples": False,
    },
    "smoke": {
        "z_dim": 4, "iterations": 2, "kernel": 3, "width": 4, "decoder_layers": 2, "refinement_width": 4,
        "refinement_layers": 2, "mlp_layers": 1, "hidden": 8, "train_steps": 4, "batch_size": 4,
    },
}  # fmt: skip
# At 64×64, the training seconds that DRC has there.
BUDGET_CHANGES["cpu-hour"] = BUDGET_CHANGES["quick"] | {"train_steps": 10_000}
# At 128×128, about the training seconds that DRC has there.
BUDGET_CHANGES["cpu-evening"] = BUDGET_CHANGES["quick"] | {"train_steps": 7_500}
# For tables of many trainings: what changes is the length alone.
BUDGET_CHANGES["quick-ablation"] = BUDGET_CHANGES["quick"] | {"train_steps": 1_440}
BUDGET_CHANGES["cpu-hour-ablation"] = BUDGET_CHANGES["cpu-hour"] | {"train_steps": 2_500}


class IODINENetworks(nn.Module):
    """Decoder, refinement and the first guess of the posterior; images are (B, 3, S, S) in [0, 1]."""

    coordinates: Tensor

    def __init__(self, config: IODINEConfig) -> None:
        super().__init__()
        self.config = c = config
        parameters = 2 * c.z_dim
        shown = coordinates(c.image_size, c.coordinates)
        self.register_buffer("coordinates", shown, persistent=False)
        self.decoder = Decoder(c.image_size, c.z_dim, c.width, c.kernel, c.decoder_layers)
        self.refinement = Refinement(
            16 + len(shown),
            c.refinement_width,
            c.kernel,
            c.refinement_layers,
            c.mlp_layers,
            c.hidden,
            parameters,
        )
        channels = {
            "d_means": 3,
            "d_logits": 1,
            "log_prob": 1,
            "counterfactual": 1,
            "d_parameters": parameters,
        }
        self.norms = nn.ModuleDict({name: InputNorm(count) for name, count in channels.items()})
        bound = math.sqrt(3 / parameters)  # Glorot's, of a vector
        self.initial = nn.Parameter(torch.empty(parameters).uniform_(-bound, bound))

    def explain(
        self, images: Tensor, noise: Tensor, *, learning: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Decode and refine in turn: `noise` (T + 1, B, K, z_dim) -> T + 1 times (mask logits, means, -log p, KL).

        Logits are (B, K, 1, S, S), means (B, K, 3, S, S), the last two (B,). With `learning` they carry gradients to
        the weights through all iterations; without, each iteration is forgotten, which saves memory.
        """
        last = len(noise) - 1
        parameters = self.initial.expand(*noise.shape[1:3], -1)
        state = self.refinement.start(parameters[..., 0].numel())
        for t in range(last + 1):
            with torch.enable_grad():
                if not learning:
                    parameters = parameters.detach().requires_grad_()
                painted = self.decoder(sample(parameters, noise[t]))
                logits, means = painted[:, :, :1], painted[:, :, 1:]
                components = component_log_probs(images, means, self.config.scale)
                log_prob = log_mixture(logits, components)
                error, kl = -log_prob.flatten(1).sum(dim=1), kl_from_prior(parameters).flatten(1).sum(dim=1)
            yield logits, means, error, kl
            if t == last:
                return
            with torch.enable_grad():
                gradients = torch.autograd.grad(
                    (error + kl).sum(), (parameters, means, logits), retain_graph=learning
                )
            with torch.set_grad_enabled(learning):
                spatial = self.spatial_inputs(images, logits, means, components, log_prob, gradients)
                parameters, state = self.refined(parameters, gradients[0], spatial, state)

    def spatial_inputs(
        self,
        images: Tensor,
        logits: Tensor,
        means: Tensor,
        components: Tensor,
        log_prob: Tensor,
        gradients: tuple[Tensor, ...],
    ) -> dict[str, Tensor]:
        """What the refinement sees at each pixel: name -> (B or 1, K or 1, channels, S, S).

        Gradients are those of each image's own loss, so that an image does not depend on those beside it; the authors'
        are a batch's mean's, and smaller by its size.
        """
        _, d_means, d_logits = gradients
        density = components.exp()
        counterfactual = log_prob - log_mixture_without(logits, components)
        return {
            "image": images.unsqueeze(1),
            "means": means,
            "logits": logits,
            "masks": logits.softmax(dim=1),
            "d_logits": self.norms["d_logits"](d_logits),
            "d_means": self.norms["d_means"](d_means),
            "posterior": density / (density.sum(dim=1, keepdim=True) + 1e-6),
            "log_prob": self.norms["log_prob"](log_prob.detach()),
            "counterfactual": self.norms["counterfactual"](counterfactual.detach()),
            "coordinates": self.coordinates[None, None],
            "capacity": torch.full_like(logits[:1, :1], 0.5),  # a constant that the authors kept
        }

    def refined(
        self, parameters: Tensor, gradient: Tensor, spatial: dict[str, Tensor], state: State
    ) -> tuple[Tensor, State]:
        """The posterior's parameters (B, K, 2·z_dim) after one refinement, and the LSTM's state."""
        folded = parameters.shape[:2]
        maps = [value.expand(*folded, -1, -1, -1) for value in spatial.values()]
        normed = self.norms["d_parameters"](gradient.unsqueeze(-1)).squeeze(-1)
        capacity = torch.full_like(parameters[..., :1], 0.5)
        flat = torch.cat([parameters, normed, capacity], dim=-1).flatten(0, 1)
        change, state = self.refinement(torch.cat(maps, dim=2).flatten(0, 1), flat, state)
        return parameters + change.unflatten(0, folded), state


def iteration_weights(iterations: int) -> list[float]:
    """What the loss of each decoding counts: none at the first guess, 1 at the last."""
    return [t / iterations for t in range(iterations + 1)]


class IODINELearner(SingleLearner):
    """Networks and optimiser of one training."""

    networks_class = IODINENetworks
    betas = (0.95, 0.999)

    config: IODINEConfig
    networks: IODINENetworks

    def noise(self, generator: torch.Generator, count: int, iterations: int) -> Tensor:
        """Standard normal numbers for each decoding of `count` images: (T + 1, count, K, z_dim)."""
        c = self.config
        return torch.randn((iterations + 1, count, c.slots, c.z_dim), generator=generator).to(self.device)

    def loss(self, images: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum over decodings of -log p + KL, a mean over images, and the terms of the last decoding."""
        total = torch.zeros((), device=images.device)
        decodings = self.networks.explain(images, noise, learning=True)
        for weight, (_, _, error, kl) in zip(
            iteration_weights(self.config.iterations), decodings, strict=True
        ):
            total = total + weight * (error + kl).mean()
        return total, {"reconstruction": error.mean().item(), "kl": kl.mean().item()}

    def step(self, batch: Tensor, step: int) -> dict[str, float]:
        """One update on images (B, 3, S, S) in [0, 1]."""
        c = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = c.lr * 0.1 ** (step / c.lr_decay_steps)
        noise = self.noise(keyed_generator(self.seed, step), len(batch), c.iterations)
        loss, terms = self.loss(batch, noise)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), c.clip)
        self.optimiser.step()
        return {"loss": loss.item()} | terms


class IODINE(TrainedMethod):
    """IODINE as a method of the benchmark; which of its slots are the foreground, it does not say."""

    name = "IODINE"
    settings = IODINEConfig
    dataset_changes = DATASET_CHANGES
    budget_changes = BUDGET_CHANGES
    learner_class = IODINELearner
    segment_batch = 32

    def segment(self, images: np.ndarray, *, progress: Callable[..., None] | None = None) -> np.ndarray:
        """The masks of all slots after the last refinement: (N, S, S, 3) uint8 -> (N, K, S, S) float32."""
        return np.concatenate([masks.cpu().numpy() for masks, _ in self.explained(images, progress)])

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The images as the slots explain them together."""
        shown = [
            to_pixels((masks.unsqueeze(2) * means).sum(dim=1)) for masks, means in self.explained(images)
        ]
        return {"reconstruction": np.concatenate(shown)}

    def explained(
        self, images: np.ndarray, progress: Callable[..., None] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Masks (B, K, S, S) and means (B, K, 3, S, S), a batch at a time; ValueError for images of another size.

        All images meet the same noise, so that a mask depends neither on the order of the images nor on their number.
        """
        learner, c = self.learner, self.config
        noise = learner.noise(keyed_generator(learner.seed, SEGMENTING), 1, c.inference_iterations)
        if not c.inference_samples:
            noise[1:] = 0
        for batch in self.batches(images, progress):
            each = noise.expand(-1, len(batch), -1, -1)
            *_, (logits, means, _, _) = learner.networks.explain(batch, each, learning=False)
            yield logits.detach().squeeze(2).softmax(dim=1), means.detach()
