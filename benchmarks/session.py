"""One invocation of a table: which cells, in what order, and what to say of those that did not run."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from benchmarks.cells import Cell
from benchmarks.data import Library
from benchmarks.files import usable_folder
from benchmarks.jobs import Job
from benchmarks.provenance import resolve_device
from benchmarks.registry import DATASETS, METHODS, PRESETS
from benchmarks.report import Report, write_report
from benchmarks.runs import Outcome, Runner
from benchmarks.tables import Entry, Table, load_table, plan

log = logging.getLogger(__name__)


@dataclass
class Session:
    """What was asked for, names already checked."""

    number: str
    preset: str
    data: Path
    runs: Path
    results: Path
    datasets: list[str]
    """Empty: every data set that is prepared or can be generated."""
    methods: list[str]
    seeds: list[int]
    device: str = "auto"
    force: bool = False

    @cached_property
    def table(self) -> Table:
        """The table asked for."""
        return load_table(self.number)

    @cached_property
    def library(self) -> Library:
        """The data sets, as the budget uses them."""
        return Library(self.data, self.preset)

    @cached_property
    def runner(self) -> Runner:
        """What computes cells."""
        return Runner(self.runs, self.library, self.number, self.device, self.force)

    @cached_property
    def usable(self) -> list[str]:
        """Data sets of the table, asked for or all, that are prepared or can be generated."""
        ours = dict.fromkeys(e.dataset for e in self.table.entries)
        return [n for n in ours if self._asked(n) and (self.library.is_prepared(n) or DATASETS[n].generated)]

    def cells(self) -> list[Cell]:
        """The cells to run."""
        return plan(self.table, self.preset, self.methods, self.usable, self.seeds)

    def check(self, *, compute: bool) -> None:
        """Raise BenchmarkError now, rather than after hours, for a folder or a device that cannot be used."""
        usable_folder(self.results, "rendered tables")
        if compute:
            usable_folder(self.runs, "cells and checkpoints")
            if any(not self.library.is_prepared(n) for n in self.usable):
                usable_folder(self.data, "data sets")
            if self.device == "cuda" and any(METHODS[cell.method].trained for cell in self.cells()):
                resolve_device(self.device)

    def compute(self) -> list[Outcome]:
        """Run the cells one after another; damaged data sets are found before anything is computed."""
        for name in self.usable:
            self.library.dataset(name)
        outcomes = []
        for cell in self.cells():
            outcome = self.runner.run(cell)
            if outcome.status != "kept":
                tqdm.write(
                    f"{cell}: {outcome.status}{outcome.reason and ', ' + outcome.reason}", file=sys.stderr
                )
            outcomes.append(outcome)
        return outcomes

    def report(self, outcomes: list[Outcome]) -> Report:
        """Render what was measured, now or before."""
        reasons = {o.cell: f"{o.status}: {o.reason}" for o in outcomes if o.reason}

        def why_missing(entry: Entry) -> str:
            for seed in self.seeds:
                cell = entry.cell(self.preset, seed)
                if cell in reasons:
                    return reasons[cell]
            return self._why_not_run(entry)

        return write_report(self.table, self.preset, self.seeds, self.runs, self.results, why_missing)

    def dry_run(self) -> Iterator[str]:
        """What would be run, line by line, with every setting; nothing is computed or written."""
        budget = PRESETS[self.preset]
        yield f"Table {self.number}, preset {self.preset}: {budget}"
        for name in dict.fromkeys(e.dataset for e in self.table.entries if self._asked(e.dataset)):
            yield f"data set {name}: {self._data_state(name)}"
        for cell in self.cells():
            if not self.library.is_prepared(cell.test_dataset):
                yield f"{cell}: to do, after its data set was generated"
                settings = (
                    METHODS[cell.method]
                    .load()
                    .configure(
                        variant=cell.variant,
                        preset=cell.preset,
                        dataset=cell.train_dataset or cell.test_dataset,
                        image_size=budget.image_size,
                    )
                )
                yield f"  {settings}"
                continue
            yield f"{cell}: {self.runner.state(cell)}"
            yield "  " + json.dumps(Job(cell, self.library).settings)

    def _asked(self, name: str) -> bool:
        return not self.datasets or name in self.datasets

    def _data_state(self, name: str) -> str:
        if self.library.is_prepared(name):
            return f"prepared in {self.library.path(name)}"
        if DATASETS[name].generated:
            return f"would be generated: {self.library.prepare_command(name)}"
        return f"not prepared: {self.library.prepare_command(name)}"

    def _why_not_run(self, entry: Entry) -> str:
        if entry.method not in METHODS:
            return "no implementation of it here"
        if not self.library.is_prepared(entry.dataset) and not DATASETS[entry.dataset].generated:
            return f"not prepared: {self.library.prepare_command(entry.dataset)}"
        return (
            f"not run yet: python -m benchmarks table {self.number} --preset {self.preset} "
            f"--methods {entry.method} --datasets {entry.dataset}"
        )
