"""The processed archives of DRC's own authors: the like-for-like data, for whoever has them.

Dogs and cars come as numbered PNGs, already cropped, with a list of the numbers that were kept; birds as
CUB-200-2011 with ReDO's split file. The pictures are read as RGB, where the authors' code took the channels
of dogs and cars in the order BGR; this does not matter to a method that sees no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep import birds
from data_prep.archives import Scratch
from data_prep.build import Options, Sample, write_samples
from data_prep.catalogue import CATALOGUE
from data_prep.errors import NO_ARRAY, SourceError, one_line
from data_prep.pictures import (
    check_same_size,
    read_picture,
    resize_image,
    resize_labels,
)
from data_prep.store import DatasetWriter, PreparedDataset, check_target, sha256_of
from data_prep.tables import read_lines

LICENCE = "Processed by the authors of Deep Region Competition from {source}: non-commercial research use."
PICTURES = "data_mrcnn/{split}/resized"


@dataclass(frozen=True)
class Layout:
    """Where the lists of kept numbers stand, and how long they are."""

    name: str
    source: str
    lists: dict[str, str]
    counts: dict[str, int]


LAYOUTS = (
    Layout(
        "dogs-authors",
        "Stanford Dogs",
        {"train": "data_tr_sel.npy", "test": "data_te_sel.npy"},
        CATALOGUE["dogs"].counts,
    ),
    Layout(
        "cars-authors",
        "Stanford Cars",
        {"train": "data_mrcnn_train_select.npy", "test": "data_mrcnn_test_select.npy"},
        CATALOGUE["cars"].counts,
    ),
)


@dataclass(frozen=True)
class Item:
    """One numbered pair of PNGs."""

    split: str
    number: int
    image: Path
    mask: Path

    @property
    def id(self) -> str:
        return f"{self.split}-{self.number:05d}"


def find_layout(root: Path) -> tuple[Layout | None, Path]:
    """The one set that a folder, or else one of its sub-folders, holds, and where; None means birds.

    Raises SourceError if there is none, or several.
    """
    for folders in ([root], sorted(path for path in root.iterdir() if path.is_dir())):
        found = [(layout, folder) for folder in folders for layout in _layouts(folder)]
        if len(found) > 1:
            names = (f"{layout.name if layout else 'birds-authors'} in {folder}" for layout, folder in found)
            raise SourceError(
                f"{root} holds several of the authors' sets ({', '.join(names)}); give the folder of one with --root."
            )
        if found:
            return found[0]
    known = ", ".join(file for layout in LAYOUTS for file in layout.lists.values())
    raise SourceError(f"{root} holds none of the authors' sets (no {known}, no segmentations); check --root.")


def _layouts(folder: Path) -> list[Layout | None]:
    """Those of the sets of which a folder itself holds the lists; None means birds."""
    found: list[Layout | None] = []
    if (folder / "bounding_boxes.txt").is_file() and (folder / "segmentations").is_dir():
        found.append(None)
    found += [
        layout for layout in LAYOUTS if any((folder / file).is_file() for file in layout.lists.values())
    ]
    return found


def read_kept(file: Path, count: int) -> np.ndarray:
    """The numbers of the pictures that were kept, (count,) int64. Raises SourceError on any other content."""
    try:
        kept = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise SourceError(f"{file} is missing; take it from the authors' archive.") from error
    except (OSError, *NO_ARRAY) as error:
        raise SourceError(
            f"{file} is not a plain NumPy list ({one_line(error)}); unpack the archive again."
        ) from error
    if not isinstance(kept, np.ndarray) or kept.ndim != 1 or kept.dtype.kind not in "iu":
        raise SourceError(f"{file} is not a list of whole numbers; take it from the authors' archive.")
    if len(kept) != count or len(np.unique(kept)) != count:
        raise SourceError(
            f"{file} keeps {len(np.unique(kept))} different pictures in {len(kept)} entries where "
            f"the authors' list has {count}; take it from their archive."
        )
    return kept.astype(np.int64)


def find_items(root: Path, layout: Layout) -> list[Item]:
    """All pairs the lists name. Raises SourceError saying how many of them are missing, and the first."""
    items, missing = [], []
    for split, list_file in layout.lists.items():
        folder = root / PICTURES.format(split=split)
        for number in read_kept(root / list_file, layout.counts[split]).tolist():
            item = Item(split, number, folder / f"{number}_resized.png", folder / f"{number}_maskresized.png")
            items.append(item)
            missing += [file for file in (item.image, item.mask) if not file.is_file()]
    if missing:
        raise SourceError(
            f"{missing[0]} is missing, and {len(missing) - 1} more files of {layout.name}; "
            "unpack the authors' archive again."
        )
    return items


def make_item(item: Item, size: int) -> Sample:
    """Read one pair and resize it if need be. Raises ItemError naming the file at fault."""
    image, mask = read_picture(item.image, "RGB"), read_picture(item.mask, "L")
    check_same_size(image.size, mask.size, item.image, item.mask)
    return Sample(
        resize_image(image, None, size),
        (resize_labels(mask, None, size) > 127).astype(np.uint8),
        id=item.id,
        split=item.split,
        source=item.image.name,
    )


def prepare_birds(folder: Path, out: Path, options: Options) -> PreparedDataset:
    """Prepare the authors' birds. Raises SourceError unless all of them and their split file are there."""
    if not (folder / birds.SPLIT_FILE).is_file():
        raise SourceError(f"{folder / birds.SPLIT_FILE} is missing; take it from the authors' archive.")
    if (count := len(read_lines(folder / "images.txt"))) != birds.TOTAL:
        raise SourceError(
            f"{folder / 'images.txt'} names {count} birds where the authors had {birds.TOTAL:,}; take it from "
            "their archive, or prepare a part of the birds with python -m data_prep birds."
        )
    masks, config = folder / "segmentations", birds.BirdsConfig("dithered")
    return birds.prepare_unpacked(folder, masks, out, config, options, name="birds-authors")


def prepare(root: Path, out: Path, options: Options) -> PreparedDataset:
    """Prepare the one set of the authors that `root` (a folder or archive) holds, under a name of its own.

    Raises SourceError unless it is complete: 3,286 + 1,738 dogs, 6,218 + 6,104 cars, or 11,788 birds with ReDO's
    split file. The grey masks of birds are dithered, as in the authors' code; those of dogs and cars, which it dithers
    too, are taken where they are above one half: the same thing if they hold black and white alone, which is not known.
    """
    if options.keep_going:
        raise SourceError("The authors' sets are taken whole or not at all: leave out --keep-going.")
    check_target(out, force=options.force)
    with Scratch(out, progress=options.progress) as scratch:
        layout, folder = find_layout(scratch.open(root))
        if layout is None:
            return prepare_birds(folder, out, options)
        items = find_items(folder, layout)
        writer = DatasetWriter(
            out,
            name=layout.name,
            size=(options.size, options.size),
            settings={"size": options.size},
            sources={file: sha256_of(folder / file) for file in layout.lists.values()},
            licence=LICENCE.format(source=layout.source),
            command=options.command,
            expected=len(items),
            force=options.force,
        )
        with writer:
            write_samples(
                writer,
                items,
                lambda item: make_item(item, options.size),
                name=lambda item: item.id,
                options=options,
            )
    return writer.dataset
