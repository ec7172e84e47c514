"""python -m drc train."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drc.cli import FOLDER, SEED, change_settings, device_option, device_text, resolve_device
from drc.config import BUDGET_CHANGES, VARIANTS, DRCConfig, configure, run_of

if TYPE_CHECKING:
    import numpy as np


@click.command()
@click.option("--data", type=FOLDER, required=True, help="A prepared data set; its masks are not looked at.")
@click.option("--out", type=FOLDER, default=None, help="Folder of the run, made or gone on with.")
@click.option(
    "--preset", type=click.Choice(list(BUDGET_CHANGES)), default="quick", show_default=True, help="Budget."
)
@click.option(
    "--variant", type=click.Choice(VARIANTS), default="full", show_default=True, help="Row of our Table 2."
)
@click.option("--split", default="train", show_default=True, help="Split to train on, or all.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a setting; may be repeated."
)
@device_option
@click.option(
    "--dry-run", is_flag=True, help="Print settings, parameters, arithmetic, memory and time; then stop."
)
def train(
    data: Path,
    out: Path | None,
    preset: str,
    variant: str,
    split: str,
    seed: int,
    changes: tuple[str, ...],
    device: str,
    dry_run: bool,
) -> None:
    """Train DRC on the images of a prepared data set, without their masks.

    \b
    Examples:
      python -m data_prep tm-dsprites --size 32 --out data/tm-dsprites-32
      python -m drc train --data data/tm-dsprites-32 --out runs/sprites
      python -m drc train --data data/birds --split all --preset gpu --dry-run

    The run's folder holds config.json, progress.jsonl (every step), curves.png, samples-*.png (the first training
    images, from their own chains) and checkpoints. Stop it with Ctrl-C, or lose the machine: the same command goes
    on from the last checkpoint. Settings are those of drc/config.py.
    """
    from drc.prepared import open_training_images

    found = open_training_images(data, split)
    try:
        whose = run_of(found.name, split)
        config = configure(variant=variant, preset=preset, dataset=whose, image_size=found.image_size)
        config = change_settings(config, changes)
        if dry_run:
            show_cost(found.images, config, seed, resolve_device(device))
            return
        if out is None:
            raise click.UsageError("name the folder of the run with --out")
        identity = {
            "dataset": found.name,
            "images_sha256": found.sha256,
            "split": split,
            "preset": preset,
            "variant": variant,
            "seed": seed,
            "settings": asdict(config),
        }
        run(out, found.images, config, seed, resolve_device(device), identity)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def run(out: Path, images: np.ndarray, config: DRCConfig, seed: int, device: str, identity: dict) -> None:
    """Train in the folder of a run, from its newest checkpoint on; of torchrun's processes the first one reports."""
    from drc import distributed
    from drc.build import build_trainer
    from drc.run_folder import RunProgress, claimed
    from drc.trainer import train as train_on

    trainer = build_trainer(images, config, seed, distributed.join(device))
    if distributed.rank():
        train_on(trainer, out / "checkpoints", lambda step, total, **values: None)
        distributed.leave()
        return
    with claimed(out, identity):
        progress = RunProgress(out, trainer)
        try:
            train_on(trainer, out / "checkpoints", progress)
        finally:
            progress.close()
    distributed.leave()
    click.echo(f"{out}: trained for {trainer.step:,} steps; to use it:")
    click.echo(f"  python -m drc segment PICTURES --checkpoint {out} --out DIR")


def show_cost(images: np.ndarray, config: DRCConfig, seed: int, device: str) -> None:
    """Print what a run would cost."""
    from tqdm import tqdm

    from drc.dry_run import describe, estimate, measure

    cost = estimate(config, len(images))
    with tqdm(desc="measuring", unit="step", leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        measured = measure(images, config, seed, device, cost, progress)
    for line in describe(config, cost, measured, device_text(device)):
        click.echo(line)
