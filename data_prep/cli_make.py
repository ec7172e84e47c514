"""Commands that make prepared data sets, one a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from data_prep import authors, birds, clevr6, folder, tm_dsprites
from data_prep.cli import (
    PATH,
    UserError,
    announce,
    build_options,
    command_line,
    force_option,
    make_options,
    workers_option,
)
from data_prep.masks import MASK_KINDS
from data_prep.preview import check_sheet, foreground_shares, write_preview, write_sheet


@click.command("tm-dsprites")
@click.option("--out", type=PATH, help="Folder to make; new unless --force.")
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
@click.option("--preview", type=PATH, help="Also write a contact sheet to this picture file.")
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
    if preview is not None:
        check_sheet(preview)
    chosen = tuple(shape.strip() for shape in shapes.split(",") if shape.strip())
    config = tm_dsprites.TMDspritesConfig(variant, chosen, count, heldout, size, seed)
    if out is not None:
        dataset = tm_dsprites.generate(out, config, workers=workers, force=force, command=command_line())
        announce(dataset)
        if preview is not None:
            write_preview(dataset, preview)
    elif preview is not None:
        images, masks = tm_dsprites.sample(config, min(48, count))
        title = f"{config.name}: the first {len(images)} images"
        write_sheet(preview, images, masks, foreground_shares(masks), title)


@click.command("birds")
@click.option("--root", type=PATH, required=True, help="CUB_200_2011: the folder or CUB_200_2011.tgz.")
@click.option("--segmentations", type=PATH, required=True, help="The folder or segmentations.tgz.")
@click.option("--split-file", type=PATH, help="ReDO's train_val_test_split.txt; without it a split is made.")
@click.option(
    "--split-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the split made without a file.",
)
@click.option(
    "--mask-rule",
    default="threshold",
    show_default=True,
    help="threshold, or dithered as in the authors' code.",
)
@click.option("--name", help="Name of the data set, for a subset or for masks that are not CUB's.")
@build_options
def birds_command(
    root: Path,
    segmentations: Path,
    split_file: Path | None,
    split_seed: int,
    mask_rule: str,
    name: str | None,
    out: Path,
    **common: Any,
) -> None:
    """Prepare CUB-200-2011: a square around each bird, its mask, and ReDO's split.

    \b
    Example:
      python -m data_prep birds --root CUB_200_2011.tgz --segmentations segmentations.tgz --out data/birds
    """
    config = birds.BirdsConfig(mask_rule, split_seed=split_seed)
    options = make_options(**common)
    announce(birds.prepare(root, segmentations, out, config, options, split_file=split_file, name=name))


@click.command("clevr6")
@click.option("--tfrecords", type=PATH, required=True, multiple=True, help="The file; repeat for several.")
@click.argument("more", type=PATH, nargs=-1)
@click.option(
    "--rule", default="paper", show_default=True, help="Which scenes: paper (at most 6 objects) or authors."
)
@click.option("--scenes", default=70_000, show_default=True, help="Scenes searched for training images.")
@click.option("--heldout", default=1_000, show_default=True, help="Test images from the scenes after those.")
@click.option("--name", help="Name of the data set, for scenes that are not the original's.")
@build_options
def clevr6_command(
    tfrecords: tuple[Path, ...],
    more: tuple[Path, ...],
    rule: str,
    scenes: int,
    heldout: int,
    name: str | None,
    out: Path,
    **common: Any,
) -> None:
    """Prepare CLEVR6 from clevr_with_masks_train.tfrecords, with a mask for each object; needs no TensorFlow.

    Several files are read as one series, in the order given: --tfrecords FIRST MORE...

    \b
    Example:
      python -m data_prep clevr6 --tfrecords clevr_with_masks_train.tfrecords --out data/clevr6
    """
    config = clevr6.Clevr6Config(rule, scenes, heldout)
    announce(clevr6.prepare([*tfrecords, *more], out, config, make_options(**common), name=name))


@click.command("folder")
@click.option("--images", type=PATH, required=True, help="Folder or archive of images.")
@click.option("--masks", type=PATH, required=True, help="Folder or archive of masks with the same names.")
@click.option("--name", help="Name of the data set; that of --out if not given.")
@click.option(
    "--mask-kind",
    default="grey",
    show_default=True,
    help="; ".join(f"{kind}: {rule}" for kind, rule in MASK_KINDS.items()) + ".",
)
@click.option(
    "--threshold", default=127, show_default=True, help="Above it a grey or alpha mask is foreground."
)
@click.option("--invert", is_flag=True, help="Swap foreground and background of a grey or alpha mask.")
@click.option(
    "--foreground",
    default="",
    help="Label values that are objects, from 1, comma-separated; all but 0 if empty.",
)
@click.option(
    "--crop",
    default="none",
    show_default=True,
    help="; ".join(f"{crop}: {what}" for crop, what in folder.CROPS.items()) + ".",
)
@click.option("--boxes", type=PATH, help="CSV of boxes for --crop box: stem,x,y,width,height.")
@click.option("--only", type=PATH, help="Text file of the images to take, one a line; all without it.")
@click.option("--train-list", type=PATH, help="Text file of the training images, one a line.")
@click.option("--val-list", type=PATH, help="The same for validation.")
@click.option("--test-list", type=PATH, help="The same for testing.")
@click.option(
    "--ratios", default="100,0,0", show_default=True, help="Train, val and test shares; not with lists."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random split.")
@build_options
def folder_command(
    images: Path,
    masks: Path,
    name: str | None,
    mask_kind: str,
    threshold: int,
    invert: bool,
    foreground: str,
    crop: str,
    boxes: Path | None,
    only: Path | None,
    train_list: Path | None,
    val_list: Path | None,
    test_list: Path | None,
    ratios: str,
    seed: int,
    out: Path,
    **common: Any,
) -> None:
    """Prepare your own images: two folders whose files pair up by name.

    \b
    Examples:
      python -m data_prep folder --images photos --masks masks --out data/mine --ratios 80,10,10
      python -m data_prep folder --images images --masks trimaps --mask-kind labels --foreground 1 \\
          --crop centre --out data/pets
    """
    values = tuple(_numbers("--foreground", foreground, int))
    shares = tuple(_numbers("--ratios", ratios, float))
    name = out.resolve().name if name is None else name
    config = folder.FolderConfig(name, mask_kind, threshold, invert, values, crop, ratios=shares, seed=seed)
    given = {"train": train_list, "val": val_list, "test": test_list}
    lists = {split: file for split, file in given.items() if file is not None}
    options = make_options(**common)
    announce(folder.prepare(images, masks, out, config, options, lists=lists, boxes_file=boxes, only=only))


Number = TypeVar("Number", int, float)


def _numbers(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"{option} {text} is not a list of {what}; give it like 1,2,3.") from error


@click.command("authors")
@click.option(
    "--root", type=PATH, required=True, help="One of the authors' processed sets: a folder or archive."
)
@build_options
def authors_command(root: Path, out: Path, **common: Any) -> None:
    """Prepare a set that DRC's own authors processed: dogs, cars or birds, recognised by its files.

    Dogs must be 3,286 + 1,738, cars 6,218 + 6,104 and birds 11,788 with their split file, or the command says what is
    missing. The tables look for dogs in data/dogs, whoever made them, and say below which ones were scored.

    \b
    Example:
      python -m data_prep authors --root dogs.zip --out data/dogs
    """
    announce(authors.prepare(root, out, make_options(**common)))
