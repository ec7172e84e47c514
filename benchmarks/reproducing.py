"""results/REPRODUCING.md: for every kept row the command that measures it again, and what that took."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import trials, validate
from benchmarks.cells import Row
from benchmarks.errors import BenchmarkError
from benchmarks.flat import read_rows
from benchmarks.registry import DATASETS, PRESETS, REPORTED, prepare_command
from benchmarks.rows import KEPT

log = logging.getLogger(__name__)

ABOUT = """# How each figure was made

One line a row of `results/rows`. The command measures it again, from a clone, in the environment that nox made
(`.nox/run/bin/python`) or one with `pip install -e . -c constraints.txt`; `--results mine` leaves what is committed
alone. A training is done once for all the rows that share it. On the same kind of CPU, with as many threads and the
same versions, the figure comes out the same (with two threads and AMX, in one process of fifteen, it does not). On
another one, sums are taken in another order and a trained method's figure moves by about the spread over seeds;
ReDO's, whose trainings either find the objects or do not, from the one to the other. Where a device names neither
AVX2 nor AVX-512, its row was kept before devices did.
`nox -s table1` and its like run whole tables. This file is written by `python -m benchmarks report`.
"""
DATA = """## The data sets

TM-dSprites is made where it is needed. What is not prepared is named, and nothing is measured; these prepare it. The
photographs are prepared from the whole downloads, of which `--only` takes the files that were measured. The rows of
`clevr6-rendered` are of a file that is not distributed (`docs/data_cards.md`):

"""
OTHERS = """## Trials, validations, speed

A line without memory is of a row from before it was kept.

| command | figure | training, min | scoring, min | memory, MiB | device | commit |
| --- | --- | ---: | ---: | ---: | --- | --- |
"""
COMMIT = re.compile(r"\b[0-9a-f]{40}")
THREADS = re.compile(r"\b(\d+) threads\b")
HEADS = ("command", "IoU", "Dice", "training, min", "scoring, min", "memory, MiB", "device", "commit")


def to_markdown(rows: Iterable[Row], others: Iterable[tuple[str, ...]] = ()) -> str:
    """A section for each budget, its rows in the order of their methods and seeds; then the lines of `others`."""
    budgets: dict[str, list[Row]] = {name: [] for name in PRESETS}
    used: set[tuple[str, str]] = set()
    for row in rows:
        budgets.setdefault(row.preset, []).append(row)
        used |= {(row.train_dataset, row.preset), (row.test_dataset, row.preset)}
    parts = [ABOUT]
    commands = dict.fromkeys(
        f"    {prepare_command(Path('data'), name, preset)}"
        for name, spec in DATASETS.items()
        for preset in PRESETS
        if (name, preset) in used and not spec.generated
    )
    if commands:
        parts.append(DATA + "\n".join(commands) + "\n")
    for name, found in budgets.items():
        if found:
            found.sort(
                key=lambda row: (row.train_dataset != "", row.method, row.variant, row.seed, row.command)
            )
            lines = [HEADS, ("---", *["---:"] * 5, "---", "---"), *map(_cells, found)]
            parts.append(f"## Budget {name}\n\n{_table(lines)}\n")
    lines = list(others)
    return "\n".join([*parts, OTHERS + _table(lines) + "\n"] if lines else parts)


def other_results(results: Path) -> list[tuple[str, ...]]:
    """Lines on what `results` holds beside the tables: trials, validations, speed. A log names what is damaged."""
    found: list[tuple[str, ...]] = []
    for pattern, lines_of in (
        ("trials*.json", _trials),
        ("validate.json", _validations),
        ("speed*.json", _speed),
    ):
        for file in sorted(results.glob(pattern)):
            try:
                found += lines_of(file)
            except (BenchmarkError, OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s is not named in REPRODUCING.md: %r", file, error)
    return found


def _trials(file: Path) -> list[tuple[str, ...]]:
    rows = read_rows(file.parent, file.stem, trials.FIELDS)
    return [_other(row, f"IoU {100 * row['iou']:.1f}") for row in rows if row["preset"] in REPORTED]


def _validations(file: Path) -> list[tuple[str, ...]]:
    rows = read_rows(file.parent, file.stem, validate.FIELDS)
    return [_other(row, f"{row['figure']} {row['reached']:.2f}") for row in rows]


def _table(lines: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    whose = f", measured by {row.source}" if row.source not in ("", KEPT) else ""
    on_gpu = f", {row.peak_gpu_memory_mb:.0f} on the GPU" if row.peak_gpu_memory_mb is not None else ""
    return (
        _command(row.command, row.device),
        f"{100 * row.iou:.1f}",
        f"{100 * row.dice:.1f}",
        f"{row.train_seconds / 60:.1f}",
        f"{row.segment_seconds / 60:.1f}",
        f"{row.peak_memory_mb:.0f}{on_gpu}",
        f"{row.device}{whose}".replace("|", "/"),
        _commit(row.commit),
    )


def _other(row: dict[str, Any], figure: str) -> tuple[str, ...]:
    training = f"{row['train_seconds'] / 60:.1f}"
    scoring = f"{row['segment_seconds'] / 60:.1f}" if "segment_seconds" in row else ""
    memory = f"{row['peak_memory_mb']:.0f}" if "peak_memory_mb" in row else ""
    took = (figure, training, scoring, memory, row["device"])
    return (_command(row["command"], row["device"]), *took, _commit(row["commit"]))


def _speed(file: Path) -> list[tuple[str, ...]]:
    """The ratios to the recipe as released, at the authors' width and at the size of `quick`."""
    found = json.loads(file.read_text(encoding="utf-8"))
    kinds = {
        "gpu_authors_width": "authors' width, GPU",
        "cpu_authors_width": "authors' width, CPU",
        "cpu_quick": "quick, CPU",
    }
    ratios = [
        f"{name}: {found[f'{kind}_ratio']:.1f}" for kind, name in kinds.items() if found.get(f"{kind}_ratio")
    ]
    figure = "times as fast as released; " + ", ".join(ratios)
    device = f"cpu ({found['cpu']})"
    if found.get("gpu_authors_width_ratio"):
        device = f"cuda ({found['gpu']}); {device}"
    command = f"`OMP_NUM_THREADS={found['threads']} python -m benchmarks speed`"
    memory = f"{found['cpu_peak_memory_mb']:.0f}" if "cpu_peak_memory_mb" in found else ""
    return [(command, figure, "", "", memory, device, _commit(found["commit"]))]


def _command(command: str, device: str) -> str:
    """On its device, and on a processor with as many threads: sums are taken in another order with more."""
    threads = THREADS.search(device)
    return f"`{f'OMP_NUM_THREADS={threads[1]} ' if threads else ''}{command} --device {device.split(' ')[0]}`"


def _commit(text: str) -> str:
    return f"`{COMMIT.sub(lambda found: found[0][:10], text)}`"
