"""Photographs with human masks, and CLEVR scenes rendered anew: tested where trained, and elsewhere."""

from __future__ import annotations

from benchmarks.registry import DATASETS
from benchmarks.registry import METHODS as REGISTERED
from benchmarks.tables import Column, Entry, Line, Table, headline

METHODS = ("GrabCut", "ReDO", "IODINE", "Slot-Attention", "DRC", "all-foreground", "centred-ellipse")
PLACES = (  # tested on, its split, trained on
    ("ecssd", "test", "ecssd"),
    ("ecssd", "test", "pets"),
    ("pets", "test", "pets"),
    ("pets", "test", "ecssd"),
    ("coco-mval", "all", "ecssd"),
    ("coco-mval", "all", "pets"),
    ("clevr6-rendered", "eval", "clevr6-rendered"),
)
FIRST = {test: train for test, _, train in reversed(PLACES)}  # where methods that are not trained stand


def _line(test: str, train: str) -> Line:
    return Line(f"{DATASETS[test].label} ← {DATASETS[train].label}", section=test)


TABLE = Table(
    number="photos",
    title="Photographs and scenes (tested ← trained on)",
    lines=tuple(_line(test, train) for test, _, train in PLACES),
    columns=tuple(Column(method, marks="" if REGISTERED[method].trained else "†") for method in METHODS),
    entries=tuple(
        Entry(_line(test, train).label, method, method, headline(method), train, test, split)
        for test, split, train in PLACES
        for method in METHODS
        if train == FIRST[test] or REGISTERED[method].trained
    ),
    footnotes={"†": "Not trained: it stands once for each test set."},
    keys=("train_dataset",),
    preset="quick-ablation",
    rivals="columns",
)
