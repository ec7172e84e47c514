"""DRC as a method of the benchmark: fit without labels, segment, and show what it painted."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drc.build import build_model, build_trainer
from drc.checkpoint import CheckpointError, load_checkpoint, load_newest
from drc.config import VARIANTS, DRCConfig, configure
from drc.files import write_atomic
from drc.kept import KeptChains
from drc.model import Regions
from drc.rng import checked_seed
from drc.sampler import Sampler
from drc.segment import infer_regions
from drc.sheets import figure_panels
from drc.tensors import resolve_device
from drc.trainer import Progress, train


class DRC:
    """Deep Region Competition; channel 0 of its masks is the foreground, by construction and with no matching.

    What needs a model raises RuntimeError before `fit` or `load` has given one.
    """

    name = "DRC"
    names_foreground = True
    variants = VARIANTS

    config: DRCConfig
    _seed: int
    _last_sampler: Sampler | None = None
    chains_dir: Path | None = None
    kept_seconds = 0.0
    """What the chains that `segment` found in `chains_dir` had taken, when they were sampled."""

    @property
    def seed(self) -> int:
        """What all noise is keyed by, from 0 to 2^63 - 1; ValueError where it is set to anything else."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = checked_seed(seed)

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
        progress: Progress | None = None,
    ) -> None:
        """Algorithm 1 on images (N, H, H, 3) uint8, going on from `checkpoint_dir` where a checkpoint is there.

        The chains of later inferences are kept in its folder `chains`: they, too, go on where they were stopped.
        ValueError where there are no images, H is not the settings' `image_size`, the seed is no whole number from 0
        on, or the device is not there; CheckpointError where a checkpoint is another run's, or cannot be written;
        DivergedError where the training diverges.
        """
        self.config, self.seed, self.device = config, seed, resolve_device(device)
        trainer = build_trainer(images, config, self.seed, self.device)
        self._last_sampler = None  # a GPU's recordings of another model hold gigabytes
        self.model = trainer.model  # seen while it trains, so that `progress` may ask for a picture
        train(trainer, Path(checkpoint_dir), progress or (lambda step, total, **values: None))
        self.chains_dir, self.kept_seconds = Path(checkpoint_dir) / "chains", 0.0

    def glance(self) -> DRC:
        """This model as it is, with one chain of a quarter of the steps: for pictures while it trains.

        Nothing is compiled for them, which would take longer than they do.
        """
        self._check_trained()
        hasty = DRC()
        hasty.model, hasty.seed, hasty.device = self.model, self.seed, self.device
        steps = -(-self.config.inference_steps // 4)
        hasty.config = replace(self.config, inference_chains=1, inference_steps=steps, compiled=False)
        return hasty

    @classmethod
    @torch.inference_mode(False)  # whoever loads it may be within that, and samplers differentiate
    def load(cls, path: Path | str, *, device: str = "cpu") -> DRC:
        """A trained model, from the folder of a run (its newest checkpoint), from one checkpoint or a file of `save`.

        The seed, and settings whose names begin with `inference_`, may be replaced afterwards to infer otherwise.
        CheckpointError says what is wrong; ValueError that the device is not there.
        """
        device = resolve_device(device)
        state = trained_state(Path(path))
        if "config" not in state:
            raise CheckpointError(
                f"{path}: a training of another method than DRC; name the folder of one of DRC's"
            )
        method = cls()
        try:
            method.config, method.seed, method.device = DRCConfig(**state["config"]), state["seed"], device
            method.model = build_model(method.config)
            method.model.load_state_dict(state["model"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: not a checkpoint of this version of DRC ({str(error).splitlines()[0]}); train again"
            ) from error
        method.model.to(device)
        return method

    def save(self, path: Path | str) -> None:
        """Write the model and its settings, without the chains and optimisers of its training, as one file.

        CheckpointError if it cannot be written, RuntimeError if there is none yet.
        """
        self._check_trained()
        content = io.BytesIO()
        torch.save(
            {"config": asdict(self.config), "seed": self.seed, "model": self.model.state_dict()}, content
        )
        try:
            write_atomic(Path(path), content.getvalue())
        except OSError as error:
            raise CheckpointError(f"{path}: the model could not be written ({error})") from error

    def regions(
        self, images: np.ndarray, *, keys: Sequence[int] | None = None, progress: Progress | None = None
    ) -> Iterator[Regions]:
        """Regions of images (N, H, W, 3) uint8, inferred from noise a batch at a time; errors as of `infer_regions`."""
        self._check_trained()
        kept = None
        if self.chains_dir is not None:
            kept = KeptChains(self.chains_dir, self.model, self.config, self.seed, self.device)
        yield from infer_regions(self._sampler(), images, self.seed, self.device, progress, keys, kept)
        if kept is not None:
            self.kept_seconds += kept.seconds

    def segment(self, images: np.ndarray, *, progress: Progress | None = None) -> np.ndarray:
        """π of images (N, H, W, 3) uint8, inferred from noise: (N, 2, H, W) float32, foreground first.

        The two sum to 1. Responsibilities take their place where `inference_masks` asks for them. An image's noise is
        keyed by its row: in another row it gets other noise, unlike by `segment_files`. Errors as of `infer_regions`.
        """
        return np.concatenate([batch.pi.cpu().numpy() for batch in self.regions(images, progress=progress)])

    def segment_files(self, files: Sequence[Path | str]) -> list[np.ndarray]:
        """Foreground masks (h, w) bool of pictures of any size, each at its own; see `drc.extraction`.

        PictureError names the first that cannot be read; TypeError where a single one is given, and no list of them.
        """
        self._check_trained()
        check_list(files, "segment_files")
        from drc.extraction import extract
        from drc.pictures import open_picture

        pictures = [
            open_picture(Path(file), self.config.image_size, preview=1) for file in files
        ]  # for masks alone
        return [found.mask() for found in extract(self, pictures)]

    def segment_into(self, pictures: Sequence[Path | str], out: Path | str) -> int:
        """`python -m drc segment` of files and folders of pictures into the folder `out` -> how many were refused.

        These are named in its refused.csv. OutputError if it holds other results; see `drc.extraction.segment_into`.
        TypeError where a single path is given, and no list of them.
        """
        self._check_trained()
        check_list(pictures, "segment_into")
        from drc.extraction import earlier_names, segment_into
        from drc.pictures import find_sources

        out = Path(out)
        return segment_into(self, find_sources(map(Path, pictures), out, earlier_names(out)), out)

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The paper's Figure 3, inferred from noise: reconstruction, foreground, background -> (N, H, W, 3) uint8."""
        batches = [figure_panels(batch) for batch in self.regions(images)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _sampler(self) -> Sampler:
        """That of the model and settings as they are now; the last one where it is, with what it has compiled."""
        kept = self._last_sampler
        if kept is None or kept.model is not self.model or kept.config != self.config:
            self._last_sampler = kept = Sampler(self.model, self.config)
        return kept

    def _check_trained(self) -> None:
        """RuntimeError where there is no model yet."""
        if not hasattr(self, "model"):
            raise RuntimeError("this DRC has no model yet: call fit, or open one with DRC.load")


def check_list(files: object, asked: str) -> None:
    """TypeError for a single path, whose letters would be taken for paths."""
    if isinstance(files, (str, Path)):
        raise TypeError(f"{asked} takes a list of files: [{str(files)!r}]")


def trained_state(path: Path) -> dict[str, Any]:
    """The newest checkpoint of a run's folder, or of its folder `checkpoints`, or the file itself; CheckpointError."""
    if path.is_file():
        return load_checkpoint(path)
    for folder in (path / "checkpoints", path):
        state = load_newest(folder)
        if state is not None:
            return state
    raise CheckpointError(f"{path}: there is no checkpoint; name the folder of a run that has been trained")
