"""CUB-200-2011 birds: images and boxes from its main archive, masks from its segmentations archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from data_prep.archives import Scratch, locate
from data_prep.build import Fault, Options, Sample, check_faults, write_samples
from data_prep.catalogue import CATALOGUE
from data_prep.errors import DataPrepError, SourceError
from data_prep.pictures import (
    check_same_size,
    list_pictures,
    read_picture,
    resize_image,
    resize_labels,
    square_around,
)
from data_prep.store import DatasetWriter, PreparedDataset, check_name, check_target, sha256_of
from data_prep.tables import read_table

LICENCE = (
    "Caltech-UCSD Birds-200-2011 (Wah et al., 2011): non-commercial research and educational use; "
    "the images remain their owners'."
)
SPLIT_FILE = "train_val_test_split.txt"
CUB_SPLIT_FILE = "train_test_split.txt"  # 1 train, 0 test
SPLIT_OF_CODE = {"0": "train", "1": "val", "2": "test"}
REDO_COUNTS = CATALOGUE["birds"].counts
TOTAL = sum(REDO_COUNTS.values())
MASK_RULES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "threshold": lambda grey: grey,  # foreground where more than half of the annotators saw it, grey > 127
    "dithered": lambda grey: grey.convert("1").convert("L"),  # to one bit, as the authors' code does
}


@dataclass(frozen=True)
class BirdsConfig:
    """How birds are cut out and split. Raises DataPrepError on an unknown mask rule."""

    mask_rule: str = "threshold"
    """One of MASK_RULES."""
    split_seed: int = 0
    """Of the split made here when no split file is given."""

    def __post_init__(self) -> None:
        if self.mask_rule not in MASK_RULES:
            raise DataPrepError(
                f"There is no mask rule {self.mask_rule!r}; choose from {', '.join(MASK_RULES)}."
            )

    @property
    def name(self) -> str:
        return "birds" if self.mask_rule == "threshold" else f"birds-{self.mask_rule}"


@dataclass(frozen=True)
class Bird:
    """One line of images.txt with what the other files say about it."""

    id: str
    name: str
    box: tuple[float, float, float, float]
    split: str
    image: Path
    mask: Path


def make_split(ids: list[str], seed: int) -> dict[str, str]:
    """A random split in the proportions of ReDO's (10,000 / 788 / 1,000), a function of the seed."""
    order = np.random.default_rng(seed).permutation(len(ids))
    test, val = (round(len(ids) * REDO_COUNTS[part] / TOTAL) for part in ("test", "val"))
    parts = ["test"] * test + ["val"] * val + ["train"] * (len(ids) - test - val)
    return {ids[row]: part for row, part in zip(order, parts, strict=True)}


def read_split(file: Path, ids: list[str]) -> dict[str, str]:
    """The split of each id from ReDO's file ("id code": 0 train, 1 val, 2 test); other ids are passed over.

    Raises SourceError if the file is CUB's own by its name, an id has no line, a code is unknown, or a file of all
    11,788 has other counts than 10,000 / 788 / 1,000.
    """
    if file.name == CUB_SPLIT_FILE:
        raise SourceError(
            f"{file} is CUB's own split, in which 1 means train and 0 test; give ReDO's {SPLIT_FILE} (0 train, 1 val, "
            "2 test)."
        )
    codes = {key: values[0] for key, values in read_table(file, 2).items()}
    unknown = sorted(set(codes.values()) - set(SPLIT_OF_CODE))
    if unknown:
        raise SourceError(
            f"{file} has the split code {unknown[0]!r}, and 0 (train), 1 (val) and 2 (test) are known; take ReDO's own."
        )
    missing = [key for key in ids if key not in codes]
    if missing:
        raise SourceError(
            f"{file} has no line for image {missing[0]} ({len(missing)} are missing); take ReDO's own file."
        )
    counts = {part: sum(codes[key] == code for key in codes) for code, part in SPLIT_OF_CODE.items()}
    if len(codes) == TOTAL and counts != REDO_COUNTS:
        raise SourceError(f"{file} has {counts} where ReDO's split has {REDO_COUNTS}; take ReDO's own file.")
    return {key: SPLIT_OF_CODE[codes[key]] for key in ids}


