"""The five data sets of the paper: how many images it used, and the one command that prepares each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from data_prep.store import MANIFEST, SPLITS, PreparedDataset, StoreError, open_dataset


@dataclass(frozen=True)
class Entry:
    """What the paper says of a data set, and what a user does to get it."""

    title: str
    counts: dict[str, int]
    """Images the paper used, by split; empty where it does not say."""
    command: str
    """Prepares the set in folder {out}."""
    download: str
    """What the publisher ships and the command expects; empty if nothing is needed."""
    remark: str = ""
    folder: str = ""
    """What the tables call the prepared set's folder, where that is not the key."""
    names: tuple[str, ...] = ()
    """What a prepared set of the paper's images may be called, by who made its masks and selection."""


CATALOGUE = {
    "tm-dsprites": Entry(
        "Textured Multi-dSprites (re-made)",
        {"train": 20_000},
        "python -m data_prep tm-dsprites --out {out}",
        "",
        "The authors' images were never released; these follow a documented re-making.",
        folder="tm-dsprites-128",
        names=("tm-dsprites",),
    ),
    "birds": Entry(
        "Birds (CUB-200-2011)",
        {"train": 10_000, "val": 788, "test": 1_000},
        "python -m data_prep birds --root CUB_200_2011.tgz --segmentations segmentations.tgz --out {out}",
        "CUB_200_2011.tgz and segmentations.tgz",
        names=("birds", "birds-dithered", "birds-authors"),
    ),
    "dogs": Entry(
        "Dogs (Stanford Dogs, re-made pseudo masks)",
        {"train": 3_286, "test": 1_738},
        "python -m data_prep dogs --root DIR --annotator detectron2 --out {out}",
        "images.tar, annotation.tar and lists.tar in DIR",
        "The authors' selection and masks are not public; these are re-made by recorded rules.",
        names=("dogs-remade", "dogs-authors"),
    ),
    "cars": Entry(
        "Cars (Stanford Cars, re-made pseudo masks)",
        {"train": 6_218, "test": 6_104},
        "python -m data_prep cars --root DIR --annotator detectron2 --out {out}",
        "cars_train.tgz, cars_test.tgz and car_devkit.tgz in DIR",
        "The authors' selection and masks are not public; these are re-made by recorded rules.",
        names=("cars-remade", "cars-authors"),
    ),
    "clevr6": Entry(
        "CLEVR6 (CLEVR with masks)",
        {},
        "python -m data_prep clevr6 --tfrecords clevr_with_masks_train.tfrecords --out {out}",
        "clevr_with_masks_train.tfrecords",
        "The paper takes scenes of at most 6 objects from the first 70,000; how many, it does not say.",
        names=("clevr6", "clevr6-authors-filter"),
    ),
}


def entry_of(dataset: PreparedDataset) -> Entry | None:
    """The entry a prepared data set belongs to by its name; None for a folder of anybody's own, or other images."""
    if "mask_kind" in dataset.manifest["settings"]:  # so `data_prep folder` made it
        return None
    return next((entry for entry in CATALOGUE.values() if dataset.name in entry.names), None)


def describe_counts(counts: dict[str, int]) -> str:
    """Counts as 10,000 train + 1,000 test = 11,000."""
    parts = " + ".join(f"{counts[split]:,} {split}" for split in SPLITS if split in counts)
    return parts if len(counts) < 2 else f"{parts} = {sum(counts.values()):,}"


def find_prepared(data: Path) -> tuple[list[PreparedDataset], list[str]]:
    """The prepared data sets in the sub-folders of `data`, and a sentence for each damaged one."""
    sound, damaged = [], []
    for manifest in sorted(data.glob(f"*/{MANIFEST}")):
        try:
            sound.append(open_dataset(manifest.parent))
        except StoreError as error:
            damaged.append(str(error))
    return sound, damaged


def status_lines(data: Path) -> list[str]:
    """For each data set of the paper, what is prepared or the command that prepares it."""
    sound, damaged = find_prepared(data)
    lines = []
    for key, entry in CATALOGUE.items():
        mine = [dataset for dataset in sound if entry_of(dataset) is entry]
        lines.append(f"{key:<12} {entry.title}")
        for dataset in mine:
            counts = describe_counts(dataset.manifest["counts"])
            lines.append(
                f"  prepared   {dataset.path}: {dataset.name}, {counts}, {dataset.image_size[0]} pixels"
            )
        if not mine:
            needs = f"   (needs {entry.download})" if entry.download else ""
            out = shlex.quote(str(data / (entry.folder or key)))
            lines.append(f"  missing    {entry.command.format(out=out)}{needs}")
    others = [dataset for dataset in sound if entry_of(dataset) is None]
    lines += [
        f"{dataset.name:<12} {dataset.path}: {describe_counts(dataset.manifest['counts'])}"
        for dataset in others
    ]
    return lines + [f"damaged      {sentence}" for sentence in damaged]
