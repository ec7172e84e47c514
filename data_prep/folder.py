"""Anybody's own images and masks: two folders whose files pair up by name."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import numpy as np
from PIL import Image

from data_prep.archives import Scratch
from data_prep.build import Fault, Options, Sample, check_faults, write_samples
from data_prep.errors import DataPrepError, ItemError, SourceError, one_line
from data_prep.masks import MASK_KINDS, read_labels, what_they_hold
from data_prep.pictures import (
    ENDINGS,
    Crop,
    box_around,
    centre_square,
    check_same_size,
    check_upright,
    list_pictures,
    read_picture,
    resize_image,
    resize_labels,
    square_around,
)
from data_prep.store import SPLITS, DatasetWriter, PreparedDataset, check_name, check_target
from data_prep.tables import numbered_lines, read_lines

log = logging.getLogger(__name__)
CROPS = {
    "none": "the whole image, squeezed to a square",
    "centre": "the largest square in the middle",
    "box": "a square around the box given for the image, or around the mask's own box",
}


@dataclass(frozen=True)
class FolderConfig:
    """How masks are read, images cut out and splits made. Raises DataPrepError on values out of range."""

    name: str = "folder"
    """The data set's own name."""
    mask_kind: str = "grey"
    """One of MASK_KINDS."""
    threshold: int = 127
    """For grey and alpha masks, 0 to 254."""
    invert: bool = False
    """Swap foreground and background of a grey or alpha mask."""
    foreground: tuple[int, ...] = ()
    """For label masks: the values that are objects, all others being background; all but 0 if empty."""
    crop: str = "none"
    """One of CROPS."""
    ratios: tuple[float, ...] = (100, 0, 0)
    """Shares of train, val and test where no lists are given; they need not sum to 100."""
    seed: int = 0
    """Of the random split."""

    def __post_init__(self) -> None:
        if self.mask_kind not in MASK_KINDS:
            raise DataPrepError(
                f"There is no mask kind {self.mask_kind!r}; choose from {', '.join(MASK_KINDS)}."
            )
        if self.crop not in CROPS:
            raise DataPrepError(f"There is no crop {self.crop!r}; choose from {', '.join(CROPS)}.")
        if not 0 <= self.threshold <= 254:
            raise DataPrepError(f"Threshold {self.threshold} is out of range; choose 0 to 254.")
        if (self.invert or self.threshold != FolderConfig.threshold) and self.mask_kind not in (
            "grey",
            "alpha",
        ):
            raise DataPrepError(
                "Only grey and alpha masks have a threshold and can be inverted; name label values with --foreground."
            )
        if self.foreground and self.mask_kind != "labels":
            raise DataPrepError("Foreground values need label masks; add --mask-kind labels.")
        if strange := [value for value in self.foreground if not 0 < value < 2**31]:
            raise DataPrepError(
                f"Foreground value {strange[0]} is in no mask as an object's: these go from 1 to {2**31 - 1}, and 0 is "
                "background; name values that the masks hold."
            )
        if len(self.ratios) != 3 or not (min(self.ratios) >= 0 and 0 < sum(self.ratios) < math.inf):
            raise DataPrepError(f"Ratios {self.ratios} are not three shares; give them like 80,10,10.")
        check_name(self.name)


@dataclass(frozen=True)
class Pair:
    """An image with its mask."""

    stem: str
    """Path below the image folder without its ending."""
    image: Path
    mask: Path
    split: str
    box: tuple[float, float, float, float] | None
    """x, y, width and height in pixels, if a file gives them."""


