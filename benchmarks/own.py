"""Anybody's own prepared data set, named by its folder, as a data set of the benchmark."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from benchmarks.errors import BenchmarkError, choose
from benchmarks.registry import DATASETS, DatasetSpec, Subset
from data_prep.reader import MANIFEST, SPLITS, read_manifest

LABELS = {"train": "training images", "val": "validation images", "test": "held out"}


def resolve_dataset(text: str, data: Path) -> str:
    """The name of a data set that is registered, or lies in a folder: a path, or a name below `data`.

    A folder is registered under its own name, trained on its split train where it has one, and scored on any
    split. Raises BenchmarkError if there is nothing of that name, StoreError if the folder is damaged.
    """
    if text in DATASETS:
        return text
    home = os.path.expanduser(text)  # noqa: PTH111, Path's refuses ~ with a name that is no user's
    for path in (Path(home), data / text):
        if (path / MANIFEST).is_file():
            known = (
                name for name, spec in DATASETS.items() if (data / spec.folder).resolve() == path.resolve()
            )
            return next(known, "") or _register(path.resolve())
    if Path(home).is_dir():
        raw = Path(home).resolve()
        out = data / (raw.name if (data / raw.name).resolve() != raw else f"{raw.name}-prepared")
        raise BenchmarkError(
            f"{text} is no prepared data set (it has no {MANIFEST}): prepare one from it with python -m data_prep "
            f"folder --images {shlex.quote(text)} --masks DIR --out {shlex.quote(str(out))}, and name that"
        )
    if "/" in text:
        raise BenchmarkError(
            f"{text} is not a prepared data set (it has no {MANIFEST}): prepare it with "
            f"python -m data_prep folder --images DIR --masks DIR --out {text}"
        )
    return choose("data set", text, DATASETS)


def resolve_test(text: str, data: Path) -> str:
    """The same for `name` or `name:split`."""
    name, colon, split = text.rpartition(":")
    if not colon or "/" in split:  # a colon may belong to a folder above the data set's
        name, colon, split = text, "", ""
    return resolve_dataset(name, data) + colon + split


def word_of(name: str) -> str:
    """What names the data set on a command line of this machine: its name, or its folder."""
    return DATASETS[name].folder.replace("{{", "{").replace("}}", "}") if DATASETS[name].own else name


def _register(path: Path) -> str:
    name, folder = path.name, str(path).replace("{", "{{").replace("}", "}}")
    if name in DATASETS:
        if DATASETS[name].folder == folder:
            return name
        known = word_of(name)
        other = "the registered data set" if known == name else known
        raise BenchmarkError(f"{path} is called like {other}: rename the folder")
    if "," in folder or ":" in name:
        raise BenchmarkError(
            f"{path} has a comma or a colon in its name, or a comma above it, which parts names here: rename or move it"
        )
    if not folder.isprintable():  # so is what stands for bytes that are no UTF-8
        raise BenchmarkError(f"{folder!a} has characters that no row can hold: rename the folder, or move it")
    manifest = read_manifest(path)
    made_by = manifest["command"] or f"python -m data_prep folder --images DIR --masks DIR --out {path}"
    present = [split for split in SPLITS if manifest["counts"].get(split)]
    apart = "train" in present  # otherwise all of it is trained on
    taken = name in (spec.label for spec in DATASETS.values())
    DATASETS[name] = DatasetSpec(
        label=f"{name} in {path.parent}" if taken else name,
        folder=folder,
        prepare=made_by.replace("{", "{{").replace("}", "}}"),
        own=True,
        train="train" if apart else None,
        splits={
            split: Subset(split, LABELS[split] if apart else f"{split}, trained on at least in part")
            for split in present
        },
    )
    return name
