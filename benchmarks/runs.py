"""One cell: fit -> segment -> score, in a folder named by the hash of its settings.

`RUNS/cells/<key>` holds config.json, scores.csv (one line per image), panels.npz, examples.npz, row.json and `done`;
`RUNS/fits/<key>` holds what cells share: config.json, progress.jsonl, checkpoints, live.png, fit.json and `done`. A
failure leaves error.txt and no `done`, and is tried again on request. A finished cell is kept.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from baselines.matching import STRATEGIES
from benchmarks import provenance
from benchmarks.cells import Cell, Row, read_row
from benchmarks.data import Evaluation, Library
from benchmarks.errors import BenchmarkError, Busy, CellError
from benchmarks.faults import check_class
from benchmarks.files import closed, is_refusal, last_line, named, read_json, reason, write_atomic, write_json
from benchmarks.jobs import Job, configured, row_command
from benchmarks.locks import claim, holder
from benchmarks.pictures import EXAMPLES, PANELS, draw_panels, extremes, make_panels, save_panels
from benchmarks.progress import segment_progress
from benchmarks.registry import METHODS
from benchmarks.rows import SCORES
from benchmarks.scoring import Scores, score
from benchmarks.tables import headline
from benchmarks.training import fit_method
from data_prep.errors import DataPrepError

log = logging.getLogger(__name__)

PICTURES = 8
"""Images in a live picture and in a cell's panels."""
EXAMPLES_EACH = 3
"""Of the worst images, of the median ones and of the best."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    status: str
    """computed | kept (it was there) | failed | busy | skipped"""
    reason: str = ""
    unset: bool = False
    """Whether the method's own code could not set the cell up."""


