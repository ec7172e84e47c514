"""What the trained baselines have in common as methods of the benchmark: budgets, training, batches of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from baselines.arrays import check_images
from baselines.training import keyed_generator, to_unit, train

Changes = dict[str, dict[str, Any]]


def training_settings(config: Any) -> dict[str, Any]:
    """The settings that a training depends on: all but those named inference_..., used when it segments."""
    return {name: value for name, value in asdict(config).items() if not name.startswith("inference_")}


class SingleLearner:
    """What a Learner of one set of networks and one optimiser is made of, but for its step."""

    networks_class: ClassVar[type[nn.Module]]
    """Made from the settings."""
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Of Adam."""

    networks: Any

    def __init__(self, config: Any, seed: int, device: str) -> None:
        self.config, self.seed, self.device = config, seed, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_generator(seed).initial_seed())
            self.networks = self.networks_class(config)
        self.networks.to(self.device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.networks.parameters(), config.lr, self.betas)

    def state(self) -> dict[str, Any]:
        """All that a training needs to go on."""
        return {"networks": self.networks.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up where `state` was saved."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])


class TrainedMethod:
    """A method whose regions come from a Learner; which of them is the foreground, it does not say."""

    name: ClassVar[str]
    names_foreground = False
    variants = ("full",)

    settings: ClassVar[type]
    """A frozen dataclass with, among others, image_size, train_steps and batch_size."""
    dataset_changes: ClassVar[Changes]
    """Beginning of a data set's name -> what the authors set otherwise there; the longest beginning counts."""
    budget_changes: ClassVar[Changes]
    """Budget -> how far the authors' settings are cut down."""
    learner_class: ClassVar[type]
    """A Learner, made from the settings, the seed and the device."""
    least_images: ClassVar[int] = 1
    segment_batch: ClassVar[int] = 64

    config: Any
    _learner: Any = None

    @property
    def learner(self) -> Any:
        """What was trained, a `learner_class`; RuntimeError before `fit`."""
        if self._learner is None:
            raise RuntimeError(f"this {self.name} has no networks yet: call fit first")
        return self._learner

    @classmethod
    def skip(cls) -> str | None:
        """It runs wherever PyTorch does."""
        return None

    @classmethod
    def configure(cls, *, variant: str, preset: str, dataset: str, image_size: int) -> Any:
        """The settings under the budget `preset`; ValueError with a sentence for an unknown variant or preset."""
        for kind, name, known in (("variant", variant, cls.variants), ("preset", preset, cls.budget_changes)):
            if name not in known:
                raise ValueError(f"{cls.name} has no {kind} {name!r}; it has {', '.join(known)}")
        base = max(
            (name for name in cls.dataset_changes if f"{dataset}-".startswith(f"{name}-")),
            key=len,
            default="",
        )
        changes = cls.dataset_changes.get(base, {}) | cls.budget_changes[preset]
        return replace(cls.settings(), image_size=image_size, **changes)

    @classmethod
    def images_a_step(cls, config: Any) -> int:
        """How many images a step takes."""
        return config.batch_size

    def fit(
        self,
        images: np.ndarray,
        *,
        config: Any,
        seed: int,
        device: str,
        checkpoint_dir: Path,
        progress: Callable[..., None],
    ) -> None:
        """Train on images (N, S, S, 3) uint8, going on from a checkpoint in `checkpoint_dir`.

        ValueError for fewer than `least_images` images, or an array of another kind or size; further errors as of
        `baselines.training.train`.
        """
        check_images(images, config.image_size)
        if len(images) < self.least_images:
            raise ValueError(f"{self.name} needs at least {self.least_images} images, not {len(images)}")
        self.config, self._learner = config, self.learner_class(config, seed, device)
        train(
            self.learner,
            images,
            steps=config.train_steps,
            batch_size=self.images_a_step(config),
            seed=seed,
            device=device,
            folder=Path(checkpoint_dir),
            progress=progress,
            identity=training_settings(config),
        )

    def batches(self, images: np.ndarray, progress: Callable[..., None] | None = None) -> Iterator[Tensor]:
        """(N, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 1], a batch at a time.

        ValueError for an array of another kind or size.
        """
        check_images(images, self.config.image_size)
        count = len(images)
        for start in range(0, count, self.segment_batch):
            yield to_unit(images[start : start + self.segment_batch], self.learner.device)
            if progress is not None:
                progress(min(start + self.segment_batch, count), count)


def to_pixels(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [0, 1], or a little beyond -> (B, H, W, 3) uint8."""
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
