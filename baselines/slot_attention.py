"""Slot-Attention (Locatello et al., NeurIPS 2020): slots that compete for the pixels of an image.

An encoder turns the image into features, one vector a place. Slots start from a learned Gaussian, and a few rounds of
attention, normalised over slots so that they compete, let each gather the features of one part. A decoder paints
colours and a mask from every slot, and the image is their mixture. Settings and sizes are those of the authors'
released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.slot_attention_networks import Decoder, Encoder, SlotAttentionModule
from baselines.trained import SingleLearner, TrainedMethod, to_pixels
from baselines.training import SEGMENTING, keyed_generator


@dataclass(frozen=True)
class SlotAttentionConfig:
    """All settings of one run; the defaults are the authors' for CLEVR6, with the two slots of single objects."""

    image_size: int = 128  # pixels a side
    slots: int = 2  # K
    slot_size: int = 64  # length of a slot, and of the features at a place
    width: int = 64  # channels of all convolutions but the last
    iterations: int = 3  # rounds of attention
    hidden: int = 128  # width of the MLP that ends a round
    encoder_strides: tuple[int, ...] = (1, 1, 1, 1)  # one a convolution
    decoder_strides: tuple[int, ...] = (2, 2, 2, 2, 1)  # likewise, before the one that paints

    train_steps: int = 500_000
    batch_size: int = 64
    lr: float = 4e-4
    warmup_steps: int = 10_000  # the rate rises over so many ...
    decay_steps: int = 100_000  # ... and halves, from the first step on, over so many


DATASET_CHANGES: dict[str, dict[str, Any]] = {"clevr6": {"slots": 7}}

# Budgets: how far the authors' settings are cut down. `paper` cuts nothing. The strided encoder, with a sixteenth of
# the places, is the one that later studies use on CLEVR; the settings of `gpu` are not yet tried.
BUDGET_CHANGES: dict[str, dict[str, Any]] = {
    "paper": {},
    "gpu": {
        "encoder_strides": (1, 2, 2, 1), "batch_size": 32, "train_steps": 20_000,
        "warmup_steps": 1_000, "decay_steps": 10_000,
    },
    "quick": {
        "slot_size": 32, "width": 32, "hidden": 64, "encoder_strides": (1, 2, 1), "decoder_strides": (2, 2),
        "batch_size": 16, "train_steps": 6_000, "lr": 1e-3, "warmup_steps": 200, "decay_steps": 10_000,
    },
    "smoke": {
        "slot_size": 8, "width": 8, "hidden": 8, "encoder_strides": (1, 2), "decoder_strides": (2, 1),
        "batch_size": 4, "train_steps": 4, "warmup_steps": 2,
    },
}  # fmt: skip
# At 64×64, the training seconds that DRC has there.
BUDGET_CHANGES["cpu-hour"] = BUDGET_CHANGES["quick"] | {"train_steps": 17_000}
# At 128×128, about the training seconds that DRC has there.
BUDGET_CHANGES["cpu-evening"] = BUDGET_CHANGES["quick"] | {"train_steps": 12_500}
# For tables of many trainings: what changes is the length alone.
BUDGET_CHANGES["quick-ablation"] = BUDGET_CHANGES["quick"] | {"train_steps": 2_700}
BUDGET_CHANGES["cpu-hour-ablation"] = BUDGET_CHANGES["cpu-hour"] | {"train_steps": 4_250}


class SlotAttentionNetworks(nn.Module):
    """Encoder, attention and decoder; images are (B, 3, S, S) in [-1, 1]."""

    def __init__(self, config: SlotAttentionConfig) -> None:
        super().__init__()
        c = config
        self.encoder = Encoder(c.image_size, c.width, c.slot_size, c.encoder_strides)
        self.attention = SlotAttentionModule(c.slot_size, c.hidden, c.iterations)
        self.decoder = Decoder(c.image_size, c.slot_size, c.width, c.decoder_strides)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) and (B, K, slot_size) -> colours (B, K, 3, S, S) and masks (B, K, 1, S, S), summing to 1."""
        painted = self.decoder(self.attention(self.encoder(images), noise))
        return painted[:, :, :3], painted[:, :, 3:].softmax(dim=1)


def mixture(colours: Tensor, masks: Tensor) -> Tensor:
    """The image that the slots paint together: (B, K, 3, S, S), (B, K, 1, S, S) -> (B, 3, S, S)."""
    return (colours * masks).sum(dim=1)


def learning_rate(config: SlotAttentionConfig, step: int) -> float:
    """A linear rise times an exponential decay, both counted from step 0."""
    rise = min(step / config.warmup_steps, 1.0)
    return config.lr * rise * 0.5 ** (step / config.decay_steps)


class SlotAttentionLearner(SingleLearner):
    """Networks and optimiser of one training."""

    networks_class = SlotAttentionNetworks

    config: SlotAttentionConfig
    networks: SlotAttentionNetworks

    def noise(self, generator: torch.Generator, count: int) -> Tensor:
        """Standard normal numbers for the first slots of `count` images: (count, K, slot_size)."""
        c = self.config
        return torch.randn((count, c.slots, c.slot_size), generator=generator).to(self.device)

    def step(self, batch: Tensor, step: int) -> dict[str, float]:
        """One update on images (B, 3, S, S) in [0, 1]: the mean squared error of the mixture on [-1, 1]."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        images = (2 * batch - 1).contiguous(memory_format=torch.channels_last)
        noise = self.noise(keyed_generator(self.seed, step), len(batch))
        loss = (mixture(*self.networks(images, noise)) - images).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return {"reconstruction": loss.item()}


class SlotAttention(TrainedMethod):
    """Slot-Attention as a method of the benchmark; which of its slots are the foreground, it does not say."""

    name = "Slot-Attention"
    settings = SlotAttentionConfig
    dataset_changes = DATASET_CHANGES
    budget_changes = BUDGET_CHANGES
    learner_class = SlotAttentionLearner
    segment_batch = 32

    @classmethod
    def configure(cls, *, variant: str, preset: str, dataset: str, image_size: int) -> SlotAttentionConfig:
        """The settings under the budget `preset`; ValueError with a sentence for an unknown name or size."""
        config = super().configure(variant=variant, preset=preset, dataset=dataset, image_size=image_size)
        whole = math.lcm(math.prod(config.encoder_strides), math.prod(config.decoder_strides))
        if image_size % whole:
            raise ValueError(
                f"Slot-Attention needs a multiple of {whole} pixels a side under {preset}, not {image_size}"
            )
        return config

    def segment(self, images: np.ndarray, *, progress: Callable[..., None] | None = None) -> np.ndarray:
        """The masks of all slots: (N, S, S, 3) uint8 -> (N, K, S, S) float32."""
        return np.concatenate(
            [masks.squeeze(2).cpu().numpy() for _, masks in self.explained(images, progress)]
        )

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The images as the slots paint them together."""
        shown = [to_pixels((mixture(*parts) + 1) / 2) for parts in self.explained(images)]
        return {"reconstruction": np.concatenate(shown)}

    def explained(
        self, images: np.ndarray, progress: Callable[..., None] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Colours and masks of the slots, a batch at a time; ValueError for images of another size.

        All images meet the same noise, so that a mask depends neither on the order of the images nor on their number.
        """
        noise = self.learner.noise(keyed_generator(self.learner.seed, SEGMENTING), 1)
        for batch in self.batches(images, progress):
            with torch.no_grad():
                yield self.learner.networks(2 * batch - 1, noise.expand(len(batch), -1, -1))
