"""DRC as a method of the benchmark: fit without labels, segment, and show what it painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drc.config import VARIANTS, DRCConfig, configure
from drc.segment import infer_regions
from drc.trainer import Progress, Trainer, train


class DRC:
    """Deep Region Competition; channel 0 of its masks is the foreground, by construction and with no matching."""

    name = "DRC"
    needs_training = True
    names_foreground = True
    variants = VARIANTS

    config: DRCConfig

    @classmethod
    def skip(cls) -> str | None:
        """It runs wherever PyTorch does."""
        return None

    @classmethod
    def configure(cls, *, variant: str, preset: str, dataset: str, image_size: int) -> DRCConfig:
        """The resolved settings of one run; ValueError with a sentence if there are none of that name."""
        return configure(variant=variant, preset=preset, dataset=dataset, image_size=image_size)

    def fit(
        self,
        images: np.ndarray,
        *,
        config: DRCConfig,
        seed: int,
        device: str,
        checkpoint_dir: Path,
        progress: Progress,
    ) -> None:
        """Algorithm 1 on images (N, H, W, 3) uint8, going on from `checkpoint_dir` where a checkpoint is there."""
        self.config, self.seed, self.device = config, seed, device
        trainer = Trainer(images, config, seed, device)
        self.model = (
            trainer.model
        )  # already visible while it trains, so that `progress` may ask for a picture
        train(trainer, Path(checkpoint_dir), progress)

    def segment(self, images: np.ndarray, *, progress: Progress | None = None) -> np.ndarray:
        """π of images (N, H, W, 3) uint8, inferred from noise: (N, 2, H, W) float32, foreground first."""
        regions = infer_regions(self.model, images, self.config, self.seed, self.device, progress)
        return np.concatenate([batch.pi.cpu().numpy() for batch in regions])

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The rows of the paper's Figure 3, inferred from noise: name -> (N, H, W, 3) uint8."""
        shown: dict[str, list[np.ndarray]] = {
            "reconstruction": [],
            "foreground": [],
            "background": [],
            "mask": [],
        }
        for batch in infer_regions(self.model, images, self.config, self.seed, self.device):
            pi_fg = batch.pi[:, :1]
            shown["reconstruction"].append(to_uint8(batch.image))
            shown["foreground"].append(to_uint8((batch.content_fg + 1) * pi_fg - 1))
            shown["background"].append(to_uint8(batch.content_bg))
            shown["mask"].append(to_uint8(2 * pi_fg.expand(-1, 3, -1, -1) - 1))
        return {name: np.concatenate(parts) for name, parts in shown.items()}


def to_uint8(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8."""
    scaled = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
