"""The folder of a training run: its settings, what it says of itself as it goes, curves and samples."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from drc import fast
from drc.config import completed
from drc.curves import draw_curves
from drc.files import alone_in, write_atomic, write_json, write_png
from drc.sheets import column, figure_columns, sheet
from drc.trainer import Trainer

log = logging.getLogger(__name__)

CURVE_SECONDS = 120.0
SAMPLES = 20  # pictures of samples in a whole run, of few steps up to twice as many
SAMPLE_IMAGES = 8


class RunError(Exception):
    """A run's folder cannot be used; the message is one sentence for the user."""


@contextmanager
def claimed(folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Hold the folder of a run, made where it is missing, so that no other process writes into its record.

    RunError if another process trains there, or if config.json says that it is another run's.
    """
    busy = f"{folder} is being trained in by another process; wait for that, stop it, or name another folder"
    with alone_in(folder, RunError(busy)):
        check_identity(folder, identity)
        yield


def check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Write what a run is as config.json, or find that it is the same run; RunError if it is another one."""
    file = folder / "config.json"
    if not file.exists():
        write_json(file, identity)
        return
    try:
        theirs = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{file} is not a whole JSON file; name another folder, or delete this one") from error
    theirs, ours = flat(theirs), flat(identity)
    if changed := [name for name in ours if theirs.get(name) != ours[name]]:
        raise RunError(
            f"{folder} holds a run that differs in {', '.join(changed)} (see {file}); name another folder, or "
            "delete this one to start anew"
        )


def flat(identity: dict[str, Any]) -> dict[str, Any]:
    """What a run is, its settings on one level with the rest."""
    settings = identity.get("settings")
    return identity | (completed(settings) if isinstance(settings, dict) else {}) | {"settings": None}


class RunProgress:
    """The `progress` of a training: a bar, progress.jsonl, curves.png, and samples-<step>.png now and then.

    Seconds count over restarts. Whatever cannot be drawn or written costs a warning, never the training.
    """

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self.lines = read_lines(folder / "progress.jsonl")
        self.bar: tqdm | None = None
        self.began = self.drawn = time.monotonic()
        self.before = 0.0

    def __call__(self, step: int, total: int, **values: float) -> None:
        if self.bar is None:
            self._start(step, total)
        assert self.bar is not None
        shown = {name: f"{value:.4f}" for name, value in values.items() if name == "reconstruction"}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(step - self.bar.n)
        self._guarded(lambda: self._record(step, total, values))
        if step == total or step % max(1, total // SAMPLES) == 0:
            self._guarded(lambda: self._draw_samples(step))
        if time.monotonic() - self.drawn > CURVE_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw curves.png of what there is."""
        if self.lines:
            self._guarded(lambda: write_atomic(self.folder / "curves.png", draw_curves(self.lines)))
        self.drawn = time.monotonic()

    def close(self) -> None:
        """Finish the bar and the curves."""
        if self.bar is not None:
            self.bar.close()
            self.draw()

    def _start(self, step: int, total: int) -> None:
        """Forget the lines of steps after the checkpoint that the run goes on from: they are done again."""
        self.lines = [line for line in self.lines if line["step"] < step]
        self.before = self.lines[-1]["seconds"] if self.lines else 0.0
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        self._guarded(lambda: write_atomic(self.folder / "progress.jsonl", text))
        self.bar = tqdm(total=total, initial=step - 1, desc=self.folder.name, unit="step", mininterval=0.5)

    def _record(self, step: int, total: int, values: dict[str, float]) -> None:
        seconds = round(self.before + time.monotonic() - self.began, 3)
        line: dict[str, Any] = {"step": step, "total": total, "seconds": seconds}
        line |= {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
        self.lines.append(line)
        with (self.folder / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _draw_samples(self, step: int) -> None:
        """Figure 3's rows for the first training images, from where their posterior chains stand."""
        trainer, rows = self.trainer, range(min(SAMPLE_IMAGES, self.trainer.count))
        with torch.no_grad():
            regions = fast.render(trainer.model, trainer.posterior_chains[list(rows)].to(trainer.device))
        images = np.asarray(trainer.images[: len(rows)])
        columns = [column(panels) for panels in figure_columns(images, regions)]
        write_png(self.folder / f"samples-{step:08d}.png", sheet(columns, [f"image {i}" for i in rows]))

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            log.warning("%s: the record of this training has a gap (%s)", self.folder, error)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a progress.jsonl; what a crash left cut short is passed over, and so is a missing file."""
    lines = []
    if file.exists():
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
                line = json.loads(text)
                lines.append(line | {"step": int(line["step"]), "seconds": float(line["seconds"])})
    return lines