def read_birds(root: Path, masks: Path, split_file: Path | None, seed: int) -> tuple[list[Bird], list[Fault]]:
    """All birds that images.txt lists and both folders hold, in its order, and what does not fit together.

    root: folder with images.txt, bounding_boxes.txt and images/. Without a split file the split is made here.
    Raises SourceError on a damaged text file.
    """
    names = {key: values[0] for key, values in read_table(root / "images.txt", 2).items()}
    boxes = read_boxes(root / "bounding_boxes.txt")
    images, image_faults = list_pictures(root / "images")
    segmentations, mask_faults = list_pictures(masks)
    split = read_split(split_file, list(names)) if split_file else make_split(list(names), seed)
    mask_names = {name: PurePosixPath(name).with_suffix(".png").as_posix() for name in names.values()}
    birds, faults = [], [*image_faults, *mask_faults]
    for key, name in names.items():
        mask_name = mask_names[name]
        if name not in images:
            faults.append(
                Fault(name, f"{root / 'images.txt'} names {name}, which {root / 'images'} does not hold")
            )
        elif mask_name not in segmentations:
            faults.append(Fault(name, f"{masks} has no {mask_name}, the mask of an image"))
        elif key not in boxes:
            faults.append(Fault(name, f"{root / 'bounding_boxes.txt'} has no line for image {key} ({name})"))
        elif (box := boxes[key]) is None:
            faults.append(
                Fault(name, f"{root / 'bounding_boxes.txt'} has no four numbers for image {key} ({name})")
            )
        else:
            birds.append(Bird(key, name, box, split[key], images[name], segmentations[mask_name]))
    for name in sorted(images.keys() - mask_names.keys()):
        faults.append(Fault(name, f"{root / 'images' / name} is not listed in images.txt"))
    for name in sorted(segmentations.keys() - set(mask_names.values())):
        faults.append(Fault(name, f"{masks / name} is the mask of no image in images.txt"))
    return birds, faults


def read_boxes(file: Path) -> dict[str, tuple[float, float, float, float] | None]:
    """The box (x, y, width, height) of each id; None where a line has no four numbers. Raises SourceError."""
    boxes: dict[str, tuple[float, float, float, float] | None] = {}
    for key, (text,) in read_table(file, 2).items():
        try:
            x, y, w, h = map(float, text.split())
        except ValueError:
            boxes[key] = None
        else:
            boxes[key] = (x, y, w, h)
    return boxes


def read_mask(file: Path, rule: str) -> Image.Image:
    """A segmentation as a grey picture, foreground where it exceeds 127. Raises ItemError."""
    return MASK_RULES[rule](read_picture(file, "L"))


def make_bird(bird: Bird, config: BirdsConfig, size: int) -> Sample:
    """Cut one bird out and resize it. Raises ItemError naming the file at fault."""
    image, mask = read_picture(bird.image, "RGB"), read_mask(bird.mask, config.mask_rule)
    check_same_size(image.size, mask.size, bird.image, bird.mask)
    crop = square_around(bird.box, image.size, file=bird.image)
    x, y, w, h = bird.box
    return Sample(
        resize_image(image, crop, size),
        (resize_labels(mask, crop, size) > 127).astype(np.uint8),
        id=bird.id,
        split=bird.split,
        source=bird.name,
        extra={"class": bird.name.split("/")[0], "box_x": x, "box_y": y, "box_w": w, "box_h": h},
    )


def masks_below(folder: Path) -> Path:
    """The folder of the masks: the publisher's `segmentations`, or the one above it."""
    inner = folder / "segmentations"
    return inner if inner.is_dir() else folder


def prepare(
    root: Path,
    segmentations: Path,
    out: Path,
    config: BirdsConfig | None = None,
    options: Options | None = None,
    *,
    split_file: Path | None = None,
    name: str | None = None,
) -> PreparedDataset:
    """Prepare birds from the two folders or archives of CUB-200-2011.

    The split comes from `split_file` or, without one, from train_val_test_split.txt beside images.txt if that
    is there, and is made at random in the same proportions otherwise. Raises SourceError or StoreError.
    """
    config, options = config or BirdsConfig(), options or Options()
    check_target(out, force=options.force)
    name = config.name if name is None else check_name(name)
    with Scratch(out, progress=options.progress) as scratch:
        folder = locate(scratch.open(root), "images.txt").parent
        masks = masks_below(scratch.open(segmentations))
        return prepare_unpacked(
            folder, masks, out, config, options, split_file=split_file, name=name, told=scratch.named
        )


def prepare_unpacked(
    folder: Path,
    masks: Path,
    out: Path,
    config: BirdsConfig,
    options: Options,
    *,
    name: str,
    split_file: Path | None = None,
    told: Callable[[str], str] = str,
) -> PreparedDataset:
    """The same from the folder of images.txt and from that of the masks themselves; `told` as of DatasetWriter."""
    if split_file is None and (folder / SPLIT_FILE).is_file():
        split_file = folder / SPLIT_FILE
    birds, faults = read_birds(folder, masks, split_file, config.split_seed)
    check_faults(faults, keep_going=options.keep_going)
    sources = {"images.txt": sha256_of(folder / "images.txt")}
    if split_file:
        sources[split_file.name] = sha256_of(split_file)
    writer = DatasetWriter(
        out,
        name=name,
        size=(options.size, options.size),
        settings={**asdict(config), "size": options.size, "split": "file" if split_file else "made here"},
        sources=sources,
        licence=LICENCE,
        command=options.command,
        expected=len(birds),
        force=options.force,
        told=told,
    )
    with writer:
        write_samples(
            writer,
            birds,
            lambda bird: make_bird(bird, config, options.size),
            name=lambda bird: bird.name,
            options=options,
            faults=faults,
        )
    return writer.dataset