def by_stem(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """The pictures below a folder by path without ending, and faulty names.

    Raises SourceError if there is none, or two share a path.
    """
    found: dict[str, Path] = {}
    pictures, faults = list_pictures(folder)
    if not pictures and not faults:
        names = (file.suffix.lower() or file.name for file in folder.rglob("[!.]*") if file.is_file())
        endings = sorted(set(names))[:5]
        held = f"only files that end in {', '.join(endings)}" if endings else "no file at all"
        raise SourceError(
            f"{folder} holds {held} where pictures are wanted; those read end in {', '.join(ENDINGS)}."
        )
    for name, file in pictures.items():
        stem = normalize("NFC", PurePosixPath(name).with_suffix("").as_posix())
        if stem in found:
            raise SourceError(f"{found[stem]} and {file} share a name; take one of them away.")
        found[stem] = file
    return found, faults


def read_names(file: Path, known: Container[str]) -> list[str]:
    """The stems that a text file names, one image a line, with its ending or without. Raises SourceError.

    A line that is not the name of a `known` image is read up to its first blank.
    """
    stems = []
    for line in read_lines(file):
        whole, first = (_stem(name) for name in (line, line.split()[0]))
        stems.append(whole if whole in known else first)
    return stems


def read_split_lists(lists: dict[str, Path], known: Container[str]) -> dict[str, str]:
    """Split of each stem from text files (split -> file), read as `read_names` does.

    Raises SourceError if an image stands in two lists.
    """
    split: dict[str, str] = {}
    for part, file in lists.items():
        for stem in read_names(file, known):
            if split.setdefault(stem, part) != part:
                raise SourceError(
                    f"{file} names {stem}, which is in split {split[stem]} already; keep one of them."
                )
    return split


def read_only(file: Path, folder: Path, known: Container[str]) -> list[str]:
    """The stems that a text file names, read as `read_names` does, sorted and each of them once.

    Raises SourceError if it names none, or any that is not among the `known` images of the `folder`.
    """
    stems = sorted(set(read_names(file, known)))
    if not stems:
        raise SourceError(f"{file} names no image; write one name a line, or leave --only out.")
    if missing := [stem for stem in stems if stem not in known]:
        first = ", ".join(repr(stem[:60]) for stem in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise SourceError(
            f"{folder} lacks {len(missing)} of the {len(stems)} images that {file} names, one a line ({first}); "
            "add them to the folder, or take their lines out of the file."
        )
    return stems


def _stem(name: str) -> str:
    """A path without its ending, if that is a picture's; letters with accents are one each, as in `by_stem`."""
    path = PurePosixPath(normalize("NFC", name))
    return path.as_posix().removesuffix(path.suffix if path.suffix.lower() in ENDINGS else "")


def random_split(stems: list[str], config: FolderConfig) -> dict[str, str]:
    """A random split by the settings' ratios and seed; a function of the sorted stems."""
    order = np.random.default_rng(config.seed).permutation(len(stems))
    ends = np.round(np.cumsum(config.ratios) / sum(config.ratios) * len(stems)).astype(int)
    return {
        stems[row]: SPLITS[int(np.searchsorted(ends, place, side="right"))] for place, row in enumerate(order)
    }


def read_boxes(file: Path) -> dict[str, tuple[float, float, float, float]]:
    """Boxes by stem from a CSV file with the columns stem,x,y,width,height (pixels). Raises SourceError."""
    lines = numbered_lines(file)
    try:
        rows = list(csv.reader(line for _, line in lines))
    except csv.Error as error:
        raise SourceError(
            f"{file} is not a CSV file ({one_line(error)}); correct it or leave --boxes out."
        ) from error
    if not rows or rows[0] != ["stem", "x", "y", "width", "height"]:
        raise SourceError(
            f"{file} must begin with the line stem,x,y,width,height; correct it or leave --boxes out."
        )
    boxes = {}
    for (number, _), row in zip(lines[1:], rows[1:], strict=False):  # a name in quotes may go over several
        try:
            stem, (x, y, w, h) = normalize("NFC", row[0]), map(float, row[1:])
        except ValueError as error:
            raise SourceError(f"{file} line {number} is not a name and four numbers; correct it.") from error
        if stem in boxes:
            raise SourceError(f"{file} line {number} is a second box of {stem}; keep one of them.")
        boxes[stem] = (x, y, w, h)
    return boxes


def find_crop(pair: Pair, labels: np.ndarray, config: FolderConfig) -> Crop | None:
    """Which part of an image is kept; None for the whole. Raises ItemError if there is no sound box."""
    size = labels.shape[1], labels.shape[0]
    if config.crop == "none":
        return None
    if config.crop == "centre":
        return centre_square(size)
    if pair.box is None and not labels.any():
        raise ItemError(f"{pair.mask} is empty, so there is no box to crop to")
    return square_around(pair.box or box_around(labels), size, file=pair.image)


def make_pair(pair: Pair, config: FolderConfig, size: int) -> Sample:
    """Read, crop and resize one pair. Raises ItemError naming the file at fault."""
    image, labels = read_picture(pair.image, "RGB"), read_labels(pair.mask, config)
    check_upright(pair.image)
    check_upright(pair.mask)
    check_same_size(image.size, labels.shape[::-1], pair.image, pair.mask)
    crop = find_crop(pair, labels, config)
    return Sample(
        resize_image(image, crop, size),
        resize_labels(Image.fromarray(labels), crop, size),
        id=pair.stem,
        split=pair.split,
        source=pair.image.name,
        extra={"mask_file": pair.mask.name, "objects": int(labels.max())},
    )


def find_pairs(
    images: Path,
    masks: Path,
    config: FolderConfig,
    lists: dict[str, Path] | None,
    boxes: dict[str, tuple[float, float, float, float]] | None,
    boxes_file: Path | None,
    only: Path | None,
) -> tuple[list[Pair], list[Fault]]:
    """The pairs of two folders in the order of their names, and what has no partner. Raises SourceError.

    With `lists`, only the images they name belong to the data set, in the lists' order. With `only`, those it names,
    in the order of their names; what else lies there is no fault, unless two pictures share a name.
    """
    image_files, image_faults = by_stem(images)
    mask_files, mask_faults = by_stem(masks)
    if image_files and mask_files and image_files.keys().isdisjoint(mask_files):
        image, mask = (next(iter(files.values())) for files in (image_files, mask_files))
        raise SourceError(
            f"No mask is called like an image: the first image is {image.relative_to(images)}, the first mask "
            f"{mask.relative_to(masks)}; rename "
            "them so that a mask's name and its image's, with the folders they lie in, differ by the ending alone."
        )
    pairs, sound, faults = [], [], [*image_faults, *mask_faults]
    split = read_split_lists(lists, image_files) if lists else None
    if split is not None:
        stems = list(split)
    elif only is not None:
        stems, faults = read_only(only, images, image_files), []
    else:
        stems = sorted(image_files.keys() | mask_files.keys())
    for stem in stems:
        if stem not in image_files:
            faults.append(Fault(stem, f"{images} has no image called {stem}"))
        elif stem not in mask_files:
            faults.append(Fault(stem, f"{masks} has no mask called {stem}"))
        elif boxes is not None and stem not in boxes:
            faults.append(Fault(stem, f"{boxes_file} has no line for {stem}"))
        else:
            sound.append(stem)
    split = split or random_split(sound, config)
    for stem in sound:
        pairs.append(
            Pair(stem, image_files[stem], mask_files[stem], split[stem], boxes[stem] if boxes else None)
        )
    return pairs, faults


def _opened(path: Path, scratch: Scratch) -> Path:
    """The folder `path`; of an archive, the first folder from its top that holds more than one folder alone."""
    folder = scratch.open(path)
    while folder != path:
        inside = [one for one in folder.iterdir() if one.name != "__MACOSX" and not one.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir():
            break
        folder = inside[0]
    return folder


def check_files(
    config: FolderConfig, lists: dict[str, Path] | None, boxes_file: Path | None, only: Path | None
) -> None:
    """Raise SourceError for a file that the settings, or another file, make useless."""
    if boxes_file and config.crop != "box":
        raise SourceError(
            f"{boxes_file} is of no use without a crop to boxes; add --crop box or leave it out."
        )
    if only and lists:
        raise SourceError(
            f"{only} is of no use beside lists of the splits, which say what is taken; leave --only or them out."
        )
    if lists and (config.ratios, config.seed) != (FolderConfig.ratios, FolderConfig.seed):
        raise SourceError(
            "--ratios and --seed make a random split and are of no use beside lists of the splits; leave them or the "
            "lists out."
        )


def prepare(
    images: Path,
    masks: Path,
    out: Path,
    config: FolderConfig | None = None,
    options: Options | None = None,
    *,
    lists: dict[str, Path] | None = None,
    boxes_file: Path | None = None,
    only: Path | None = None,
) -> PreparedDataset:
    """Prepare a data set from two folders (or archives). Raises SourceError or StoreError.

    lists: split -> text file with the names of its images. boxes_file: see `read_boxes`. only: text file with the names
    of the images to take; the data set is that of a folder with these alone, split at random.
    """
    config, options = config or FolderConfig(), options or Options()
    check_target(out, force=options.force)
    check_files(config, lists, boxes_file, only)
    boxes = read_boxes(boxes_file) if boxes_file else None
    with Scratch(out, progress=options.progress) as scratch:
        folders = _opened(images, scratch), _opened(masks, scratch)
        pairs, faults = find_pairs(*folders, config, lists, boxes, boxes_file, only)
        check_faults(faults, keep_going=options.keep_going)
        writer = DatasetWriter(
            out,
            name=config.name,
            size=(options.size, options.size),
            settings={**asdict(config), "size": options.size, "split": "lists" if lists else "random"},
            sources={"images": str(images), "masks": str(masks)} | ({"only": str(only)} if only else {}),
            licence="As the owner of the images and masks states.",
            command=options.command,
            expected=len(pairs),
            force=options.force,
            told=scratch.named,
        )
        with writer:
            write_samples(
                writer,
                pairs,
                lambda pair: make_pair(pair, config, options.size),
                name=lambda pair: pair.stem,
                options=options,
                faults=faults,
                remedy=lambda: (
                    f"the values in {masks} are, the most common first, "
                    + what_they_hold((pair.mask for pair in pairs[:50]), config)
                ),
            )
    asked = lists or [split for split, share in zip(SPLITS, config.ratios, strict=True) if share > 0]
    for split in asked:
        if split not in writer.dataset.manifest["counts"]:
            how = f"--{split}-list" if lists else "--ratios"
            log.warning("%s: split %s is empty, though %s asks for it; give it more images", out, split, how)
    return writer.dataset
