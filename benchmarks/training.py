"""A training outside of the tables: in a folder of its own, with a bar and checkpoints, going on where it was."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import provenance
from benchmarks.errors import BenchmarkError
from benchmarks.files import reason, write_json
from benchmarks.locks import claim
from benchmarks.progress import FitProgress, GentleStop
from benchmarks.registry import METHODS

log = logging.getLogger(__name__)


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
    with claim(folder), GentleStop() as stop:
        write_json(folder / "config.json", settings)
        progress = FitProgress(folder, title, stop, live=lambda: None)
        try:
            method.fit(
                images,
                config=config,
                seed=seed,
                device=device,
                checkpoint_dir=folder / "checkpoints",
                progress=progress,
            )
        except Exception as error:
            log.debug("%s failed", title, exc_info=True)
            raise BenchmarkError(
                f"{title} failed in {folder}: {type(error).__name__}: {reason(error)}; what was done is kept there, "
                "and deleting that folder starts it anew"
            ) from error
        finally:
            progress.close()
        stop.check()
    return method, {"train_steps": progress.steps, "train_seconds": round(progress.seconds, 1)}
