"""Signs of a valid re-implementation: each trained baseline on a toy of the kind that it is made for.

A training is kept below `RUNS/validate`, with checkpoints, and goes on where it was stopped. Its settings are those
of the budget `quick` with the changes that stand here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines.matching import STRATEGIES
from benchmarks import provenance
from benchmarks.cells import settings_key
from benchmarks.files import write_json
from benchmarks.flat import read_flat_row, read_rows
from benchmarks.jobs import fit_config, settings_of
from benchmarks.metrics import foreground_ari, iou
from benchmarks.progress import segment_progress
from benchmarks.registry import METHODS
from benchmarks.toys import coloured_sprites, two_textures
from benchmarks.training import train

SCORED = 320  # images, drawn apart from those of the training


def region_score(masks: np.ndarray, truth: np.ndarray) -> float:
    """Mean IoU by the protocol of two regions: for each image, the region that overlaps the object better."""
    return float(iou(STRATEGIES["image-permutation"](masks, truth), truth).mean())


def slot_score(masks: np.ndarray, objects: np.ndarray) -> float:
    """Mean foreground ARI of the slots: no matching is needed."""
    return float(np.nanmean(foreground_ari(masks.argmax(axis=1), objects)))


@dataclass(frozen=True)
class Toy:
    """Images with their truth, and how masks are scored against it."""

    about: str
    figure: str
    draw: Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
    """(count, size, seed) -> images and truth."""
    score: Callable[[np.ndarray, np.ndarray], float]


TOYS = {
    "two-textures": Toy("one striped disc on stripes", "IoU, better region", two_textures, region_score),
    "coloured-sprites": Toy("three plain sprites on grey", "fg-ARI", coloured_sprites, slot_score),
}


@dataclass(frozen=True)
class Task:
    """What a method must reach, and with which settings."""

    toy: str
    target: float
    image_size: int
    train_images: int
    changes: dict[str, Any]
    """To the method's budget `quick`."""


TASKS: dict[str, Task] = {
    "ReDO": Task(
        "two-textures",
        0.70,
        16,
        1_000,
        {"width": 16, "z_dim": 8, "train_steps": 6_000, "collapse_until": 6_000},
    ),
    "IODINE": Task(
        "coloured-sprites",
        0.80,
        16,
        5_000,
        {"slots": 4, "iterations": 5, "lr": 1e-3, "lr_decay_steps": 16_000, "train_steps": 20_000},
    ),
    "Slot-Attention": Task(
        "coloured-sprites",
        0.90,
        32,
        5_000,
        {"slots": 4, "lr": 1e-3, "decay_steps": 9_000, "train_steps": 28_000},
    ),
}


FIELDS: dict[str, Any] = {
    **dict.fromkeys(("method", "figure", "device", "command", "commit"), str),
    **dict.fromkeys(("seed", "train_steps", "restarts"), int),
    **dict.fromkeys(("reached", "target", "train_seconds"), int | float),
    "versions": dict,
}
"""What a row has, and of which kind."""


def validate(name: str, seed: int, runs: Path, device: str) -> dict[str, Any]:
    """Train and score one method, or read what was found before: a flat row.

    Raises BenchmarkError for a folder in use, and KeyboardInterrupt when stopped; the same call goes on.
    """
    task, toy = TASKS[name], TOYS[TASKS[name].toy]
    cls = METHODS[name].load()
    config = dataclasses.replace(
        cls.configure(variant="full", preset="quick", dataset=task.toy, image_size=task.image_size),
        **task.changes,
    )
    settings = {
        "method": name,
        "toy": task.toy,
        "train_images": task.train_images,
        "seed": seed,
        "config": fit_config(config),
    }
    folder = runs / "validate" / f"{name}-{settings_key(settings)}"
    found = folder / f"row-{settings_key(settings_of(config))}.json"
    if found.exists():
        return read_flat_row(found, FIELDS)
    device = provenance.resolve_device(device)
    provenance.forget_peak_memory(device)
    images, _ = toy.draw(task.train_images, task.image_size, 2 * seed)
    unseen, truth = toy.draw(SCORED, task.image_size, 2 * seed + 1)
    method, taken = train(
        f"{name} trains on {task.toy}", name, images, config, seed, device, folder, settings
    )
    with segment_progress(f"{name} segments {task.toy}") as shown:
        score = toy.score(method.segment(unseen, progress=shown), truth)
    row = {
        "method": name,
        "toy": f"{toy.about}, {task.image_size} px",
        "figure": toy.figure,
        "reached": round(score, 4),
        "target": task.target,
        "images": SCORED,
        **taken,
        "restarts": getattr(method, "restarts", 0),
        "seed": seed,
        "data_sha256": hashlib.sha256(images.tobytes() + unseen.tobytes()).hexdigest(),
        **provenance.made_on(device, f"python -m benchmarks validate --methods {name} --seed {seed}"),
    }
    write_json(found, row)
    return row


def earlier_rows(results: Path) -> list[dict[str, Any]]:
    """The rows of RESULTS/validate.json, of methods that still have a task.

    BenchmarkError names a file that does not hold such rows.
    """
    return [row for row in read_rows(results, "validate", FIELDS) if row["method"] in TASKS]


def joined(earlier: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier and new rows by seed, in the order of TASKS; a new one in the place of one of its method and seed."""
    rows = {(row["seed"], row["method"]): row for row in (*earlier, *new)}.values()
    return sorted(rows, key=lambda row: (row["seed"], list(TASKS).index(row["method"])))


def as_text(rows: list[dict[str, Any]]) -> str:
    """For a terminal: what was reached, against what was asked."""
    lines = [f"{'':15} {'figure':20} reached  target  steps  minutes  restarts"]
    for row in rows:
        lines.append(
            f"{row['method']:15} {row['figure']:20} {row['reached']:7.3f} {row['target']:7.2f} {row['train_steps']:6}"
            f" {row['train_seconds'] / 60:8.1f} {row['restarts']:9}"
            f"{'' if row['reached'] >= row['target'] else '   missed'}"
        )
    return "\n".join(lines)
