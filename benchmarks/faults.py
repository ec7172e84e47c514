"""What is wrong with an entry of a registry, said before anything is run by it."""

from __future__ import annotations

from collections.abc import Iterator

from baselines.matching import STRATEGIES
from benchmarks.errors import BenchmarkError
from benchmarks.registry import DATASETS, METHODS, DatasetSpec, MethodSpec, Subset


def check_registries() -> None:
    """Raise BenchmarkError for the first entry of METHODS or DATASETS that cannot be used, whoever wrote it."""
    for name, method in METHODS.items():
        for fault in _faults_of_method(method):
            raise BenchmarkError(f"METHODS[{name!r}] in benchmarks/registry.py {fault}: correct the entry")
    for name, dataset in DATASETS.items():
        for fault in _faults_of_dataset(dataset):
            raise BenchmarkError(f"DATASETS[{name!r}] in benchmarks/registry.py {fault}: correct the entry")


def _faults_of_method(spec: MethodSpec) -> Iterator[str]:
    if not isinstance(spec, MethodSpec):
        yield f"is {spec!r}, which is no MethodSpec"
        return
    path, _, name = str(spec.target).partition(":")
    if not (path and name.isidentifier()):
        yield f"has the target {spec.target!r} where module:class is expected"
    if not isinstance(spec.variants, tuple) or not spec.variants or not all(map(_is_name, spec.variants)):
        yield f"has variants={spec.variants!r} where a tuple of names is expected, such as ('fixed',)"
        return
    if spec.protocol not in STRATEGIES:
        yield f"has the protocol {spec.protocol!r}, which is none of {', '.join(STRATEGIES)}"
    for variant in [*spec.annotation, *spec.taken_over, *spec.taken_over.values()]:
        if variant not in spec.variants:
            yield f"says something of the variant {variant!r}, which is none of its own"


def _faults_of_dataset(spec: DatasetSpec) -> Iterator[str]:
    if not isinstance(spec, DatasetSpec):
        yield f"is {spec!r}, which is no DatasetSpec"
        return
    for part in ("label", "folder", "prepare"):
        if not _is_name(getattr(spec, part)):
            yield f"has {part}={getattr(spec, part)!r} where a text is expected"
    if not isinstance(spec.splits, dict) or not spec.splits:
        yield f"has splits={spec.splits!r} where a dictionary of Subset is expected"
        return
    for split, subset in spec.splits.items():
        if not isinstance(subset, Subset):
            yield f"has {subset!r} as its split {split!r} where a Subset is expected"
        elif subset.limit is not None and not (isinstance(subset.limit, int) and subset.limit > 0):
            yield f"has limit={subset.limit!r} in its split {split!r} where a number above 0 is expected"


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(text)
