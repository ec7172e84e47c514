"""CLEVR6: scenes of at most six objects from DeepMind's clevr_with_masks_train.tfrecords."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_prep.build import Options, Sample, write_samples
from data_prep.errors import DataPrepError, ItemError, SourceError
from data_prep.pictures import resize_image
from data_prep.store import DatasetWriter, PreparedDataset, check_name, check_target
from data_prep.tfrecord import byte_values, float_values, parse_example, read_records

log = logging.getLogger(__name__)

LICENCE = "CLEVR (Johnson et al., 2017): CC BY 4.0; multi_object_datasets (Kabra et al., 2019): Apache-2.0."
HEIGHT, WIDTH, ENTITIES = 240, 320, 11
VALUES = {"image": HEIGHT * WIDTH * 3, "mask": ENTITIES * HEIGHT * WIDTH}
"""Features of a record that are decoded, and how many one-byte values each has."""
ROWS, COLUMNS = slice(29, 221), slice(64, 256)
"""The square of 192 x 192 pixels that everybody since IODINE cuts out."""
RULES: dict[str, Callable[[int], bool]] = {
    "paper": lambda objects: objects <= 6,
    # Of theirs the visibilities sum to 3 to 6, the background's among them.
    "authors": lambda objects: 2 <= objects <= 5,
}


@dataclass(frozen=True)
class Clevr6Config:
    """Which scenes are taken. Raises DataPrepError on an unknown rule or a count below its minimum."""

    rule: str = "paper"
    """One of RULES."""
    scenes: int = 70_000
    """How many scenes of the file, from the first, are searched for training images."""
    heldout: int = 1_000
    """How many images of split `test` are taken from the scenes after those."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise DataPrepError(f"There is no rule {self.rule!r}; choose from {', '.join(RULES)}.")
        if self.scenes < 1 or self.heldout < 0:
            raise DataPrepError("At least 1 scene and no fewer than 0 held-out images are needed.")

    @property
    def name(self) -> str:
        return "clevr6" if self.rule == "paper" else "clevr6-authors-filter"


@dataclass(frozen=True)
class Scene:
    """One scene that is wanted, still encoded, or why it cannot be had."""

    name: str
    number: int
    split: str
    features: dict[str, memoryview]
    objects: int = 0
    fault: str = ""


def wanted(visibility: np.ndarray, rule: str) -> bool:
    """Whether a scene belongs to the data set; visibility (11,) is 1 for the background and each object."""
    return RULES[rule](int(visibility.sum()) - 1)


def read_scenes(files: Sequence[Path], config: Clevr6Config, bar: tqdm) -> Iterator[Scene]:
    """The scenes of the files that the settings want, in their order; faulty ones are handed on as such."""
    number = kept_heldout = 0
    for file in files:
        for record in read_records(file, bar.update):
            split = "train" if number < config.scenes else "test"
            if split == "test" and kept_heldout >= config.heldout:
                return
            name = f"{file.name}:{record.number}"
            try:
                if record.fault:
                    raise ItemError(record.fault)
                features = parse_example(record.data)
                visibility = float_values(features, "visibility", ENTITIES)
                if not ((visibility >= 0) & (visibility <= 1)).all():
                    raise ItemError("its visibility is not between 0 and 1")
            except ItemError as error:
                yield Scene(name, number, split, {}, fault=f"{record.name}: {error}")
            else:
                if wanted(visibility, config.rule):
                    kept_heldout += split == "test"
                    yield Scene(name, number, split, features, int(visibility.sum()) - 1)
            number += 1


def make_scene(scene: Scene, size: int) -> Sample:
    """Decode, crop and resize one scene; the mask keeps the file's entity numbers. Raises ItemError."""
    if scene.fault:
        raise ItemError(scene.fault)
    try:
        pixels, masks = (byte_values(scene.features, name, count) for name, count in VALUES.items())
    except ItemError as error:
        raise ItemError(f"{scene.name}: {error}") from error
    image = np.ascontiguousarray(pixels.reshape(HEIGHT, WIDTH, 3)[ROWS, COLUMNS])
    return Sample(
        resize_image(Image.fromarray(image), None, size),
        label_map(masks.reshape(ENTITIES, HEIGHT, WIDTH)[:, ROWS, COLUMNS], size),
        id=f"{scene.number:06d}",
        split=scene.split,
        source=scene.name,
        extra={"objects": scene.objects},
    )


def label_map(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks (entities,h,w) of 0 and 255 as a label map (size,size) uint8, by nearest neighbour."""
    height, width = masks.shape[1:]
    rows = ((np.arange(size) + 0.5) * height / size).astype(np.int64)
    columns = ((np.arange(size) + 0.5) * width / size).astype(np.int64)
    return masks[:, rows[:, None], columns].argmax(axis=0).astype(np.uint8)


def prepare(
    files: Sequence[Path],
    out: Path,
    config: Clevr6Config | None = None,
    options: Options | None = None,
    *,
    name: str | None = None,
) -> PreparedDataset:
    """Prepare CLEVR6 from TFRecord files, read as one series. Raises SourceError or StoreError.

    name: of the data set, for scenes that are not the original's; the rule's own if None.
    """
    config, options = config or Clevr6Config(), options or Options()
    check_target(out, force=options.force)
    name = config.name if name is None else check_name(name)
    for file in files:
        if not file.is_file():
            what = "is no file" if file.exists() else "does not exist"
            raise SourceError(f"{file} {what}; name clevr_with_masks_train.tfrecords, as it was downloaded.")
    if len({file.name for file in files}) < len(files):
        raise SourceError("Two of the files have one name, and scenes are known by it: rename one of them.")
    writer = DatasetWriter(
        out,
        name=name,
        size=(options.size, options.size),
        settings={**asdict(config), "size": options.size},
        sources={file.name: f"{file.stat().st_size} bytes" for file in files},
        licence=LICENCE,
        command=options.command,
        force=options.force,
    )
    length = sum(file.stat().st_size for file in files)
    with (
        writer,
        tqdm(total=length, desc=name, unit="B", unit_scale=True, disable=not options.progress) as bar,
    ):
        write_samples(
            writer,
            read_scenes(files, config, bar),
            lambda scene: make_scene(scene, options.size),
            name=lambda scene: scene.name,
            options=options,
            group=1,  # a record is 3 MB
        )
    made = writer.dataset.manifest["counts"].get("test", 0)
    if made < config.heldout:
        log.warning(
            "%s: %d of %d held-out images, as there are too few scenes after the first %d: see --scenes",
            out, made, config.heldout, config.scenes,
        )  # fmt: skip
    return writer.dataset
