"""Photographs with human masks, and CLEVR scenes rendered anew: tested where trained, and elsewhere."""

from __future__ import annotations

from benchmarks.registry import DATASETS
from benchmarks.registry import METHODS as REGISTERED
from benchmarks.tables import ALL_CHAINS, Column, Entry, Line, Table, run_for

METHODS = (
    "GrabCut",
    "ReDO",
    "IODINE",
    "Slot-Attention",
    "DRC",
    "DRC by responsibilities",
    "all-foreground",
    "centred-ellipse",
)
MARKS = {"GrabCut": "†", "DRC by responsibilities": "¶", "all-foreground": "†", "centred-ellipse": "†"}
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
    columns=tuple(Column(method, marks=MARKS.get(method, "")) for method in METHODS),
    entries=tuple(
        Entry(_line(test, train).label, method, *run_for(method), train, test, split)
        for test, split, train in PLACES
        for method in METHODS
        if train == FIRST[test] or REGISTERED[run_for(method)[0]].trained
    ),
    footnotes={"†": "Not trained: it stands once for each test set.", "¶": ALL_CHAINS},
    keys=("variant", "train_dataset"),
    preset="quick-ablation",
    rivals="columns",
)