@dataclass
class Runner:
    """Computes cells into one runs folder, from one library of data sets."""

    runs: Path
    library: Library
    table: str = "1"
    device: str = "auto"
    force: bool = False
    retry: bool = False
    """Try again what failed before; otherwise a kept error stands."""
    elsewhere: bool = False
    """Cells are computed on other machines: whether a method can run on this one does not count."""

    def __post_init__(self) -> None:
        self._forced: set[Path] = set()
        provenance.commit()  # what runs is what is there now, whatever is committed meanwhile

    def run(self, cell: Cell) -> Outcome:
        """Compute the cell unless it is done.

        What is wrong with it alone, such as a method that crashes or a data set that is damaged, makes a failed
        Outcome. Raises BenchmarkError for a device that is not there and for a full or read-only disk, and
        KeyboardInterrupt when stopped; what was complete stays.
        """
        job = self._job(cell)
        if isinstance(job, Outcome):
            return job
        folder = self.runs / "cells" / job.key
        if why := closed(folder):
            return Outcome(cell, "failed", why)
        self._set_aside(folder)
        if finished(folder):
            return Outcome(cell, "kept")
        if (folder / "error.txt").exists() and not self.retry:
            why = last_line(folder / "error.txt")
            return Outcome(cell, "failed", f"{why} (see {folder / 'error.txt'}; --retry tries it again)")
        if (folder / "done").exists() and not holder(folder):  # its row is damaged, or a newer version's
            self._replace(folder)
        try:
            with claim(folder):
                if finished(folder):  # by another process meanwhile
                    return Outcome(cell, "kept")
                self._compute(job, folder)
        except Busy as error:
            return Outcome(cell, "busy", str(error))
        except (CellError, DataPrepError) as error:
            return Outcome(cell, "failed", str(error))  # without a kept error: what is mended is computed
        except BenchmarkError:
            raise
        except (Exception, SystemExit) as error:  # a wrapped program of somebody's may end the process
            return self._failed(cell, folder, error)
        return Outcome(cell, "computed")

    def key(self, cell: Cell) -> str | None:
        """What the cell's folder is called; None where its method cannot run here."""
        return self.key_of_rows(cell) or None

    def key_of_rows(self, cell: Cell) -> str | None:
        """The same, but empty where the method's own code cannot set the cell up: no row is of its settings then."""
        job = self._job(cell)
        if isinstance(job, Job):
            return job.key
        return "" if job.unset else None

    def state(self, cell: Cell) -> tuple[str, str]:
        """`done`, `running`, `skipped`, `failed`, `closed` or `to do`, and who or why, without computing anything.

        Only a data set that can be generated and is not there is made.
        """
        job = self._job(cell)
        if isinstance(job, Outcome):
            return job.status, job.reason
        folder = self.runs / "cells" / job.key
        if why := closed(folder):
            return "closed", why
        if finished(folder):
            return "done", ""
        if who := holder(folder):
            return "running", who
        if (folder / "error.txt").exists():
            return "failed", f"{last_line(folder / 'error.txt')} (see {folder / 'error.txt'})"
        return "to do", ""

    def measured_at(self, cell: Cell) -> int | None:
        """When the row of a cell was written, in nanoseconds; None if there is none."""
        try:
            return (self.runs / "cells" / str(self.key(cell)) / "row.json").stat().st_mtime_ns
        except OSError:
            return None

    def is_open(self, cell: Cell) -> bool:
        """Whether there is anything left to do for a cell."""
        return self.state(cell)[0] not in ("done", "skipped")

    def _job(self, cell: Cell) -> Job | Outcome:
        """The cell with its settings, or what becomes of it since it is not run here."""
        try:
            method = METHODS[cell.method].load()
            try:
                check_class(cell.method, method)
            except BenchmarkError as error:
                return Outcome(cell, "failed", str(error), unset=True)
            why = None if self.elsewhere else method.skip()
            if not isinstance(why, str | None):
                raise TypeError(f"skip() gave {why!r} where None or a sentence is expected")
            if why:
                return Outcome(cell, "skipped", why)
            plain = replace(cell, variant=headline(cell.method))
            if plain != cell and configured(plain) == configured(cell):
                why = f"under {cell.preset} its settings are those of the variant {plain.variant}"
                return Outcome(cell, "skipped", why)
            return Job(cell, self.library)
        except (ImportError, ValueError) as error:  # a package is missing; a setting is unknown to the method
            unset = isinstance(error, ValueError)
            return Outcome(cell, "skipped", f"{cell.method} cannot be set up: {reason(error)}", unset)
        except (BenchmarkError, DataPrepError) as error:  # of the data set
            return Outcome(cell, "failed", str(error))
        except Exception as error:  # a fault of the method's own code, which is no reason to stop the others
            log.debug("%s cannot be set up", cell, exc_info=True)
            last = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{cell.method} cannot be set up: {named(error)} ({last.filename}:{last.lineno})"
            return Outcome(cell, "failed", why, unset=True)

    def _compute(self, job: Job, folder: Path) -> None:
        cell = job.cell
        write_json(folder / "config.json", {**job.settings, "fit_key": job.fit_key})
        for name in {cell.test_dataset, cell.train_dataset} - {""}:
            self.library.verify(name)
        data = self.library.evaluation(cell.test_dataset, cell.split)
        method, trained = METHODS[cell.method].load()(), METHODS[cell.method].trained
        device = provenance.resolve_device(self.device) if trained else "cpu"
        provenance.forget_peak_memory(device)
        fit = self._fit(method, job, data, device)
        method.config = job.config  # the fit may have been made for a cell that infers otherwise
        began = time.monotonic()
        with segment_progress(f"{cell.method} segments {cell.test_dataset} {cell.split}") as progress:
            scores = score(method, data, METHODS[cell.method].protocol, progress)
        segment_seconds = time.monotonic() - began + getattr(method, "kept_seconds", 0.0)
        write_atomic(folder / SCORES, scores.table.to_csv(index=False, float_format="%.6f"))
        some = slice(0, PICTURES)
        generated = method.panels(data.images[some])
        if not isinstance(generated, dict):
            raise TypeError(f"panels gave {generated!r} where a dictionary of pictures is expected")
        panels = make_panels(data.images[some], generated, data.truth[some], scores.foreground[some])
        save_panels(folder / PANELS, panels)
        few = extremes(scores.table["iou"].to_numpy(), EXAMPLES_EACH)
        kept = make_panels(data.images[few], {}, data.truth[few], scores.foreground[few])
        save_panels(folder / EXAMPLES, kept)
        fit |= {"restarts": getattr(method, "restarts", 0)}
        row = self._row(job, scores, device, fit, segment_seconds)
        write_json(folder / "row.json", row.to_json())
        try:
            read_row(folder / "row.json")
        except BenchmarkError as error:  # of a method that says of itself what no row holds
            raise TypeError(str(error)) from error
        (folder / "error.txt").unlink(missing_ok=True)
        write_atomic(folder / "done", "")

    def _fit(self, method: Any, job: Job, data: Evaluation, device: str) -> dict[str, Any]:
        """Fit, or load what was fitted; returns what fit.json holds."""
        cell = job.cell
        if not METHODS[cell.method].trained:
            method.fit(
                data.images[:0],
                config=job.config,
                seed=cell.seed,
                device=device,
                checkpoint_dir=self.runs / "fits",
                progress=lambda step, total, **values: None,
            )
            return {"train_seconds": 0.0, "train_steps": 0}
        folder = self.runs / "fits" / job.fit_key
        self._set_aside(folder)
        with claim(folder):
            write_json(folder / "config.json", job.fit_settings)
            some = slice(0, PICTURES)
            before = (folder / "done").exists()
            progress = fit_method(
                method,
                self.library.training_images(cell.train_dataset, job.train_rows),
                job.config,
                cell.seed,
                device,
                folder,
                f"{cell.method} trains on {cell.train_dataset}",
                live=partial(draw_live, folder / "live.png", method, data.images[some], data.truth[some]),
                afresh=before,
            )
            if not before and not progress.steps:
                raise TypeError(
                    f"{cell.method} trained without calling progress: call progress(step, total) after every step"
                )
            if progress.called or not before:  # its checkpoints may have gone since it was done
                facts = {
                    "train_seconds": round(progress.seconds, 2),
                    "train_steps": progress.steps,
                    "commit": provenance.commit(),
                    "peak_memory_mb": provenance.peak_memory_mb(),
                    "peak_gpu_memory_mb": provenance.peak_gpu_memory_mb(device),
                    "device": provenance.device_text(device),
                }
                write_json(folder / "fit.json", facts)
                write_atomic(folder / "done", "")
        return read_facts(folder / "fit.json")

    def _row(self, job: Job, scores: Scores, device: str, fit: dict[str, Any], segment_seconds: float) -> Row:
        cell, settings, iou, dice = job.cell, job.settings, scores.iou, scores.dice
        gpu = provenance.peak_gpu_memory_mb(device)
        return Row(
            table=self.table,
            **asdict(cell),
            protocol=settings["protocol"],
            n_images=len(scores.table),
            iou=iou.mean,
            dice=dice.mean,
            fg_ari=scores.fg_ari,
            iou_low=iou.low,
            iou_high=iou.high,
            dice_low=dice.low,
            dice_high=dice.high,
            alternatives=scores.alternatives,
            failures=scores.failures,
            restarts=fit["restarts"],
            train_seconds=fit["train_seconds"],
            train_steps=fit["train_steps"],
            segment_seconds=round(segment_seconds, 2),
            peak_memory_mb=max(provenance.peak_memory_mb(), fit.get("peak_memory_mb") or 0.0),
            peak_gpu_memory_mb=None if gpu is None else max(gpu, fit.get("peak_gpu_memory_mb") or 0.0),
            device=provenance.devices(fit.get("device"), device),
            command=row_command(cell),
            commit=provenance.commits(fit.get("commit")),
            versions=provenance.versions(),
            data_sha256=settings["data_sha256"],
            train_data_sha256=settings["train_data_sha256"],
            image_size=settings["image_size"],
            train_images=settings["train_images"],
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            key=job.key,
            data_name=self.library.dataset(cell.test_dataset).name,
        )

    def _failed(self, cell: Cell, folder: Path, error: Exception | SystemExit) -> Outcome:
        if is_refusal(error, self.runs):
            raise BenchmarkError(
                f"cannot go on writing below {self.runs}: {reason(error)}; make room or permit it and run "
                "the same command again, finished cells and checkpoints are kept"
            ) from error
        file = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        why = f"{named(error)}{file}"
        write_atomic(folder / "error.txt", f"{traceback.format_exc()}\n{why}\n")
        log.debug("%s failed", cell, exc_info=True)
        return Outcome(cell, "failed", f"{why} (see {folder / 'error.txt'})")

    def _set_aside(self, folder: Path) -> None:
        """With force: move a folder's earlier content to RUNS/replaced, once in this run."""
        if not self.force or folder in self._forced:
            return
        self._forced.add(folder)
        if folder.exists():
            if who := holder(folder):
                raise BenchmarkError(f"{who} is at work in {folder}: wait for it, or leave --force out")
            self._replace(folder)

    def _replace(self, folder: Path) -> None:
        """Move a folder to RUNS/replaced."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        target = self.runs / "replaced" / f"{folder.parent.name}-{folder.name}-{stamp}"
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)


def finished(folder: Path) -> bool:
    """Whether a cell's folder is complete: a cell whose row cannot be read is computed again."""
    if not (folder / "done").exists():
        return False
    try:
        read_row(folder / "row.json")
    except BenchmarkError as error:
        log.warning("%s; the cell is not finished so", error)
        return False
    return True


def read_facts(file: Path) -> dict[str, Any]:
    """What fit.json holds. Raises CellError if it is missing or damaged."""
    remedy = f"delete {file.parent / 'done'}, and it is made anew from the training's checkpoints"
    try:
        facts: dict[str, Any] = read_json(file, remedy)
    except BenchmarkError as error:
        raise CellError(str(error)) from error
    if not isinstance(facts, dict) or not {"train_seconds", "train_steps"} <= facts.keys():
        raise CellError(f"{file} cannot be read (it lacks train_seconds or train_steps): {remedy}")
    return facts


def draw_live(
    path: Path, method: Any, images: np.ndarray, truth: np.ndarray, check: Callable[[], None]
) -> None:
    """Write the picture of how the method does now on a few images that are scored later.

    `check` is called all along and may raise KeyboardInterrupt. A method that is slow to segment is asked to `glance`.
    """
    seen = method.glance() if hasattr(method, "glance") else method

    def progress(step: int, total: int, **values: float) -> None:
        check()

    masks = seen.segment(images, progress=progress)
    foreground = STRATEGIES[METHODS[method.name].protocol](masks, truth)
    panels = make_panels(images, seen.panels(images), truth, foreground)
    write_atomic(path, draw_panels({method.name: panels}))
