"""Data sets without masks of their own: annotate, select, cut out, write, and report what was dropped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_prep.annotations import AnnotationFile, Instance
from data_prep.annotators import Annotator, annotate
from data_prep.build import Fault, Options, Sample, check_faults, write_samples
from data_prep.errors import ItemError, SourceError
from data_prep.parallel import ordered_map
from data_prep.pictures import (
    Crop,
    read_picture,
    resize_image,
    resize_labels,
    square_around,
)
from data_prep.selection import REASONS, SelectionRules, select
from data_prep.store import DatasetWriter, PreparedDataset, StoreError, check_target, sha256_of

KEPT_LIST = "kept.txt"
"""Member of the prepared data set: the sources of the images that were kept, one a line."""


@dataclass(frozen=True)
class Item:
    """One raw image with its annotated box (x, y, width, height in pixels)."""

    name: str
    """Path inside the publisher's archive; also the id."""
    image: Path
    split: str
    label: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Kept:
    """An item that passed the rules."""

    item: Item
    crop: Crop
    chosen: int
    """Which of the annotated instances is the object."""


@dataclass(frozen=True)
class Source:
    """What is special to one data set."""

    name: str
    """Of the prepared data set; says that masks and selection are re-made."""
    items: Sequence[Item]
    faults: Sequence[Fault]
    paper: dict[str, int]
    """How many images the authors kept, by split."""
    licence: str
    sources: dict[str, str]
    """SHA-256 of the lists."""


def prepare(
    source: Source,
    annotator: Annotator,
    rules: SelectionRules,
    out: Path,
    options: Options,
    *,
    annotations: Path,
    batch: int = 8,
    told: Callable[[str], str] = str,
) -> PreparedDataset:
    """Annotate what is not yet in the file `annotations`, keep what passes the rules, and write the data set.

    The file of annotations stays, so an interrupted run goes on, and other rules need no second run of the
    annotator; only a picture that is another one now is annotated anew. `told` as of DatasetWriter. Raises SourceError,
    StoreError or AnnotatorError.
    """
    check_target(out, force=options.force)
    check_faults(source.faults, keep_going=options.keep_going)
    faults = list(source.faults)
    with AnnotationFile(annotations, annotator.settings()) as file:
        faults += _annotate(source.items, annotator, file, options, batch)
        kept, removed = _select(source.items, file, rules, faults, options)
        writer = DatasetWriter(
            out,
            name=source.name,
            size=(options.size, options.size),
            settings={"rules": asdict(rules), "size": options.size},
            sources=source.sources,
            licence=source.licence,
            command=options.command,
            expected=len(kept),
            force=options.force,
            told=told,
        )
        with writer:
            write_samples(
                writer,
                _with_masks(kept, file),
                lambda pair: _make(pair[0], pair[1], options.size),
                name=lambda pair: pair[0].item.name,
                options=options,
                faults=faults,
            )
            left_out = {skipped["item"] for skipped in writer.skipped}  # what could not be cut out among them
            kept = [one for one in kept if one.item.name not in left_out]
            text = "".join(f"{one.item.name}\n" for one in kept)
            writer.attach(KEPT_LIST, text)
            writer.notes.update(annotator=annotator.settings(), **_report(kept, removed, source.paper, text))
    return writer.dataset


def _annotate(
    items: Sequence[Item], annotator: Annotator, file: AnnotationFile, options: Options, batch: int
) -> list[Fault]:
    """Annotate the items the file lacks, or has of another picture; returns those whose image cannot be read."""
    faults: list[Fault] = []
    done = _unchanged(items, file, options)

    def attempt(item: Item) -> tuple[Item, str, np.ndarray | None, str]:
        try:
            image = np.asarray(read_picture(item.image, "RGB"))
            return item, sha256_of(item.image), image, ""
        except (ItemError, StoreError) as error:
            return item, "", None, str(error).removesuffix(".")

    def readable() -> Iterator[tuple[str, str, np.ndarray]]:
        missing = (item for item in items if item.name not in done)
        with closing(ordered_map(attempt, missing, workers=options.workers)) as pictures:
            for item, picture, image, reason in pictures:
                if image is None:
                    check_faults([Fault(item.name, reason)], keep_going=options.keep_going)
                    faults.append(Fault(item.name, reason))
                else:
                    yield item.name, picture, image

    annotate(
        annotator,
        readable(),
        file,
        batch=batch,
        done=len(done),
        total=len(items),
        progress=options.progress,
    )
    return faults


