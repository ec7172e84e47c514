"""Commands that make prepared data sets: python -m data_prep --help."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from data_prep import tm_dsprites
from data_prep.cli import Group, UserError, announce, command_line
from data_prep.preview import foreground_shares, write_preview, write_sheet
from data_prep.store import open_dataset

FOLDER = click.Path(path_type=Path)
out_option = click.option("--out", type=FOLDER, required=True, help="Folder to make; it must not exist yet.")
force_option = click.option("--force", is_flag=True, help="Replace a prepared data set that stands at --out.")
workers_option = click.option(
    "--workers", type=click.IntRange(1), default=None, help="Threads; all usable cores if not given."
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Turn raw archives into prepared data sets: a folder of images, object masks, an index and a manifest.

    Example: python -m data_prep tm-dsprites --out data/tm-dsprites
    """


@main.command("tm-dsprites")
@click.option("--out", type=FOLDER, help="Folder to make; it must not exist yet.")
@click.option("--count", default=20_000, show_default=True, help="Training images.")
@click.option("--heldout", default=1_000, show_default=True, help="Images of split test, never trained on.")
@click.option("--size", default=128, show_default=True, help="Height and width in pixels, 16 to 256.")
@click.option("--seed", default=0, show_default=True, help="The data set is a function of the seed.")
@click.option(
    "--shapes", default="square,ellipse,heart", show_default=True, help="Categories, comma-separated."
)
@click.option(
    "--variant", default="tm-dsprites", show_default=True, help=", ".join(tm_dsprites.VARIANTS) + "."
)
@click.option("--preview", type=FOLDER, help="Also write a contact sheet to this picture file.")
@workers_option
@force_option
def tm_dsprites_command(
    out: Path | None,
    count: int,
    heldout: int,
    size: int,
    seed: int,
    shapes: str,
    variant: str,
    preview: Path | None,
    workers: int | None,
    force: bool,
) -> None:
    """Generate TM-dSprites: sprites over the gratings of Textured MNIST, with a mask for each sprite.

    \b
    Examples:
      python -m data_prep tm-dsprites --out data/tm-dsprites
      python -m data_prep tm-dsprites --out data/hearts --shapes heart --size 64 --count 5000
      python -m data_prep tm-dsprites --preview sheet.png
    """
    if out is None and preview is None:
        raise UserError("Say where to write: --out DIR for the data set, --preview FILE for a contact sheet.")
    chosen = tuple(shape.strip() for shape in shapes.split(",") if shape.strip())
    config = tm_dsprites.TMDspritesConfig(variant, chosen, count, heldout, size, seed)
    if out is not None:
        dataset = tm_dsprites.generate(out, config, workers=workers, force=force, command=command_line())
        announce(dataset)
        if preview is not None:
            write_preview(dataset, preview)
    elif preview is not None:
        images, masks = tm_dsprites.sample(config, min(48, count))
        write_sheet(
            preview, images, masks, foreground_shares(masks), f"{config.name}: the first {len(images)} images"
        )


@main.command("verify")
@click.argument("folder", type=FOLDER)
def verify_command(folder: Path) -> None:
    """Read a prepared data set again and compare every file with its recorded SHA-256.

    Example: python -m data_prep verify data/tm-dsprites
    """
    dataset = open_dataset(folder, verify=True)
    announce(dataset)
    click.echo("Every file is as it was written.")


@main.command("info")
@click.argument("folder", type=FOLDER)
def info_command(folder: Path) -> None:
    """Say what a prepared data set holds and how it was made.

    Example: python -m data_prep info data/tm-dsprites
    """
    dataset = open_dataset(folder)
    announce(dataset)
    shares = foreground_shares(dataset.masks)
    objects = np.array([mask.max() for mask in dataset.masks])
    height, width = dataset.image_size
    click.echo(f"size        {height} x {width} pixels")
    click.echo(f"foreground  {100 * shares.mean():.1f} % of an image on average ({100 * shares.min():.1f} to "
               f"{100 * shares.max():.1f} %), {objects.min()} to {objects.max()} objects")  # fmt: skip
    for key in ("settings", "sources", "notes"):
        for name, value in dataset.manifest[key].items():
            click.echo(f"{key[:-1]:<11} {name} = {value}")
    click.echo(f"skipped     {len(dataset.manifest['skipped'])} items")
    click.echo(f"licence     {dataset.manifest['licence']}")
    click.echo(f"command     {dataset.manifest['command']}")


@main.command("preview")
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Picture file to write, for example sheet.png.")
@click.option(
    "--count", type=click.IntRange(1), default=48, show_default=True, help="How many images to show."
)
def preview_command(folder: Path, out: Path, count: int) -> None:
    """Draw a contact sheet: images with outlined objects, their masks, and the foreground's share.

    Example: python -m data_prep preview data/tm-dsprites --out sheet.png
    """
    write_preview(open_dataset(folder), out, count=count)


if __name__ == "__main__":
    main(prog_name="python -m data_prep")
