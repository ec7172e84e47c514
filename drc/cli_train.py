"""python -m drc train."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drc.cli import FOLDER, SEED, change_settings, device_option, device_text, mover, resolve_device
from drc.config import BUDGET_CHANGES, IMAGE_SIZES, VARIANTS, DRCConfig, configure, run_of

if TYPE_CHECKING:
    import numpy as np

    from drc.prepared import TrainingImages

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--data",
    type=FOLDER,
    required=True,
    help="A folder of pictures, or a prepared data set, whose masks are not looked at.",
)
@click.option("--out", type=FOLDER, default=None, help="Folder of the run, new or to go on with.")
@click.option(
    "--preset",
    type=click.Choice(list(BUDGET_CHANGES)),
    default="quick",
    show_default=True,
    help="Budget: paper is the authors' settings; smaller ones cut sizes and lengths, and but for smoke they are "
    "tuned (drc-tuned, which --variant untuned leaves out).",
)
@click.option(
    "--variant", type=click.Choice(VARIANTS), default="full", show_default=True, help="Line of our Table 2."
)
@click.option("--split", default="train", show_default=True, help="Of a prepared data set, or all.")
@click.option(
    "--size",
    type=click.IntRange(8, 16_384),
    default=None,
    help="Pixels a side of pictures, 8, 16, 32, ...; the preset's own if not given.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a setting; may be repeated."
)
@device_option
@click.option(
    "--resume",
    is_flag=True,
    help="Go on only: fail where there is no checkpoint, instead of beginning anew.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print settings, parameters, arithmetic, memory and time; then stop."
)
def train(
    data: Path,
    out: Path | None,
    preset: str,
    variant: str,
    split: str,
    size: int | None,
    seed: int,
    changes: tuple[str, ...],
    device: str,
    resume: bool,
    dry_run: bool,
) -> None:
    """Train DRC on pictures without masks: a folder of them, squeezed to squares, or a prepared data set.

    \b
    Examples:
      python -m drc train --data photos --preset cpu-hour --out runs/photos
      python -m data_prep tm-dsprites --size 32 --count 512 --out data/tm-dsprites-32
      python -m drc train --data data/tm-dsprites-32 --out runs/sprites
      python -m drc train --data data/birds --split all --preset gpu --dry-run

    The run's folder holds config.json, progress.jsonl (every step), curves.png, samples-*.png (the first training
    images, from their own chains) and checkpoints. Stop it with Ctrl-C, or lose the machine: the same command goes
    on from the last checkpoint. Settings are those of drc/config.py.
    """

    from drc import distributed

    def settings(dataset: str, image_size: int) -> DRCConfig:
        plain = configure(variant=variant, preset=preset, dataset=dataset, image_size=image_size)
        return change_settings(plain, changes)

    if dry_run and not distributed.is_first():
        return
    if out is not None:
        check_place(out, data, resume)
    elif not dry_run:
        raise click.UsageError("name the folder of the run with --out")
    device = resolve_device(device)
    try:
        found = open_images(data, split, size, preset, out, settings)
        split = found.split
        config = settings(run_of(found.name, split), found.image_size)
        if dry_run or out is None:
            show_cost(found.images, config, seed, device)
            return
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    identity = {
        "dataset": found.name,
        "images_sha256": found.sha256,
        "split": split,
        "preset": preset,
        "variant": variant,
        "seed": seed,
        "settings": asdict(config),
    }
    run(out, found.images, config, seed, device, identity)


def check_place(out: Path, data: Path, resume: bool) -> None:
    """A usage error for a folder that no run can be in, or that holds none to `resume`."""
    from drc.checkpoint import checkpoint_paths
    from drc.pictures import real_path

    if real_path(out) == real_path(data):
        raise click.UsageError(f"{out} is the folder of the images themselves: name another one with --out")
    if resume and not checkpoint_paths(out / "checkpoints"):
        raise click.UsageError(f"{out} has no checkpoint to go on from: leave --resume out to begin there")


def open_images(
    data: Path,
    split: str,
    size: int | None,
    preset: str,
    out: Path | None,
    settings: Callable[[str, int], DRCConfig],
) -> TrainingImages:
    """A split of the prepared data set in a folder, or else the pictures in it at `size` or the preset's own.

    Of pictures only so many are read as the `settings` of that name and size train on.
    """
    from tqdm import tqdm

    from drc.distributed import is_first
    from drc.picture_folder import PICTURES, read_picture_folder
    from drc.prepared import is_prepared, open_training_images
    from drc.words import plural

    meant = IMAGE_SIZES[preset]
    if not data.is_dir():
        what = "is a file" if data.exists() else "is not there"
        raise click.UsageError(
            f"{data} {what}: name a folder of pictures, or one that python -m data_prep has made"
        )
    if is_prepared(data):
        found = open_training_images(data, split)
        if size not in (None, found.image_size):
            raise click.UsageError(
                f"{data} was prepared at {found.image_size} pixels a side: leave --size out, or prepare it anew"
            )
        if found.image_size != meant:
            log.warning(
                "%s has %d pixels a side and the settings of %s are made for %d",
                data, found.image_size, preset, meant,
            )  # fmt: skip
        return found
    if split not in ("train", "all"):
        raise click.UsageError(
            f"{data} is a folder of pictures and has no split {split!r}: leave --split out"
        )
    size = size or meant
    limit = settings(PICTURES, size).train_images
    with tqdm(desc="reading pictures", unit="picture", leave=False) as bar:

        def refused(why: str) -> None:
            tqdm.write(f"refused: {why}", file=sys.stderr)

        found = read_picture_folder(data, size, out, limit, mover(bar), refused)
    count = len(found.images)
    if is_first():
        most = ", as many as the settings take (train_images)" if count == limit else ""
        click.echo(f"{data}: {plural(count, 'picture')} to train on{most}")
    return found


def run(out: Path, images: np.ndarray, config: DRCConfig, seed: int, device: str, identity: dict) -> None:
    """Train in the folder of a run, from its newest checkpoint on; of torchrun's processes the first one reports."""
    from drc import distributed
    from drc.build import build_trainer
    from drc.run_folder import RunProgress, claimed
    from drc.trainer import train as train_on

    try:
        device = distributed.join(device)
        trainer = build_trainer(images, config, seed, device)
    except ValueError as error:  # processes that cannot join, or not share a batch
        raise click.UsageError(str(error)) from error
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
    click.echo(f"  python -m drc segment PICTURES --checkpoint {shlex.quote(str(out))} --out DIR")


def show_cost(images: np.ndarray, config: DRCConfig, seed: int, device: str) -> None:
    """Print what a run would cost."""
    from tqdm import tqdm

    from drc.dry_run import describe, estimate, measure

    cost = estimate(config, len(images), device)
    with tqdm(desc="measuring", unit="step", leave=False) as bar:
        measured = measure(images, config, seed, device, cost, mover(bar))
    for line in describe(config, cost, measured, device_text(device)):
        click.echo(line)
