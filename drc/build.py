"""The model and the trainer that some settings ask for."""

from __future__ import annotations

import numpy as np

from drc.amortised import AmortisedModel, AmortisedTrainer
from drc.config import DRCConfig
from drc.model import DRCModel
from drc.segment import check_images
from drc.trainer import Trainer


def build_model(config: DRCConfig) -> DRCModel:
    """A model whose weights are left for others to fill."""
    return (AmortisedModel if config.amortised else DRCModel)(config, seed=None)


def build_trainer(images: np.ndarray, config: DRCConfig, seed: int, device: str = "cpu") -> Trainer:
    """A trainer of images (N, H, H, 3) uint8 at its first step.

    ValueError for none or of another size, and for more processes than a batch has images.
    """
    check_images(images, config.image_size)
    return (AmortisedTrainer if config.amortised else Trainer)(images, config, seed, device)
