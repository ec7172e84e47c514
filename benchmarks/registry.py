"""What can be run: methods, data sets, budgets and tables. One entry each; nothing is imported before use."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from data_prep.catalogue import CATALOGUE
from drc.config import VARIANTS

PACKAGES = ("baselines", "benchmarks", "data_prep", "drc")
"""This project's own: what is not found in them is a mistake, and no missing package."""


@dataclass(frozen=True)
class MethodSpec:
    """How a method is found and judged."""

    target: str
    """`module:class`; imported on first use, since some need torch."""
    trained: bool
    variants: tuple[str, ...]
    """The first is the headline."""
    protocol: str = "unmatched"
    """The strategy of baselines.matching by which its foreground is chosen, declared in advance."""
    annotation: dict[str, str] = field(default_factory=dict)
    """For each variant that is given annotation when it segments: which."""
    floor: bool = False
    """It looks at no pixel: what a method must beat."""
    taken_over: dict[str, str] = field(default_factory=dict)
    """For each variant that differs in how it segments alone: the one whose training it takes."""

    def training_of(self, variant: str) -> str:
        """The variant whose training a variant uses, mostly its own."""
        return self.taken_over.get(variant, variant)

    def load(self) -> Any:
        """The method's class.

        LookupError if there is no such module, or it imports from this project what is not there, ImportError if a
        package that it needs is missing, AttributeError if the module has no such class.
        """
        path, name = self.target.split(":")
        try:
            module = import_module(path)
        except ImportError as error:
            missing = error.name or ""
            if isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{missing}."):
                raise LookupError(f"there is no module {missing}, which its target names") from error
            if missing.partition(".")[0] in PACKAGES:
                raise LookupError(f"{path} imports what is not there: {error}") from error
            raise
        return getattr(module, name)

    def protocol_of(self, variant: str) -> str:
        """What a row says about how the masks came about and were judged."""
        extra = self.annotation.get(variant)
        return f"{self.protocol}, {extra}" if extra else self.protocol


METHODS: dict[str, MethodSpec] = {
    "GrabCut": MethodSpec(
        "baselines.grabcut:GrabCut",
        trained=False,
        variants=("border", "center60", "bbox"),
        annotation={"bbox": "annotated box"},
    ),
    "ReDO": MethodSpec("baselines.redo:ReDO", trained=True, variants=("full",), protocol="image-permutation"),
    "IODINE": MethodSpec("baselines.iodine:IODINE", trained=True, variants=("full",), protocol="best-of-two"),
    "Slot-Attention": MethodSpec(
        "baselines.slot_attention:SlotAttention", trained=True, variants=("full",), protocol="best-of-two"
    ),
    "DRC": MethodSpec(
        "drc.method:DRC",
        trained=True,
        variants=VARIANTS,
        taken_over={"responsibilities": "full"},
    ),
    "all-foreground": MethodSpec(
        "baselines.floors:AllForeground", trained=False, variants=("fixed",), floor=True
    ),
    "centred-ellipse": MethodSpec(
        "baselines.floors:CentredEllipse", trained=False, variants=("fixed",), floor=True
    ),
}


@dataclass(frozen=True)
class Subset:
    """Images that are scored together."""

    rows: str | None
    """The prepared data set's split, or None for all of its rows."""
    label: str
    """How a table heads it."""
    limit: int | None = None
    """Only the first so many rows."""


@dataclass(frozen=True)
class DatasetSpec:
    """Where a prepared data set lies, what is trained on and what is scored."""

    label: str
    folder: str
    """Below the data folder, or absolute for anybody's own; {size} is the budget's image size."""
    prepare: str
    """The one command that prepares it, at {out}; {size}, {count} and {heldout} are the budget's."""
    train: str | None
    """The split that methods are trained on, or None for all rows."""
    splits: dict[str, Subset]
    shapes: tuple[str, ...] = ()
    """Of a TM-dSprites that is made on the spot, at the budget's size, when it is not there; else empty."""
    variant: str = ""
    """Of that TM-dSprites: one of data_prep.tm_dsprites.VARIANTS."""
    own: bool = False
    """Whether a command named it by its folder; no entry here is so."""

    @property
    def generated(self) -> bool:
        """Whether it is made on the spot."""
        return bool(self.shapes)


ALL = {"all": Subset(None, "all")}
SPLIT = {"train": Subset("train", "training images"), "test": Subset("test", "held out")}
TM_DSPRITES = "python -m data_prep tm-dsprites --out {out} --size {size} --count {count} --heldout {heldout}"
SHAPES = ("square", "ellipse", "heart")


def sprites(
    label: str, folder: str, shapes: tuple[str, ...] = SHAPES, variant: str = "tm-dsprites"
) -> DatasetSpec:
    """TM-dSprites of some shapes: scored on images of the training set, as in the paper, and held out."""
    options = "" if variant == "tm-dsprites" else f" --variant {variant}"
    options += "" if shapes == SHAPES else f" --shapes {','.join(shapes)}"
    return DatasetSpec(
        label,
        f"{folder}-{{size}}",
        TM_DSPRITES + options,
        train="train",
        splits={"eval": Subset("train", "training images", limit=1000), "test": Subset("test", "held out")},
        shapes=shapes,
        variant=variant,
    )


def photos(label: str, name: str, source: str) -> DatasetSpec:
    """Photographs with human masks: the middle square of each, four fifths of them to train on, the others scored.

    Of the whole download, the files are taken that are listed in `results/photographs`.
    """
    return DatasetSpec(
        label,
        name,
        f"python -m data_prep folder --name {name} {source} --only results/photographs/{name}.txt --crop centre "
        "--ratios 80,0,20 --out {out}",
        train="train",
        splits={"test": Subset("test", "held out")},
    )