def _unchanged(items: Sequence[Item], file: AnnotationFile, options: Options) -> set[str]:
    """Names of the items whose annotation is of the picture that is there."""

    def same(item: Item) -> bool:
        try:
            return sha256_of(item.image) == file.picture(item.name)
        except StoreError:  # told where it is read to be annotated
            return False

    known = [item for item in items if item.name in file]
    with closing(ordered_map(same, known, workers=options.workers, group=16)) as found:
        bar = tqdm(
            found, total=len(known), desc="compare", unit="image", disable=not (known and options.progress)
        )
        return {item.name for item, alike in zip(known, bar, strict=True) if alike}


def _select(
    items: Sequence[Item],
    file: AnnotationFile,
    rules: SelectionRules,
    faults: list[Fault],
    options: Options,
) -> tuple[list[Kept], Counter[tuple[str, str]]]:
    """What passes the rules, and how many of each split each rule dropped; bad boxes join the faults.

    SourceError where nothing passes.
    """
    kept: list[Kept] = []
    removed: Counter[tuple[str, str]] = Counter()
    faulty = {fault.item for fault in faults}
    known = [item for item in items if item.name in file and item.name not in faulty]
    for item in tqdm(known, desc="select", unit="image", disable=not options.progress):
        (height, width), instances = file.read(item.name)
        try:
            crop = square_around(item.box, (width, height), file=item.image)
        except ItemError as error:
            fault = Fault(item.name, str(error))
            check_faults([fault], keep_going=options.keep_going)
            faults.append(fault)
            continue
        chosen, reason = select(instances, item.box, crop, rules)
        if chosen is None:
            removed[reason, item.split] += 1
        else:
            kept.append(Kept(item, crop, chosen))
    if removed and not kept:
        dropped: Counter[str] = Counter()
        for (reason, _), count in removed.items():
            dropped[reason] += count
        ((most, count),) = dropped.most_common(1)
        raise SourceError(
            f"no image passes the rules: {count} of {removed.total()} are dropped by {most!r}; set others with --rule, "
            f"and {file.path} serves them as it is."
        )
    return kept, removed


def _with_masks(kept: Sequence[Kept], file: AnnotationFile) -> Iterator[tuple[Kept, Instance]]:
    """Each kept item with the instance that was chosen, read one at a time."""
    for one in kept:
        yield one, file.read(one.item.name)[1][one.chosen]


def _make(one: Kept, instance: Instance, size: int) -> Sample:
    """Cut one object out and resize it. Raises ItemError naming the file at fault."""
    image = read_picture(one.item.image, "RGB")
    x, y, w, h = one.item.box
    return Sample(
        resize_image(image, one.crop, size),
        resize_labels(Image.fromarray(instance.mask.astype(np.uint8)), one.crop, size),
        id=one.item.name,
        split=one.item.split,
        source=one.item.name,
        extra={
            "class": one.item.label,
            "box_x": x,
            "box_y": y,
            "box_w": w,
            "box_h": h,
            "score": instance.score,
        },
    )


def _report(
    kept: Sequence[Kept], removed: Counter[tuple[str, str]], paper: dict[str, int], kept_list: str
) -> dict[str, Any]:
    """How many images each rule dropped and how far the rest is from the paper's, by split."""
    counts = Counter(one.item.split for one in kept)
    return {
        "removed": {
            reason: {split: removed[reason, split] for split in paper}
            for reason in REASONS
            if any(removed[reason, split] for split in paper)
        },
        "kept": {split: counts[split] for split in paper},
        "paper": paper,
        "kept_minus_paper": {split: counts[split] - paper[split] for split in paper},
        "kept_list_sha256": hashlib.sha256(kept_list.encode()).hexdigest(),
    }
