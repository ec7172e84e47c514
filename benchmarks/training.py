"""A training, of a table or outside of them: in a folder of its own, with a bar, going on where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import provenance
from benchmarks.errors import BenchmarkError
from benchmarks.files import named, write_json
from benchmarks.locks import claim
from benchmarks.progress import FitProgress
from benchmarks.registry import METHODS
from benchmarks.stops import GentleStop

log = logging.getLogger(__name__)


def fit_method(
    method: Any,
    images: np.ndarray,
    config: Any,
    seed: int,
    device: str,
    folder: Path,
    title: str,
    *,
    live: Callable[[Callable[[], None]], None] = lambda check: None,
    afresh: bool = False,
) -> FitProgress:
    """Fit a method to images (N, S, S, 3) uint8 behind a bar headed by `title`, its checkpoints in FOLDER/checkpoints.

    `live(check)` draws a picture now and then, and calls `check` all along. With `afresh` the record of earlier runs is
    given up if a step is taken. Raises KeyboardInterrupt when stopped, after the method has saved: the same call goes
    on; TypeError where the method takes fewer steps than it said.
    """
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    with GentleStop() as stop:
        progress = FitProgress(folder, title, stop, partial(live, stop.check), afresh=afresh)
        try:
            method.fit(
                images,
                config=config,
                seed=seed,
                device=device,
                checkpoint_dir=folder / "checkpoints",
                progress=progress,
            )
        finally:
            progress.close()
        stop.check()
    if progress.steps != progress.total and (progress.called or not afresh):
        raise TypeError(
            f"fit came back after progress({progress.steps}, {progress.total}): it is to take all steps, counted from "
            f"1; where it does now, delete {folder}"
        )
    return progress


def train(
    title: str,
    name: str,
    images: np.ndarray,
    config: Any,
    seed: int,
    device: str,
    folder: Path,
    settings: Any,
) -> tuple[Any, dict[str, Any]]:
    """The method `name` fitted to images (N, S, S, 3) uint8, and what that took: train_steps and train_seconds.

    The bar is headed by `title`; `settings`, a dictionary, are kept in the folder for its reader. Raises
    BenchmarkError for a folder in use and for a training that failed, and KeyboardInterrupt when stopped; the same call
    goes on.
    """
    provenance.commit()  # of what trains; the row names it, whatever is committed meanwhile
    method = METHODS[name].load()()
    with claim(folder):
        write_json(folder / "config.json", settings)
        try:
            progress = fit_method(method, images, config, seed, device, folder, title)
        except Exception as error:
            log.debug("%s failed", title, exc_info=True)
            raise BenchmarkError(
                f"{title} failed in {folder}: {named(error)}; what was done is kept there, "
                "and deleting that folder starts it anew"
            ) from error
    return method, {"train_steps": progress.steps, "train_seconds": round(progress.seconds, 1)}
