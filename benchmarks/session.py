"""One invocation of a table or sweep: which cells, where they run, and what to say of those that did not."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from benchmarks.cells import Cell
from benchmarks.collect import read_runs, seeds_of
from benchmarks.data import Library, hashes_below
from benchmarks.errors import BenchmarkError
from benchmarks.files import usable_folder
from benchmarks.grid import Style
from benchmarks.jobs import Job, configured
from benchmarks.launch import Launch, count_gpus, group_cells, group_command, run_locally, submit
from benchmarks.notes import why_missing
from benchmarks.page import write_page
from benchmarks.provenance import resolve_device
from benchmarks.registry import DATASETS, METHODS, PRESETS, REPORTED, TABLES
from benchmarks.runs import Outcome, Runner
from benchmarks.table_files import TableFiles, write_table
from benchmarks.tables import Entry, Table, plan
from data_prep.errors import DataPrepError

log = logging.getLogger(__name__)


def belongs(name: str, asked: str) -> bool:
    """Whether a data set is the one asked for, or a split or part of it: birds-split with birds."""
    return name == asked or name.startswith(f"{asked}-")


@dataclass
class Session:
    """What was asked for, names already checked."""

    table: Table
    preset: str
    data: Path
    runs: Path
    results: Path
    datasets: list[str]
    """Empty: every data set that is prepared or can be generated."""
    methods: list[str]
    """Empty: every method of the table."""
    seeds: list[int] | None = None
    """None: seed 0 is computed, and what is rendered without computing is every seed that there is."""
    device: str = "auto"
    force: bool = False
    retry: bool | None = None
    """Whether to try again what failed before; None: only where this process does it all."""
    style: Style = field(default_factory=Style)
    launch: Launch = field(default_factory=Launch)

    @property
    def is_sweep(self) -> bool:
        """Whether its table is made of the words of a command, and not one of the suite's."""
        return self.table.number not in TABLES

    @cached_property
    def library(self) -> Library:
        """The data sets, as the budget uses them."""
        return Library(self.data, self.preset)

    @cached_property
    def runner(self) -> Runner:
        """What computes cells."""
        retry = self.retry if self.retry is not None else self.jobs == 1
        elsewhere = self.launch.launcher == "slurm"
        return Runner(self.runs, self.library, self.table.number, self.device, self.force, retry, elsewhere)

    @cached_property
    def jobs(self) -> int:
        """Trainings at once on this machine."""
        return self.launch.jobs or (count_gpus() if self.device == "cuda" else 1) or 1

    @cached_property
    def usable(self) -> list[str]:
        """Those of the data sets that are prepared or can be generated."""
        return [name for name in self._named() if self.library.is_prepared(name) or DATASETS[name].generated]

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells to run."""
        methods = self.methods or list(METHODS)
        planned = plan(self.table, self.preset, methods, self.usable, self.seeds or [0])
        return [cell for cell in planned if self._asked(cell.test_dataset)]

    @cached_property
    def needed(self) -> list[str]:
        """The data sets of those cells."""
        return list(dict.fromkeys(n for c in self.cells for n in (c.test_dataset, c.train_dataset) if n))

    def check_names(self) -> None:
        """Raise BenchmarkError for a data set or method that was asked for and that the table has not."""
        there = {entry.dataset for entry in self.table.entries}
        for name in self.datasets:
            if not any(belongs(n, name) for n in there):
                raise BenchmarkError(
                    f"{self.table.heading}: nothing is scored on {name!r} there; it has {', '.join(sorted(there))}"
                )
        run = dict.fromkeys(entry.method for entry in self.table.entries if entry.method in METHODS)
        for name in self.methods:
            if name not in run:
                raise BenchmarkError(
                    f"{self.table.heading}: {name!r} is not run there; it has {', '.join(run)}"
                )

    def check(self, *, compute: bool) -> None:
        """Raise BenchmarkError now, rather than after hours, for a folder or device that cannot be used."""
        usable_folder(self.results, "rendered tables")
        if self.launch.parameters and self.launch.launcher != "slurm":
            raise BenchmarkError("--slurm is for --launcher slurm: ask for that too, or leave it out")
        if not compute and self.runs != Path("runs") and not (self.runs / "cells").is_dir():
            log.warning("%s holds no cells: only rows kept in %s are shown", self.runs, self.results / "rows")
        if compute:
            usable_folder(self.runs, "cells and checkpoints")
            if any(not self.library.is_prepared(name) for name in self.needed):
                usable_folder(self.data, "data sets")
            here = self.launch.launcher != "slurm"  # whose jobs find the GPU where they run
            if self.device == "cuda" and here and any(METHODS[cell.method].trained for cell in self.cells):
                resolve_device(self.device)

    @cached_property
    def faulty(self) -> dict[str, str]:
        """The data sets of the cells that cannot be opened or generated, and why: what they are needed for fails.

        Where a cell is left to do, the hashes of its data sets are checked too. Raises BenchmarkError or DataPrepError
        where every cell needs one that is faulty.
        """
        faults: dict[str, BenchmarkError | DataPrepError] = {}
        left = [cell for cell in self.cells if self.force or self.runner.is_open(cell)]
        read = {name for cell in left for name in (cell.test_dataset, cell.train_dataset)}
        for name in self.needed:
            try:
                self.library.dataset(name)
                if name in read:
                    self.library.verify(name)
            except (BenchmarkError, DataPrepError) as error:
                faults[name] = error
        if faults and all({cell.test_dataset, cell.train_dataset} & faults.keys() for cell in self.cells):
            raise next(iter(faults.values()))
        return {name: str(error) for name, error in faults.items()}

    def compute(self) -> list[Outcome]:
        """Run the cells; data sets that cannot be used are named before anything is computed."""
        for why in self.faulty.values():
            tqdm.write(f"{why.rstrip('.')}; what needs no such data set is computed", file=sys.stderr)
        if self.jobs == 1:
            outcomes = [self._run(cell, untold=("kept", "busy")) for cell in self.cells]
            # Who held a cell for the sake of its training may have turned to another.
            return [self._run(o.cell) if o.status == "busy" else o for o in outcomes]
        return self._run_apart()

    def submit(self) -> list[str]:
        """Send what is not done, and can be, to Slurm; the numbers of the jobs."""
        commands = [words for _, words in self._work()]
        jobs = submit(commands, self.launch, self.device, self.runs / "slurm") if commands else []
        return [str(job.job_id) for job in jobs]

    def left_out(self) -> Iterator[str]:
        """A line on each cell that is neither done nor submitted, with its reason."""
        given_up = self.given_up()
        for cell in self.cells:
            state, why = self.runner.state(cell)
            if cell in given_up:
                yield f"{cell} failed in an earlier run: {why}; --retry tries it again"
            elif state == "skipped" and not self._fault_of(cell):
                yield f"{cell}: skipped, {why}"

    def commands(self) -> Iterator[str]:
        """The commands that would do it, data sets first, ready to be pasted; comments on what cannot be done."""
        yield from (f"# {line}" for line in self.unprepared())
        for name in self.needed:
            if not self.library.is_prepared(name):
                yield self.library.prepare_command(name)
        for group in group_cells(self.cells):
            yield shlex.join(["python", *group_command(group, self._options())])

    def unprepared(self) -> Iterator[str]:
        """A line on each data set of the table that was asked for and is not there."""
        for name in self._named():
            if name not in self.usable:
                yield f"{name} is {self._data_state(name)}"

    def report(self, outcomes: list[Outcome] | None) -> TableFiles:
        """Render what was measured, now or before; None for the outcomes where nothing was to be computed."""
        current = {} if outcomes is None else self._keys() | {c: "" for c in self.cells if self._fault_of(c)}
        stored = read_runs(self.runs, self.results / "rows", current, hashes_below(self.data))
        seeds = self.seeds or [0]
        if outcomes is None and self.seeds is None:
            seeds = seeds_of(self.table, self.preset, stored) or seeds
        outcomes = outcomes or []
        reasons = {o.cell: f"{o.status}: {o.reason}" for o in outcomes if o.reason}

        def why(entry: Entry) -> str:
            for seed in seeds:
                cell = entry.cell(self.preset, seed)
                if cell in reasons:
                    return reasons[cell]
            return why_missing(self.table, self.preset, self.data, entry, self._unlike_defaults())

        report = write_table(self.table, self.preset, seeds, stored, self.runs, self.results, why, self.style)
        shown = list(REPORTED) if self.preset in REPORTED else [self.preset]
        pages = write_page(stored, self.runs, self.results, shown, self.data, self._unlike_defaults())
        return replace(report, files=(*report.files, *pages))

    def dry_run(self) -> Iterator[str]:
        """What would be run, line by line, with every setting; nothing is computed or written."""
        budget = PRESETS[self.preset]
        side = budget.image_size
        yield f"{self.table.heading}, preset {self.preset} ({budget.about}), {side}×{side} pixels"
        for name in self._named():
            yield f"data set {name}: {self._data_state(name)}"
        for cell in self.cells:
            if all(self.library.is_prepared(n) for n in (cell.test_dataset, cell.train_dataset) if n):
                state, why = self.runner.state(cell)
                state = "to do again" if self.force and state == "done" else state
                yield f"{cell}: {state}{why and ': ' + why}"
                if self.runner.key(cell) is not None:
                    yield "  " + json.dumps(Job(cell, self.library).settings)
                continue
            yield f"{cell}: to do, after its data set was generated"
            with suppress(Exception):  # of the method, which a run will name
                yield f"  {configured(cell)}"

    def _fault_of(self, cell: Cell) -> str:
        """Why a data set of a cell cannot be used; empty if it can."""
        return next((self.faulty[n] for n in (cell.test_dataset, cell.train_dataset) if n in self.faulty), "")

    def _run(self, cell: Cell, untold: tuple[str, ...] = ("kept",)) -> Outcome:
        """Compute a cell, and say what became of it unless that is `untold`."""
        why = self._fault_of(cell)
        outcome = Outcome(cell, "failed", why) if why else self.runner.run(cell)
        if outcome.status not in untold:
            tqdm.write(f"{cell}: {outcome.status}{outcome.reason and ', ' + outcome.reason}", file=sys.stderr)
        return outcome

    def _run_apart(self) -> list[Outcome]:
        """Each training in a process of its own."""
        work, given_up = self._work(), self.given_up()
        before = {cell: self.runner.measured_at(cell) for cell in self.cells}
        said = run_locally([words for _, words in work], self.jobs, self.runs / "logs", self.device)
        wrong = {cell: text for (group, _), text in zip(work, said, strict=True) for cell in group}
        outcomes = []
        for cell in self.cells:
            state, why = self.runner.state(cell)
            told = wrong.get(cell, "").removeprefix(f"Failed: {cell}: ")
            if fault := self._fault_of(cell):
                outcomes.append(Outcome(cell, "failed", fault))
            elif state == "skipped":
                outcomes.append(Outcome(cell, "skipped", why))
            elif state == "done":
                same = self.runner.measured_at(cell) == before[cell]
                if same and told:  # forced, and its process ended before it came to it
                    outcomes.append(Outcome(cell, "failed", told))
                else:
                    outcomes.append(Outcome(cell, "kept" if same else "computed"))
            elif state == "running":
                outcomes.append(Outcome(cell, "busy", f"{why} is at work on it"))
            elif cell in given_up:
                outcomes.append(Outcome(cell, "failed", f"{why} (in an earlier run; --retry tries it again)"))
            elif failure := why or told:
                outcomes.append(Outcome(cell, "failed", failure))
            else:  # its process ended well without it
                outcomes.append(Outcome(cell, "busy", "another process is at work on its training"))
        return outcomes

    def _work(self) -> list[tuple[list[Cell], list[str]]]:
        """The cells that are not done and can be, by training, each group with its command."""
        given_up = self.given_up()
        cells = [cell for cell in self.cells if not self._fault_of(cell) and cell not in given_up]
        cells = [cell for cell in cells if self.force or self.runner.is_open(cell)]
        return [(group, group_command(group, self._options())) for group in group_cells(cells)]

    def given_up(self) -> list[Cell]:
        """What failed in an earlier run, and is not tried again by one of several processes unless it is told to."""
        if self.force or self.retry:
            return []
        able = (cell for cell in self.cells if not self._fault_of(cell) and self.runner.key(cell) is not None)
        return [cell for cell in able if self.runner.state(cell)[0] == "failed"]

    def _unlike_defaults(self) -> list[str]:
        """What a command must be told to go on with this session's seeds and folders, where they are others."""
        seeds = ["--seeds", ",".join(map(str, self.seeds))] if self.seeds not in (None, [0]) else []
        return seeds + [
            word
            for name, path in self._folders().items()
            if path != Path(name)
            for word in (f"--{name}", str(path))
        ]

    def _folders(self) -> dict[str, Path]:
        return {"data": self.data, "runs": self.runs, "results": self.results}

    def _options(self) -> list[str]:
        """What a process of its own must be told beside its cells."""
        words = [word for name, path in self._folders().items() for word in (f"--{name}", str(path))]
        words += ["--device", self.device, "--retry" if self.retry else "--no-retry"]
        return words + (["--force"] if self.force else [])

    def _keys(self) -> dict[Cell, str]:
        """The keys of the cells that were to be computed, as their data and settings are now.

        Empty where the method's own code cannot say; left out where it cannot run here.
        """
        keys = {cell: self.runner.key_of_rows(cell) for cell in self.cells}
        return {cell: key for cell, key in keys.items() if key is not None}

    def _named(self) -> list[str]:
        """The data sets of the table that were asked for, and what is trained on for these."""
        asked = [entry for entry in self.table.entries if self._asked(entry.dataset)]
        return list(dict.fromkeys(n for e in asked for n in (e.dataset, e.train_dataset) if n))

    def _asked(self, name: str) -> bool:
        """Whether a data set was asked for; all are where none was."""
        return not self.datasets or any(belongs(name, asked) for asked in self.datasets)

    def _data_state(self, name: str) -> str:
        if self.library.is_prepared(name):
            return f"prepared in {self.library.path(name)}"
        if DATASETS[name].generated:
            return f"would be generated: {self.library.prepare_command(name)}"
        return f"not prepared: {self.library.prepare_command(name)}"
