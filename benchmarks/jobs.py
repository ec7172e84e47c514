"""A cell with its settings resolved: what identifies it, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np

from benchmarks.cells import Cell, settings_key
from benchmarks.data import Library
from benchmarks.own import word_of
from benchmarks.registry import METHODS, PRESETS


class Job:
    """A cell with its settings resolved: what identifies it, and what it needs."""

    def __init__(self, cell: Cell, library: Library) -> None:
        self.cell, self.config = cell, configured(cell)
        spec, size = METHODS[cell.method], library.budget.image_size
        self.train_rows = self._train_rows(library)
        self.fit_settings: dict[str, Any] = {
            "method": cell.method,
            "variant": spec.training_of(cell.variant),
            "train_dataset": cell.train_dataset,
            "preset": cell.preset,
            "seed": cell.seed,
            "config": fit_config(self.config),
            "image_size": size,
            "train_images": len(self.train_rows),
            "train_data_sha256": library.dataset(cell.train_dataset).sha256 if spec.trained else "",
        }
        self.settings: dict[str, Any] = {
            **self.fit_settings,
            "variant": cell.variant,
            "config": settings_of(self.config),
            "test_dataset": cell.test_dataset,
            "split": cell.split,
            "n_images": len(library.evaluation_rows(cell.test_dataset, cell.split)),
            "data_sha256": library.dataset(cell.test_dataset).sha256,
            "protocol": spec.protocol_of(cell.variant),
        }
        self.fit_key = settings_key(self.fit_settings)
        self.key = settings_key(self.settings)

    def _train_rows(self, library: Library) -> np.ndarray:
        """Rows to train on: only the first so many, where the method's settings have a `train_images`."""
        if not METHODS[self.cell.method].trained:
            return np.empty(0, np.int64)
        rows = library.training_rows(self.cell.train_dataset)
        return rows[: getattr(self.config, "train_images", None)]


def configured(cell: Cell) -> Any:
    """A method's settings for a cell.

    Raises ImportError if a package is missing, ValueError for an unknown setting, TypeError for what is no dataclass
    of values that JSON has.
    """
    config = (
        METHODS[cell.method]
        .load()
        .configure(
            variant=cell.variant,
            preset=cell.preset,
            dataset=cell.train_dataset or cell.test_dataset,
            image_size=PRESETS[cell.preset].image_size,
        )
    )
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"configure gave {config!r} where a dataclass is expected")
    for name, value in asdict(config).items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"configure gave {name}={value!r}, which is no plain value: {error}") from error
    limit = getattr(config, "train_images", None)
    if not (limit is None or (isinstance(limit, int) and limit > 0)):
        raise TypeError(f"configure gave train_images={limit!r} where a number above 0, or None, is expected")
    return config


def settings_of(config: Any) -> dict[str, Any]:
    """All settings of a method by name, to be told apart by.

    One that a later version has added (metadata `added`) is left out at its default: what was measured before keeps
    its key.
    """
    unused = {
        f.name for f in fields(config) if f.metadata.get("added") and getattr(config, f.name) == f.default
    }
    return {name: value for name, value in asdict(config).items() if name not in unused}


def fit_config(config: Any) -> dict[str, Any]:
    """The settings that a training depends on: all but those named inference_..., used when it segments."""
    return {name: value for name, value in settings_of(config).items() if not name.startswith("inference_")}


def sweep_words(cells: list[Cell]) -> list[str]:
    """The words after `python` that compute cells of one training: all of their variants on all of their test sets."""
    first = cells[0]
    train = ["--train", word_of(first.train_dataset)] if first.train_dataset else []
    tests = ",".join(dict.fromkeys(f"{word_of(cell.test_dataset)}:{cell.split}" for cell in cells))
    variants = ",".join(dict.fromkeys(cell.variant for cell in cells))
    words = ["-m", "benchmarks", "sweep", "--methods", first.method, "--variants", variants]
    return [*words, *train, "--test", tests, "--seeds", str(first.seed), "--preset", first.preset]


def row_command(cell: Cell) -> str:
    """What a stranger pastes to make this row again, and no other."""
    return shlex.join(["python", *sweep_words([cell])])
