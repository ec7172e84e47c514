"""results/REPRODUCING.md: for every kept row the command that measures it again, and what that took."""

from __future__ import annotations

import re
from collections.abc import Iterable

from benchmarks.cells import Row
from benchmarks.registry import PRESETS
from benchmarks.rows import KEPT

ABOUT = """# How each figure was made

One line a row of `results/rows`. The command measures it again, from a clone, in the environment that nox made
(`.nox/run/bin/python`) or one with `pip install -e . -c constraints.txt`; TM-dSprites is made on the spot. A training
is done once for all the rows that share it. On the same kind of device and versions the figure comes out the same; on
another one, sums are taken in another order and a trained method's figure moves within the spread over seeds.
`nox -s table1` and its like run whole tables. This file is written by `python -m benchmarks report`.
"""
COMMIT = re.compile(r"\b[0-9a-f]{40}")
HEADS = ("command", "IoU", "Dice", "training, min", "scoring, min", "memory, MiB", "device", "commit")


def to_markdown(rows: Iterable[Row]) -> str:
    """A section for each budget, its rows in the order of their methods and seeds."""
    budgets: dict[str, list[Row]] = {name: [] for name in PRESETS}
    for row in rows:
        budgets.setdefault(row.preset, []).append(row)
    parts = [ABOUT]
    for name, found in budgets.items():
        if found:
            found.sort(
                key=lambda row: (row.train_dataset != "", row.method, row.variant, row.seed, row.command)
            )
            lines = [HEADS, ("---", *["---:"] * 5, "---", "---"), *map(_cells, found)]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"## Budget {name}\n\n{table}\n")
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    whose = f", measured by {row.source}" if row.source not in ("", KEPT) else ""
    return (
        f"`{row.command}`",
        f"{100 * row.iou:.1f}",
        f"{100 * row.dice:.1f}",
        f"{row.train_seconds / 60:.1f}",
        f"{row.segment_seconds / 60:.1f}",
        f"{row.peak_memory_mb:.0f}",
        f"{row.device}{whose}".replace("|", "/"),
        f"`{COMMIT.sub(lambda found: found[0][:10], row.commit)}`",
    )