DATASETS: dict[str, DatasetSpec] = {
    "birds": DatasetSpec("Birds", "birds", CATALOGUE["birds"].command, train=None, splits=ALL),
    "birds-split": DatasetSpec(
        "Birds (split)", "birds", CATALOGUE["birds"].command, train="train", splits=SPLIT
    ),
    "dogs": DatasetSpec("Dogs", "dogs", CATALOGUE["dogs"].command, train=None, splits=ALL),
    "dogs-split": DatasetSpec("Dogs (split)", "dogs", CATALOGUE["dogs"].command, train="train", splits=SPLIT),
    "cars": DatasetSpec("Cars", "cars", CATALOGUE["cars"].command, train=None, splits=ALL),
    "cars-split": DatasetSpec("Cars (split)", "cars", CATALOGUE["cars"].command, train="train", splits=SPLIT),
    "clevr6": DatasetSpec(
        "CLEVR6",
        "clevr6",
        CATALOGUE["clevr6"].command,
        train="train",
        splits={"eval": Subset("train", "training images", limit=1000), "test": Subset("test", "held out")},
    ),
    "clevr6-rendered": DatasetSpec(
        "CLEVR6 rendered anew",
        "clevr6-rendered",
        "python -m data_prep clevr6 --tfrecords FILE --name clevr6-rendered --out {out}",
        train="train",
        splits={"eval": Subset("train", "training images", limit=1000)},
    ),
    "ecssd": photos("ECSSD", "ecssd", "--masks ECSSD/ground_truth_mask --images ECSSD/images"),
    "pets": photos(
        "Oxford pets", "pets", "--masks annotations/trimaps --mask-kind labels --foreground 1 --images images"
    ),
    "coco-mval": DatasetSpec(
        "COCO sample",
        "coco-mval",
        "python -m data_prep folder --name coco-mval --masks COCO_MVal/gt --images COCO_MVal/img "
        "--only results/photographs/coco-mval.txt --crop centre --out {out}",
        train=None,
        splits=ALL,
    ),
    "tm-dsprites": sprites("TM-dSprites (re-made)", "tm-dsprites"),
    "tm-dsprites-grey": sprites("TM-dSprites grey", "tm-dsprites-grey", variant="tm-dsprites-grey"),
    "tm-dsprites-squares": sprites("TM-dSprites squares", "tm-dsprites-squares", ("square",)),
    "tm-dsprites-ellipses": sprites("TM-dSprites ellipses", "tm-dsprites-ellipses", ("ellipse",)),
    "tm-dsprites-hearts": sprites("TM-dSprites hearts", "tm-dsprites-hearts", ("heart",)),
}


@dataclass(frozen=True)
class Budget:
    """The size at which all methods of a table are run and scored, and how much data that takes."""

    image_size: int
    eval_images: int | None
    """At most so many images of a split are scored, evenly spread over it; None for all."""
    train_images: int
    """Training images of a generated data set."""
    heldout_images: int
    """Held-out images of a generated data set."""
    about: str
    scored_of: int | None = None
    """Training images are scored among the first so many, on which every method trains; None for all."""
    keeps_rows: bool = True
    """Whether its rows are worth keeping under results/rows."""


PRESETS: dict[str, Budget] = {
    "smoke": Budget(
        image_size=16, eval_images=16, train_images=64, heldout_images=32, keeps_rows=False,
        about="a few steps, to see that everything runs; its figures mean nothing",
    ),
    "quick": Budget(
        image_size=32, eval_images=192, train_images=512, heldout_images=1000, scored_of=512,
        about="minutes on 2 CPU cores",
    ),
    "cpu-hour": Budget(
        image_size=64, eval_images=192, train_images=1000, heldout_images=1000, scored_of=1000,
        about="about an hour a training on one CPU core, and DRC's scoring as long again",
    ),
    "cpu-evening": Budget(
        image_size=128, eval_images=96, train_images=20000, heldout_images=1000, scored_of=512,
        about="90 minutes a training on 2 CPU cores that multiply bfloat16, and DRC's scoring as long again",
    ),
    "gpu": Budget(
        image_size=128, eval_images=192, train_images=20000, heldout_images=1000, scored_of=1000,
        about="3 to 4 minutes a training on one data-centre GPU",
    ),
    "paper": Budget(
        image_size=128, eval_images=None, train_images=20000, heldout_images=1000, about="the authors' settings"
    ),
    "quick-ablation": Budget(
        image_size=32, eval_images=96, train_images=512, heldout_images=1000, scored_of=512,
        about="quick with about half of the training and inference, for tables of many trainings",
    ),
    "cpu-hour-ablation": Budget(
        image_size=64, eval_images=96, train_images=1000, heldout_images=1000, scored_of=1000,
        about="cpu-hour with a quarter of the training and half of the inference, for many trainings",
    ),
}  # fmt: skip
REPORTED = tuple(name for name, budget in PRESETS.items() if budget.keeps_rows)
"""The budgets whose figures mean something."""


def dataset_path(data: Path, name: str, preset: str) -> Path:
    """Where a data set lies, or will, below the data folder."""
    return data / DATASETS[name].folder.format(size=PRESETS[preset].image_size)


def prepare_command(data: Path, name: str, preset: str) -> str:
    """The one command that prepares a data set there."""
    budget = PRESETS[preset]
    return DATASETS[name].prepare.format(
        out=shlex.quote(str(dataset_path(data, name, preset))),
        size=budget.image_size,
        count=budget.train_images,
        heldout=budget.heldout_images,
    )


TABLES: dict[str, str] = {number: f"benchmarks.tables.table{number}" for number in "1234"} | {
    "grey": "benchmarks.tables.grey",
    "photos": "benchmarks.tables.photos",
}
