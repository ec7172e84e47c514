"""What can be run: methods, data sets, budgets and tables. One entry each; nothing is imported before use."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from data_prep.catalogue import CATALOGUE


@dataclass(frozen=True)
class MethodSpec:
    """How a method is found and judged."""

    target: str
    """``module:class``; imported on first use, since some need torch."""
    trained: bool
    variants: tuple[str, ...]
    """The first is the headline."""
    protocol: str = "unmatched"
    """The strategy of baselines.matching by which its foreground is chosen, declared in advance."""
    annotation: dict[str, str] = field(default_factory=dict)
    """For each variant that is given annotation when it segments: which."""

    def load(self) -> Any:
        """The method's class."""
        module, name = self.target.split(":")
        return getattr(import_module(module), name)

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
    "ReDO": MethodSpec(
        "baselines.redo:ReDO", trained=True, variants=("full",), protocol="image-permutation"
    ),
    "DRC": MethodSpec("drc.method:DRC", trained=True, variants=("full",)),
    "all-foreground": MethodSpec("baselines.floors:AllForeground", trained=False, variants=("fixed",)),
    "centred-ellipse": MethodSpec("baselines.floors:CentredEllipse", trained=False, variants=("fixed",)),
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
    """Below the data folder; {size} is the budget's image size."""
    prepare: str
    """The one command that prepares it."""
    train: str | None
    """The split that methods are trained on, or None for all rows."""
    splits: dict[str, Subset]
    generated: bool = False
    """Made on the spot, at the budget's size, when it is not there."""


ALL = {"all": Subset(None, "all")}
DATASETS: dict[str, DatasetSpec] = {
    "birds": DatasetSpec("Birds", "birds", CATALOGUE["birds"].command, train=None, splits=ALL),
    "dogs": DatasetSpec("Dogs", "dogs", CATALOGUE["dogs"].command, train=None, splits=ALL),
    "cars": DatasetSpec("Cars", "cars", CATALOGUE["cars"].command, train=None, splits=ALL),
    "clevr6": DatasetSpec(
        "CLEVR6",
        "clevr6",
        CATALOGUE["clevr6"].command,
        train="train",
        splits={"eval": Subset("train", "1,000 of train", limit=1000)},
    ),
    "tm-dsprites": DatasetSpec(
        "TM-dSprites (re-made)",
        "tm-dsprites-{size}",
        "python -m data_prep tm-dsprites --out {out} --size {size} --count {count} --heldout {heldout}",
        train="train",
        splits={
            "eval": Subset("train", "1,000 of train", limit=1000),
            "test": Subset("test", "held out"),
        },
        generated=True,
    ),
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


PRESETS: dict[str, Budget] = {
    "smoke": Budget(16, 16, 64, 32, "a few steps, to see that everything runs; its figures mean nothing"),
    "quick": Budget(32, 256, 512, 1000, "minutes on 2 CPU cores"),
    "gpu": Budget(128, 1000, 20000, 1000, "about 20 minutes a training on one data-centre GPU"),
    "paper": Budget(128, None, 20000, 1000, "the authors' settings"),
}

TABLES: dict[str, str] = {"1": "benchmarks.tables.table1"}
