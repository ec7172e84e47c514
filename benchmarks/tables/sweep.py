"""A table of anybody's own: methods and variants in lines, what they are scored on in columns."""

from __future__ import annotations

from benchmarks.errors import BenchmarkError, choose
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES
from benchmarks.tables import RESERVED, SECTIONS, Column, Entry, Line, Table

LONGEST = 60
"""Letters of a sweep's name, which is the beginning of file names."""


def check_name(name: str) -> None:
    """Raise BenchmarkError for a sweep's name that is none for a file, or might be that of another result."""
    if not name.replace("-", "").replace("_", "").isalnum() or name.isdigit():
        raise BenchmarkError(
            f"--name {name!r} is no file name: use letters, digits and hyphens, and not digits alone"
        )
    if len(name) > LONGEST:
        raise BenchmarkError(
            f"--name {name[:20]}... has {len(name)} letters: choose one of at most {LONGEST}"
        )
    named = tuple(table for table in TABLES if not table.isdigit())
    endings = tuple(f"-{ending}" for ending in ("paired", "strategies", "pictures", *PRESETS))
    if name.lower().startswith((*RESERVED, *named)) or name.lower().endswith(endings):
        raise BenchmarkError(
            f"--name {name} may be what another result is called: choose another, such as my-sweep"
        )


def sweep_table(
    name: str, methods: list[str], variants: list[str], train: list[str], tests: list[str]
) -> Table:
    """Every method and variant, trained on each of `train`, scored on each of `tests`.

    Tests are names of data sets, each scored on its held-out images if it has some, or `name:split`. Without
    `train` a method is trained on each test set itself. Without `variants` a method's headline variant is run,
    with `all` every one. Raises BenchmarkError for names that are not there.
    """
    for option, words in (("--methods", methods), ("--test", tests)):
        if not words:
            raise BenchmarkError(f"{option} names nothing: give at least one name")
    places = [_place(test) for test in tests]
    columns = {place: _column(*place) for place in places}
    lines, entries = [], []
    for method, variant in sorted(_chosen(methods, variants), key=_section):
        spec = METHODS[method]
        for origin in (train or [""]) if spec.trained else [""]:
            line = _line(method, variant, origin)
            lines.append(line)
            for (dataset, split), column in columns.items():
                source = origin or dataset
                entries.append(Entry(line.label, column.label, method, variant, source, dataset, split))
    return Table(
        number=name,
        title=f"Sweep {name}" if name != "sweep" else "Sweep",
        lines=tuple(dict.fromkeys(lines)),
        columns=tuple(columns.values()),
        entries=tuple(dict.fromkeys(entries)),
        keys=("variant", "train_dataset"),
    )


def _chosen(methods: list[str], variants: list[str]) -> list[tuple[str, str]]:
    """Methods with those of the variants that they have."""
    if not variants:
        return [(method, METHODS[method].variants[0]) for method in methods]
    known = dict.fromkeys(v for method in methods for v in METHODS[method].variants)
    wanted = list(known) if variants == ["all"] else [choose("variant", v, known) for v in variants]
    for method in methods:
        if not set(wanted) & set(METHODS[method].variants):
            has = ", ".join(METHODS[method].variants)
            raise BenchmarkError(f"{method} has none of the variants {', '.join(wanted)}; it has {has}")
    return [(method, v) for method in methods for v in wanted if v in METHODS[method].variants]


def _place(test: str) -> tuple[str, str]:
    name, _, split = test.partition(":")
    splits = DATASETS[name].splits
    if split and split not in splits:
        raise BenchmarkError(f"{name} has no split {split!r}; choose from: {', '.join(splits)}")
    return name, split or ("test" if "test" in splits else next(iter(splits)))


def _column(dataset: str, split: str) -> Column:
    spec = DATASETS[dataset]
    return Column(f"{spec.label}, {spec.splits[split].label}")


def _line(method: str, variant: str, origin: str) -> Line:
    spec = METHODS[method]
    named = method if variant == spec.variants[0] else f"{method} {variant}"
    label = f"{named} ← {origin}" if origin else named
    return Line(label, section=SECTIONS[_section((method, variant))])


def _section(chosen: tuple[str, str]) -> int:
    """Where among SECTIONS a method's variant stands."""
    method, variant = chosen
    spec = METHODS[method]
    return SECTIONS.index("floors" if spec.floor else "appendix" if variant in spec.annotation else "methods")
