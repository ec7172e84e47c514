"""What is wrong with an entry of a registry, said before anything is run by it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any

from baselines.matching import STRATEGIES
from benchmarks import registry
from benchmarks.errors import BenchmarkError
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES, Budget, DatasetSpec, MethodSpec, Subset

BRACES: dict[str, dict[str, str | int]] = {
    "folder": {"size": 16},
    "prepare": {"out": "data", "size": 16, "count": 1, "heldout": 1},
}
"""What the braces of a data set's texts may hold, with examples."""

MEMBERS = ("name", "variants", "names_foreground", "skip", "configure", "fit", "segment", "panels")
"""What every method's class has."""


def check_registries() -> None:
    """Raise BenchmarkError for the first entry of a registry that cannot be used, whoever wrote it."""
    for fault in _repeated(Path(registry.__file__)):
        raise BenchmarkError(fault)
    for kind, names in (("TABLES", TABLES), ("PRESETS", PRESETS)):
        for fault in chain.from_iterable(map(_faults_of_name, names)):
            raise BenchmarkError(f"{kind} in benchmarks/registry.py {fault}: correct the entry")
    for name, budget in PRESETS.items():
        for fault in _faults_of_budget(budget):
            raise BenchmarkError(f"PRESETS[{name!r}] in benchmarks/registry.py {fault}: correct the entry")
    for name, method in METHODS.items():
        for fault in chain(_faults_of_name(name), _faults_of_method(method)):
            raise BenchmarkError(f"METHODS[{name!r}] in benchmarks/registry.py {fault}: correct the entry")
    places: dict[tuple[str, str], str] = {}
    for name, dataset in DATASETS.items():
        for fault in chain(
            _faults_of_name(name), _faults_of_dataset(dataset), _shared_labels(dataset, places)
        ):
            raise BenchmarkError(f"DATASETS[{name!r}] in benchmarks/registry.py {fault}: correct the entry")
        places |= {(dataset.label, subset.label): name for subset in dataset.splits.values()}


def check_class(name: str, method: Any) -> None:
    """Raise BenchmarkError where a method's class lacks a member, or contradicts its entry in METHODS."""
    which = f"{method.__module__}.{method.__name__}"
    if lacking := [member for member in MEMBERS if not hasattr(method, member)]:
        raise BenchmarkError(f"{which} lacks {', '.join(lacking)}, which docs/add_a_method.md asks for")
    if method.name != name:
        raise BenchmarkError(
            f"{which} says name={method.name!r} and stands in METHODS as {name!r}: call it that"
        )
    protocol, names = METHODS[name].protocol, method.names_foreground
    if names != (protocol == "unmatched"):
        remedy = (
            "leave protocol out there" if names else "name the strategy there that chooses its foreground"
        )
        raise BenchmarkError(
            f"{which} says names_foreground={names} and METHODS[{name!r}] protocol={protocol!r}: {remedy}"
        )


def _repeated(file: Path) -> Iterator[str]:
    """The names that a dictionary of the file has twice, of which Python takes the later one and says nothing."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for literal in (part for part in ast.walk(node.value) if isinstance(part, ast.Dict)):
            lines: dict[Any, int] = {}
            for key in (key for key in literal.keys if isinstance(key, ast.Constant)):
                if key.value in lines:
                    yield (
                        f"benchmarks/{file.name} has {key.value!r} in one dictionary twice, in lines "
                        f"{lines[key.value]} and {key.lineno}: call one of them otherwise"
                    )
                lines[key.value] = key.lineno


def _faults_of_budget(budget: Budget) -> Iterator[str]:
    if not isinstance(budget, Budget):
        yield f"is {budget!r}, which is no Budget"
        return
    for part in ("image_size", "eval_images", "train_images", "heldout_images", "scored_of"):
        value = getattr(budget, part)
        if value is None and part in ("eval_images", "scored_of"):
            continue
        if not (isinstance(value, int) and value > 0):
            yield f"has {part}={value!r} where a number above 0 is expected"


def _faults_of_name(name: str) -> Iterator[str]:
    """Names stand in commands, which commas and colons part, and in those of files."""
    if not isinstance(name, str) or not name or not name.isprintable() or {*name} & {*"/,:"}:
        yield f"holds the name {name!r}, which must be printable, without a comma, a colon or a slash"


def _shared_labels(spec: DatasetSpec, places: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """What a table could not tell apart, for its columns are called by labels alone."""
    said = [(spec.label, subset.label) for subset in spec.splits.values()]
    if len(set(said)) < len(said):
        yield "has two splits of one label"
    for place in said:
        if place in places:
            yield f"has the label {', '.join(place)!r}, which is also that of {places[place]!r}"


def _faults_of_method(spec: MethodSpec) -> Iterator[str]:
    if not isinstance(spec, MethodSpec):
        yield f"is {spec!r}, which is no MethodSpec"
        return
    path, _, name = str(spec.target).partition(":")
    if not (path and name.isidentifier()):
        yield f"has the target {spec.target!r} where module:class is expected"
    listed = isinstance(spec.variants, Sequence) and not isinstance(spec.variants, str)
    names = spec.variants if listed else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        yield f"has variants={spec.variants!r} where a tuple of names is expected, such as ('fixed',)"
    else:
        for variant in names:
            yield from _faults_of_name(variant)
    if not isinstance(spec.protocol, str) or spec.protocol not in STRATEGIES:
        yield f"has the protocol {spec.protocol!r}, which is none of {', '.join(STRATEGIES)}"
    for part in ("annotation", "taken_over"):
        said = getattr(spec, part)
        if not isinstance(said, Mapping):
            yield f"has {part}={said!r} where a dictionary by variants is expected"
        elif strange := [variant for variant in said if variant not in names]:
            yield f"says in {part} something of the variant {strange[0]!r}, which is none of its own"


def _faults_of_dataset(spec: DatasetSpec) -> Iterator[str]:
    if not isinstance(spec, DatasetSpec):
        yield f"is {spec!r}, which is no DatasetSpec"
        return
    for part in ("label", "folder", "prepare"):
        if not isinstance(getattr(spec, part), str):
            yield f"has {part}={getattr(spec, part)!r} where a text is expected"
    for part, words in BRACES.items():
        try:
            str(getattr(spec, part)).format(**words)
        except (AttributeError, LookupError, ValueError):
            yield (
                f"has {part}={getattr(spec, part)!r}, whose braces may hold {', '.join(words)} alone; "
                "others are written twice, {{ and }}"
            )
    if not isinstance(spec.splits, Mapping) or not spec.splits:
        yield f"has splits={spec.splits!r} where a dictionary of Subset is expected"
        return
    for split, subset in spec.splits.items():
        yield from _faults_of_name(split)
        if not isinstance(subset, Subset):
            yield f"has {subset!r} as its split {split!r} where a Subset is expected"
        elif subset.limit is not None and not (isinstance(subset.limit, Integral) and subset.limit > 0):
            yield f"has limit={subset.limit!r} in its split {split!r} where a number above 0 is expected"
