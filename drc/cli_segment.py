"""python -m drc segment."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drc.cli import FOLDER, SEED, device_option, mover, replaced, resolve_device
from drc.config import WORDS

if TYPE_CHECKING:
    from drc.method import DRC
    from drc.pictures import Source

log = logging.getLogger(__name__)
SOME_REFUSED = 1


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=FOLDER)
@click.option("--checkpoint", type=FOLDER, required=True, help="Folder of a run, or one checkpoint.")
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder of the results, new or to go on with; its sheets and refused.csv are of the last call.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=None, help="Langevin steps; the run's setting if not given."
)
@click.option(
    "--chains",
    type=click.IntRange(1),
    default=None,
    help="Chains a picture, averaged; the run's if not given.",
)
@click.option(
    "--masks",
    type=click.Choice(WORDS["inference_masks"]),
    default=None,
    help="By mixing weights π, as in the paper, or by the responsibilities of all chains; the run's if not given.",
)
@click.option("--seed", type=SEED, default=None, help="Of the sampler's noise; the run's if not given.")
@click.option("--batch-size", type=click.IntRange(1), default=None, help="Pictures at a time.")
@device_option
def segment(
    pictures: tuple[Path, ...],
    checkpoint: Path,
    out: Path,
    steps: int | None,
    chains: int | None,
    masks: str | None,
    seed: int | None,
    batch_size: int | None,
    device: str,
) -> None:
    """Cut the foreground out of PICTURES: files of any size and format that Pillow reads, and folders of them.

    Of a folder, and the folders in it, files are taken by their ending.

    \b
    Examples:
      python -m drc segment photos --checkpoint runs/birds --out cut
      python -m drc segment a.jpg b.png --checkpoint runs/birds --out cut --steps 500 --chains 8
      python -m drc segment photos --checkpoint runs/birds --out cut2 --masks responsibilities

    --out gets masks (PNG, at each picture's own size), overlays, panels and contact sheets (the rows of the paper's
    Figure 3), areas.csv and refused.csv. The model sees each picture squeezed to its own square. A mask depends on
    the model, its settings, the seed and the picture alone. Stopped with Ctrl-C, the same command goes on.

    Exit code: 0 all segmented, 1 some files were no pictures and are named, 2 nothing could be done.
    """
    from drc.extraction import earlier_names
    from drc.method import DRC
    from drc.pictures import find_sources, real_path
    from drc.words import plural

    method = DRC.load(checkpoint, device=resolve_device(device))
    if method.config.amortised and (steps or chains):
        raise click.UsageError(
            f"{checkpoint} infers with its encoders: it takes neither --steps nor --chains"
        )
    method.seed = method.seed if seed is None else seed
    method.config = replaced(
        method.config,
        inference_steps=steps or method.config.inference_steps,
        inference_chains=chains or method.config.inference_chains,
        inference_masks=masks or method.config.inference_masks,
        inference_batch_size=batch_size or method.config.inference_batch_size,
    )
    earlier = earlier_names(out)
    if not earlier and real_path(out) in map(real_path, pictures):
        log.warning("%s is the folder of the pictures: the results will lie among them", out)
    sources = find_sources(pictures, out, earlier)
    if not sources:
        raise click.UsageError(f"there are no pictures in {', '.join(map(str, pictures))}")
    refused = segment_with_bars(method, sources, out)
    done = len(sources) - refused
    click.echo(
        f"{out}: {plural(done, 'picture')} segmented"
        + (f", {refused} refused (refused.csv)" if refused else "")
    )
    if refused:
        sys.exit(SOME_REFUSED if done else 2)


def segment_with_bars(method: DRC, sources: Sequence[Source], out: Path) -> int:
    """`segment_into` behind a bar of pictures and one of the sampler's steps; what is refused is named as it comes."""
    from tqdm import tqdm

    from drc.extraction import segment_into

    with (
        tqdm(total=len(sources), unit="picture", desc="segmenting") as bar,
        tqdm(unit="step", desc="this batch", leave=False, mininterval=0.5) as inner,
    ):

        def seen(source: Source, why: str | None) -> None:
            if why is not None:
                tqdm.write(f"refused: {why}", file=sys.stderr)
            bar.update()

        return segment_into(method, sources, out, seen=seen, progress=mover(inner))
