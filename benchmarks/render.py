"""A laid-out table as plain text and Markdown, its cells as CSV and JSON lines: pure functions to text."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from typing import Any

from benchmarks.collect import Printed
from benchmarks.grid import METRICS, Layout, Text, strategies_of
from benchmarks.notes import name_of
from benchmarks.paired import seeds_of_pair
from benchmarks.tables import Table
from benchmarks.uncertainty import Interval


def records(table: Table, printed: list[Printed]) -> list[dict[str, Any]]:
    """One for each printed cell; percent, None where there is no value. Intervals are over images."""
    found = []
    for p in printed:
        entry, rows = p.entry, p.rows
        record: dict[str, Any] = {"method": entry.method}
        record |= {key: getattr(entry, key) for key in table.keys}
        record |= {"dataset": entry.dataset, "split": entry.split}
        for metric in METRICS:
            record |= {metric: getattr(p, metric), f"{metric}_std": getattr(p, f"{metric}_std")}
        record |= {
            "n_images": rows[0].n_images if rows else None,
            "seeds": p.seeds,
            "preset": p.preset if rows else "",
            "published_iou": p.published_iou,
            "published_dice": p.published_dice,
            "status": p.status,
            "reason": p.reason,
        }
        for metric in METRICS:
            low, high = p.interval(metric) or (None, None)
            record |= {f"{metric}_low": low, f"{metric}_high": high}
        record |= {
            "protocol": rows[0].protocol if rows else "",
            "train_seconds": p.train_seconds,
            "restarts": sum(row.restarts for row in rows) if rows else None,
            "source": " ".join(dict.fromkeys(row.source for row in rows if row.source)),
        }
        found.append(record)
    return found


def to_csv(table: Table, printed: list[Printed]) -> str:
    """One line per printed cell; one decimal; empty where there is no value."""
    return _csv(records(table, printed))


def to_json_lines(table: Table, printed: list[Printed]) -> str:
    """One line per printed cell, every digit kept, with the key and the command of each of its rows."""
    lines = []
    for record, p in zip(records(table, printed), printed, strict=True):
        made = [{"key": row.key, "seed": row.seed, "command": row.command} for row in p.rows]
        lines.append(json.dumps({**record, "rows": made}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def strategies_csv(printed: list[Printed]) -> str:
    """What the masks of each matched method score by each strategy; empty where none was matched."""
    found = []
    for p in printed:
        if p.matched:
            names = {"method": p.entry.method, "variant": p.entry.variant}
            names |= {"train_dataset": p.entry.train_dataset}
            names |= {"dataset": p.entry.dataset, "split": p.entry.split}
            found += [{**names, "strategy": s, **scores} for s, scores in strategies_of(p).items()]
    return _csv(found)


def paired_csv(differences: list[tuple[Printed, Printed, dict[str, Interval]]]) -> str:
    """Differences of two methods on the same images, in points, with their 95 % intervals."""
    found: list[dict[str, Any]] = []
    for one, other, intervals in differences:
        names = {"method": name_of(one), "other": name_of(other)}
        names |= {"dataset": one.entry.dataset, "split": one.entry.split}
        record: dict[str, Any] = {
            **names,
            "n_images": one.rows[0].n_images,
            "seeds": seeds_of_pair(one, other),
        }
        for metric, found_interval in intervals.items():
            record |= {
                f"{metric}_difference": found_interval.mean,
                f"{metric}_low": found_interval.low,
                f"{metric}_high": found_interval.high,
            }
        found.append(record)
    return _csv(found)


def _csv(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(found[0])
    for record in found:
        writer.writerow([f"{v:.1f}" if isinstance(v, float) else v for v in record.values()])
    return buffer.getvalue()


def to_text(layout: Layout) -> str:
    """Plain text for a terminal: aligned columns, notes wrapped to 100 characters."""
    parts = [layout.heading]
    for grid in layout.grids:
        words = grid.words
        rows = [list(grid.heads), *([*line.marked, *map(str, line.texts)] for line in grid.lines)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(grid.heads))]
        tops = [""] * words + [t for span in grid.spans for t in (span, "")]
        for i in range(words, len(tops), 2):  # a data set's name may need more room than its two columns
            widths[i] += max(0, len(tops[i]) - widths[i] - widths[i + 1] - 2)
        lines = [grid.title]
        lines += [_top_line(grid.spans, widths, words)] if grid.spans else []
        lines += [_aligned(rows[0], widths, words), "-" * (sum(widths) + 2 * len(widths) - 2)]
        for previous, line, row in zip([None, *grid.lines], grid.lines, rows[1:], strict=False):
            if previous and previous.section != line.section:
                lines.append("")
            lines.append(_aligned(row, widths, words))
        parts.append("\n".join(lines))
    parts.append(
        "\n".join(
            textwrap.fill(n, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            for n in layout.notes
        )
    )
    return "\n\n".join(parts) + "\n"


def to_markdown(layout: Layout) -> str:
    """A GitHub-flavoured table for each grid, the best measured in bold, then the notes as a list."""
    parts = [f"## {layout.heading}"]
    for grid in layout.grids:
        sides = ["---"] * grid.words + ["---:"] * (len(grid.heads) - grid.words)
        lines = [_piped([_escaped(head) for head in grid.flat_heads]), _piped(sides)]
        for line in grid.lines:
            lines.append(_piped([*map(_escaped, line.marked), *map(_marked_down, line.texts)]))
        parts.append(f"**{grid.title}**\n\n" + "\n".join(lines))
    parts.append("\n".join(f"- {_escaped(note)}" for note in layout.notes))
    return "\n\n".join(parts) + "\n"


def _marked_down(text: Text) -> str:
    return f"**{text.main}** {text.aside}".rstrip() if text.best else str(text)


def _top_line(spans: tuple[str, ...], widths: list[int], words: int) -> str:
    """Names, each centred over its two columns."""
    over = [widths[i] + widths[i + 1] + 2 for i in range(words, len(widths), 2)]
    names = [span.center(width) for span, width in zip(spans, over, strict=True)]
    return "  ".join([*(" " * width for width in widths[:words]), *names]).rstrip()


def _aligned(row: list[str], widths: list[int], words: int) -> str:
    texts = [
        text.ljust(width) if i < words else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(texts).rstrip()


def _piped(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "*_<>|" else c for c in text)
