"""Commands that look at prepared data sets: verify, info, preview, status."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from data_prep.catalogue import entry_of, status_lines
from data_prep.cli import PATH, announce
from data_prep.preview import check_sheet, foreground_shares, write_preview
from data_prep.store import PreparedDataset, open_dataset


@click.command("verify")
@click.argument("folder", type=PATH)
def verify_command(folder: Path) -> None:
    """Read a prepared data set again and compare every file with its recorded SHA-256.

    \b
    Example:
      python -m data_prep verify data/tm-dsprites
    """
    announce(open_dataset(folder, verify=True))
    click.echo("Every file is as it was written.")


@click.command("info")
@click.argument("folder", type=PATH)
def info_command(folder: Path) -> None:
    """Say what a prepared data set holds, how it was made, and what the paper used.

    \b
    Example:
      python -m data_prep info data/birds
    """
    dataset = open_dataset(folder)
    announce(dataset)
    for label, text in describe(dataset):
        click.echo(f"{label:<11} {text}")


def describe(dataset: PreparedDataset) -> list[tuple[str, str]]:
    """Labelled lines about a prepared data set; reads all its masks."""
    manifest = dataset.manifest
    shares = 100 * foreground_shares(dataset.masks)
    objects = np.array([np.count_nonzero(np.bincount(mask.ravel())[1:]) for mask in dataset.masks])
    height, width = dataset.image_size
    lines: list[tuple[str, str]] = []
    entry = entry_of(dataset)
    if entry is not None and entry.remark:
        lines.append(("remark", entry.remark))
    spread = f"{shares.min():.1f} to {shares.max():.1f} %"
    lines += [
        ("size", f"{height} x {width} pixels"),
        ("foreground", f"{shares.mean():.1f} % of an image on average ({spread})"),
        ("objects", f"{objects.min()} to {objects.max()} in an image"),
    ]
    for key in ("settings", "sources", "notes"):
        lines += [(key[:-1], f"{name} = {value}") for name, value in manifest[key].items()]
    lines += [("left out", f"{item['item']}: {item['reason']}") for item in manifest["skipped"][:20]]
    lines += [("licence", manifest["licence"]), ("command", manifest["command"])]
    return lines


@click.command("preview")
@click.argument("folder", type=PATH)
@click.option("--out", type=PATH, help="Picture file to write; FOLDER-preview.png beside it if not given.")
@click.option(
    "--count", type=click.IntRange(1), default=48, show_default=True, help="How many images to show."
)
def preview_command(folder: Path, out: Path | None, count: int) -> None:
    """Draw a contact sheet: images with outlined objects, their masks, and the foreground's share.

    \b
    Examples:
      python -m data_prep preview data/tm-dsprites
      python -m data_prep preview data/tm-dsprites --out sheet.png
    """
    if out is None:
        named = folder.resolve() if folder.name in ("", "..") else folder
        out = named.parent / f"{named.name}-preview.png"
    check_sheet(out)
    write_preview(open_dataset(folder), out, count=count)
    click.echo(f"Written: {out}")


@click.command("status")
@click.option(
    "--data", type=PATH, default=Path("data"), show_default=True, help="Folder of prepared data sets."
)
def status_command(data: Path) -> None:
    """List the paper's five data sets: which are prepared, and the command that prepares each missing one.

    \b
    Example:
      python -m data_prep status --data data
    """
    for line in status_lines(data):
        click.echo(line)
