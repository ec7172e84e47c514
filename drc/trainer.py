"""Algorithm 1: learn both generators and the latent EBM by EM, with persistent Langevin chains for every image."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drc import distributed, fast, rng
from drc.checkpoint import (
    CheckpointError,
    checkpoint_paths,
    drop_remains,
    load_newest,
    save_checkpoint,
    set_aside_damaged,
)
from drc.config import DRCConfig
from drc.interrupts import deferred_interrupts
from drc.langevin import langevin
from drc.memory import keep_freed_memory
from drc.model import DRCModel
from drc.objectives import generation, generator_terms, lebm_loss
from drc.sampler import Sampler
from drc.tensors import DivergedError, as_numbers, frozen, matrix_products_in_tf32, to_device, to_signed

log = logging.getLogger(__name__)
Progress = Callable[..., None]
EXPLOSIVE = {"lebm", "energy_posterior", "energy_prior", "z_norm", "z_norm_prior", "kl"}
EXPLODED = 1e6  # no energy, norm or weight of a sound run comes near it


def training_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Without what matters at inference alone, so that one training serves several ways to infer."""
    return {name: value for name, value in config.items() if not name.startswith("inference_")}


class Trainer:
    """The state of one training run: model, optimisers and all chains. `images` is (N, H, W, 3) uint8."""

    def __init__(self, images: np.ndarray, config: DRCConfig, seed: int, device: str = "cpu") -> None:
        self.config, self.seed, self.device = config, seed, torch.device(device)
        self.images = images[: config.train_images]
        self.count = len(self.images)
        self.batch_size = min(config.batch_size, self.count)
        self.step = 0
        self.share = 1.0  # of the batch that this process takes
        if self.batch_size < distributed.processes():
            raise ValueError(
                f"{distributed.processes()} processes cannot share a batch of {self.batch_size}: start fewer"
            )
        if self.device.type == "cpu":
            keep_freed_memory()
        self.build()
        self.render = partial(fast.render, self.model)
        self.sampler = Sampler(self.model, config)
        self.posterior_chains, self.prior_chains = self.starts(range(self.count), 0).unbind(dim=1)

    def build(self) -> None:
        """Make `model` and `optimisers`."""
        c = self.config
        self.model = DRCModel(c, self.seed).to(self.device)
        self.optimisers = {
            "generators": self.adam(self.model.generator_parameters(), c.lr_generators),
            "lebm": self.adam(self.model.lebm.parameters(), c.lr_lebm),
        }

    @staticmethod
    def adam(parameters: Iterable[torch.nn.Parameter], learning_rate: float) -> torch.optim.Adam:
        """The authors' Adam."""
        return torch.optim.Adam(parameters, lr=learning_rate, betas=(0.5, 0.999))

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches only: what is left over sits an epoch out, other images each time."""
        return self.count // self.batch_size

    def batch(self) -> tuple[list[int], int]:
        """The images of the next step, and the epoch: their visit, though some may have sat an earlier one out."""
        epoch, position = divmod(self.step, self.batches_per_epoch)
        order = rng.epoch_order(self.seed, epoch, self.count)
        return order[position * self.batch_size :][: self.batch_size].tolist(), epoch

    def pixels(self, rows: list[int], visit: int) -> Tensor:
        """The images of `rows` as this visit shows them: (B, 3, H, W) in [-1, 1]."""
        images = to_signed(self.images[rows], self.device)
        if not self.config.flips:
            return images
        mirrored = rng.chosen(self.seed, rng.FLIP, rows, visit, 0.5).to(self.device)
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images)

    def noise(self, stream: int, rows: list[int], visit: int, steps: int) -> Tensor:
        """Standard normal noise for the chains of `rows` on this visit: (steps, B, d)."""
        noise = rng.chain_noise(self.seed, stream, rows, visit, (steps, self.model.z_dim))
        return to_device(noise.transpose(0, 1), self.device)

    def starts(self, rows: Sequence[int], visit: int) -> Tensor:
        """Starts on this visit for chains of `rows`, N(0, start_scale² I): posterior and prior, (B, 2, d)."""
        noise = rng.chain_noise(self.seed, rng.INITIAL, rows, visit, (2, self.model.z_dim))
        return self.config.start_scale * noise

    def chains(self, rows: list[int], visit: int) -> tuple[Tensor, Tensor]:
        """Where the chains of `rows` stand, some of them at a new start: posterior and prior, (B, d) each."""
        posterior, prior = self.posterior_chains[rows], self.prior_chains[rows]
        if not self.config.restart:
            return posterior, prior
        anew = rng.chosen(self.seed, rng.RESTART, rows, visit, self.config.restart).unsqueeze(1)
        start = self.starts(rows, visit)
        return torch.where(anew, start[:, 0], posterior), torch.where(anew, start[:, 1], prior)

    def posterior_step_size(self) -> float:
        """δ₁ of this training step: it falls geometrically, to `posterior_step_fall` of itself when training ends."""
        return self.config.posterior_step_size * self.config.posterior_step_fall ** (
            min(1.0, self.step / self.config.train_steps)
        )

    def sample(self, rows: list[int], visit: int, images: Tensor) -> tuple[Tensor, Tensor]:
        """The E-step: take the chains of `rows` on (Algorithm 1, lines 3 and 4) -> z_posterior, z_prior (B, d)."""
        c = self.config
        posterior, prior = self.chains(rows, visit)
        with frozen(self.model):
            z_posterior = langevin(
                self.sampler.posterior(images),
                posterior.to(self.device),
                self.noise(rng.POSTERIOR, rows, visit, c.posterior_steps) * c.temperature**0.5,
                self.posterior_step_size(),
                c.momentum,
            )  # first, so that a GPU is busy with it while the other's noise is drawn
            prior = prior.to(self.device)
            z_prior = langevin(
                self.sampler.prior(prior),
                prior,
                self.noise(rng.PRIOR, rows, visit, c.prior_steps),
                c.prior_step_size,
            )
        return z_posterior, z_prior

    def learn(self, images: Tensor, z_posterior: Tensor, z_prior: Tensor) -> dict[str, float]:
        """The M-step: one update of α and one of β (Algorithm 1, lines 5 and 6) -> the terms, as numbers."""
        regions, energies = self.render(z_posterior), self.model.lebm(z_posterior)
        terms = generator_terms(self.model, regions, energies, images, self.config)
        contrast = lebm_loss(self.model, z_posterior, z_prior)
        generated = generation(regions, images, self.config)
        values = as_numbers(
            terms._asdict()
            | {
                "partitioning": terms.likelihood - generated,
                "generation": generated,
                "log_prior": -(energies.energy + 0.5 * z_posterior.square().sum(dim=1)).mean(),
                "lebm": contrast,  # the energy gap between the chains
                "energy_posterior": energies.energy.mean(),
                "energy_prior": energies.energy.mean() - contrast,
                "reconstruction": (regions.image - images).abs().mean(),
                "foreground": regions.pi[:, 0].mean(),
                "z_norm": z_posterior.square().mean().sqrt(),
                "z_norm_prior": z_prior.square().mean().sqrt(),
            }
        )
        self.check_finite(values)
        self.descend("generators", terms.total(self.config))
        self.descend("lebm", contrast)
        return values

    def descend(self, name: str, loss: Tensor) -> None:
        """One step of the optimiser of that name, down the loss over all processes' images."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        (self.share * loss).backward()
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    distributed.summed(parameter.grad)
        optimiser.step()

    def check_finite(self, values: dict[str, float]) -> None:
        """DivergedError at the first term that is not a finite number, or at an energy or norm beyond all measure.

        No weight has taken it in by then.
        """
        for name, value in values.items():
            if not np.isfinite(value) or (name in EXPLOSIVE and abs(value) > EXPLODED):
                raise DivergedError(f"training diverged at step {self.step + 1}: {name} is {value:.4g}")

    def check_weights(self) -> None:
        """DivergedError if a weight is beyond all measure, or no number: such a model is not worth a checkpoint."""
        for name, weight in self.model.named_parameters():
            largest = weight.detach().abs().max().item()
            if not largest <= EXPLODED:
                raise DivergedError(f"training diverged at step {self.step}: {name} holds {largest:.4g}")

    def train_step(self) -> dict[str, float]:
        """One iteration: the next batch, of which this process takes its share, and the weights' update."""
        rows, visit = self.batch()
        mine = rows[distributed.rank() :: distributed.processes()]
        self.share = len(mine) / len(rows)
        self.set_learning_rates()
        values = self.update(mine, visit, self.pixels(mine, visit))
        self.exchange_chains(rows, mine)
        self.step += 1
        return self.over_processes(values)

    def exchange_chains(self, rows: list[int], mine: list[int]) -> None:
        """Let every process know where the chains of all `rows` stand, of which it has moved `mine`."""
        if distributed.processes() > 1:
            others = sorted(set(rows) - set(mine))
            for chains in (self.posterior_chains, self.prior_chains):
                chains[others] = 0
                chains[rows] = distributed.summed(chains[rows].to(self.device)).cpu()

    def over_processes(self, values: dict[str, float]) -> dict[str, float]:
        """The terms over all images of the batch: their averages, and of norms the root of the squares' average."""
        numbers, powers = torch.tensor(
            [[*values.values()], [2 if name.startswith("z_norm") else 1 for name in values]],
            dtype=torch.float64,
            device=self.device,
        )
        found = distributed.summed(numbers**powers * self.share) ** (1 / powers)
        return dict(zip(values, found.tolist(), strict=True))

    def update(self, rows: list[int], visit: int, images: Tensor) -> dict[str, float]:
        """One iteration of Algorithm 1 on the images of `rows` -> the terms, as numbers."""
        z_posterior, z_prior = self.sample(rows, visit, images)
        with matrix_products_in_tf32(self.device):
            values = self.learn(images, z_posterior, z_prior)
        self.keep_chains(rows, z_posterior, z_prior)  # last: a GPU has been given all its work by then
        return values

    def keep_chains(self, rows: list[int], z_posterior: Tensor, z_prior: Tensor) -> None:
        """Where the chains of `rows` now stand."""
        self.posterior_chains[rows], self.prior_chains[rows] = z_posterior.cpu(), z_prior.cpu()

    def set_learning_rates(self) -> None:
        """Constant, then linearly to a tenth over the last `lr_decay` share of the steps."""
        c = self.config
        left = max(0.0, 1 - self.step / c.train_steps)  # a dry run may take more
        factor = 0.1 + 0.9 * min(1.0, left / c.lr_decay) if c.lr_decay else 1.0
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = factor * optimiser.defaults["lr"]

    @cached_property
    def images_sha256(self) -> str:
        """Of the pixels that are trained on."""
        total = hashlib.sha256()
        for first in range(0, self.count, 256):
            total.update(np.ascontiguousarray(self.images[first : first + 256]).data)
        return total.hexdigest()

    def facts(self) -> dict[str, Any]:
        """What must be the same in every process of a run."""
        settings = training_settings(asdict(self.config))
        return {"step": self.step, "seed": self.seed, "images": self.images_sha256, "settings": settings}

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on: loadable with `weights_only=True`."""
        return {
            "config": asdict(self.config),
            "seed": self.seed,
            "images_sha256": self.images_sha256,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "posterior_chains": self.posterior_chains,
            "prior_chains": self.prior_chains,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up where `state` was saved; CheckpointError if that was under other settings, seed or images."""
        config = asdict(DRCConfig(**state["config"]))  # with what a later version added
        theirs = (training_settings(config), state["seed"], len(state["posterior_chains"]))
        images = state.get("images_sha256", self.images_sha256)  # earlier versions did not keep it
        if (*theirs, images) != (
            training_settings(asdict(self.config)), self.seed, self.count, self.images_sha256,
        ):  # fmt: skip
            raise CheckpointError(
                "the checkpoint was made with other settings, another seed or other images; name another folder, or "
                "delete this one to start anew"
            )
        self.model.load_state_dict(state["model"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.posterior_chains, self.prior_chains = state["posterior_chains"], state["prior_chains"]
        self.step = state["step"]


def train(trainer: Trainer, folder: Path, progress: Progress, checkpoint_seconds: float = 60.0) -> None:
    """Run `trainer` to its last step, from the newest checkpoint in `folder` if there is one.

    `progress(step, total, **values)` is called after every step. A checkpoint is written every `checkpoint_seconds`,
    at the end, and, between two steps, when `progress` raises KeyboardInterrupt or SIGINT or SIGTERM has come, which
    ends the run with KeyboardInterrupt, on all processes after the same step. CheckpointError where a checkpoint cannot
    be read, written or taken up, or the processes differ; DivergedError where a number is no longer finite.
    """
    state = load_newest(folder)
    if state is not None:
        take_up(trainer, state, folder)
        log.info("%s: goes on from step %d of %d", folder, trainer.step, trainer.config.train_steps)
    if wrong := distributed.differing(trainer.facts()):
        raise CheckpointError(
            f"the processes differ in their {', '.join(wrong)}: start each with the same command and the same data, "
            f"on a folder {folder} that all of them share"
        )
    if distributed.rank() == 0:
        drop_remains(folder)
        set_aside_damaged(folder, trainer.step)
    total, saved = trainer.config.train_steps, time.monotonic()

    def save() -> None:
        trainer.check_weights()
        if distributed.rank() == 0:
            save_checkpoint(folder, trainer.step, trainer.state())

    with deferred_interrupts() as interrupted:
        while trainer.step < total:
            with last_checkpoint_named(folder):
                values = trainer.train_step()
            try:
                progress(trainer.step, total, **values)
                stop = interrupted()
            except KeyboardInterrupt:
                stop = True
            stop = distributed.any_process(stop, trainer.device)
            if stop or trainer.step == total or time.monotonic() - saved > checkpoint_seconds:
                with last_checkpoint_named(folder):
                    save()
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt
        if distributed.any_process(interrupted(), trainer.device):  # while the last checkpoint was written
            raise KeyboardInterrupt


def take_up(trainer: Trainer, state: dict[str, Any], folder: Path) -> None:
    """`load_state`, with CheckpointError also where `state` is no whole training of this version."""
    try:
        trainer.load_state(state)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: its newest checkpoint is no training of this version of DRC ({str(error).splitlines()[0]}); "
            "name another folder, or delete this one to start anew"
        ) from error


@contextmanager
def last_checkpoint_named(folder: Path) -> Iterator[None]:
    """Within it, a DivergedError gets to say which checkpoint is the last, and what to do."""
    try:
        yield
    except DivergedError as error:
        before = checkpoint_paths(folder)
        last = f"the last checkpoint is {before[-1]}" if before else "there is no checkpoint yet"
        raise DivergedError(
            f"{error}; {last}: lower the learning rates or step sizes, for a run of another name"
        ) from error
