"""Table 4: trained on one category, tested on held-out images of another; and the same with shapes of sprites."""

from __future__ import annotations

from benchmarks.registry import METHODS as REGISTERED
from benchmarks.tables import ALL_CHAINS, ORACLE, STAND_IN, VARIANT_LINES, Column, Entry, Line, Table, run_for

PAPER = {"birds-split": "Birds", "dogs-split": "Dogs", "cars-split": "Cars"}
OURS = {"tm-dsprites-squares": "Squares", "tm-dsprites-ellipses": "Ellipses", "tm-dsprites-hearts": "Hearts"}
METHODS = ("GrabCut", "ReDO", "DRC", "DRC by responsibilities", "all-foreground", "centred-ellipse")
MARKS = {
    "GrabCut": "†",
    "ReDO": "§",
    "DRC by responsibilities": "¶",
    "all-foreground": "†",
    "centred-ellipse": "†",
}


def _line(test: str, train: str, names: dict[str, str]) -> Line:
    return Line(f"{names[test]} ← {names[train]}", "*" if test == train else "", section=names[test])


def _entries(names: dict[str, str], block: str) -> tuple[Entry, ...]:
    found = []
    for test in names:
        for train in _order(test, names):
            for method in METHODS:
                trained = REGISTERED[run_for(method)[0]].trained
                if not trained and train != test:
                    continue  # stands in the first line of its test set
                origin = train.removesuffix("-split") if trained else ""
                in_paper = not block and method not in VARIANT_LINES
                published = (method, origin, test.removesuffix("-split"), "test") if in_paper else None
                label = _line(test, train, names).label
                place = (train if trained else "", test, "test")
                found.append(Entry(label, method, *run_for(method), *place, published=published, block=block))
    return tuple(found)


def _order(test: str, names: dict[str, str]) -> list[str]:
    """The test set's own category first, then the others, as the paper has them."""
    return [test, *[name for name in names if name != test]]


TABLE = Table(
    number="4",
    title="Categories never trained on (tested ← trained on)",
    lines=tuple(
        _line(test, train, names)
        for names in (PAPER, OURS)
        for test in names
        for train in _order(test, names)
    ),
    columns=tuple(Column(method, marks=MARKS.get(method, "")) for method in METHODS),
    entries=_entries(PAPER, "") + _entries(OURS, STAND_IN),
    footnotes={
        "*": "Trained on images of the same category, for reference.",
        "†": "Not trained: it stands once for each test set.",
        "§": ORACLE,
        "¶": ALL_CHAINS,
    },
    keys=("variant", "train_dataset"),
    preset="quick-ablation",
    rivals="columns",
)
