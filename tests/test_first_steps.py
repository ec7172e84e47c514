"""The first steps of the committed tables' trainings: what they logged then, they log today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from committed import committed_results

from benchmarks.cells import Row
from benchmarks.data import Library
from benchmarks.jobs import configured
from benchmarks.provenance import device_text
from benchmarks.registry import METHODS
from benchmarks.rows import read_kept

GOLDEN = Path(__file__).parent / "golden"
ROWS, _ = read_kept(committed_results() / "rows")


class EnoughError(Exception):
    """Ends a training after the steps that are looked at."""


def row_of(method: str, preset: str) -> Row:
    """The row of its training on TM-dSprites, seed 0, whose images were held out."""
    wanted = (method, "full", "tm-dsprites", preset, 0, "test")
    (row,) = (r for r in ROWS if (r.method, r.variant, r.train_dataset, r.preset, r.seed, r.split) == wanted)
    return row


def first_steps(row: Row, count: int, folder: Path) -> dict[str, dict[str, float]]:
    """What the row's training logs at each of its first steps: step -> terms."""
    library, seen = Library(folder / "data", row.preset), {}

    def progress(step: int, total: int, **values: float) -> None:
        seen[str(step)] = values
        if step == count:
            raise EnoughError

    images = library.training_images(row.train_dataset, library.training_rows(row.train_dataset))
    method = METHODS[row.method].load()()
    with pytest.raises(EnoughError):
        method.fit(
            images,
            config=configured(row.cell),
            seed=row.seed,
            device="cpu",
            checkpoint_dir=folder / "checkpoints",
            progress=progress,
        )
    return seen


def golden(method: str) -> dict[str, dict[str, Any]]:
    """Step -> terms, as they were logged."""
    if method == "DRC":
        return json.loads((GOLDEN / "drc" / "first_steps.json").read_text(encoding="utf-8"))
    return json.loads((GOLDEN / "baselines" / "first_steps.json").read_text(encoding="utf-8"))[method]


@pytest.mark.parametrize(
    ("method", "preset"),
    [("DRC", "quick-ablation"), ("ReDO", "quick"), ("IODINE", "quick"), ("Slot-Attention", "quick")],
)
def test_they_are_as_they_were(method: str, preset: str, tmp_path: Path, one_thread: None) -> None:
    """DRC's golden file is the log of its row's training; the baselines' is what their rows' commit logs anew."""
    row, logged = row_of(method, preset), golden(method)
    taken = first_steps(row, max(map(int, logged)), tmp_path)
    within = 1e-4 if device_text("cpu") == row.device else 0.02
    for step, values in logged.items():
        again = {name: taken[step][name] for name in values}
        assert again == pytest.approx(values, rel=within, abs=within), step
