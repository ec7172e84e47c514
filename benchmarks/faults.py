"""What is wrong with an entry of a registry, said before anything is run by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral

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
    listed = isinstance(spec.variants, Sequence) and not isinstance(spec.variants, str)
    names = spec.variants if listed else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        yield f"has variants={spec.variants!r} where a tuple of names is expected, such as ('fixed',)"
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
    try:
        spec.folder.format(size=16)
    except (LookupError, ValueError):
        yield f"has folder={spec.folder!r}, whose braces may hold size alone; others are written twice"
    if not isinstance(spec.splits, Mapping) or not spec.splits:
        yield f"has splits={spec.splits!r} where a dictionary of Subset is expected"
        return
    for split, subset in spec.splits.items():
        if not isinstance(subset, Subset):
            yield f"has {subset!r} as its split {split!r} where a Subset is expected"
        elif subset.limit is not None and not (isinstance(subset.limit, Integral) and subset.limit > 0):
            yield f"has limit={subset.limit!r} in its split {split!r} where a number above 0 is expected"
