"""A laid-out table as CSV, plain text, Markdown and LaTeX: pure functions from values to text."""

from __future__ import annotations

import csv
import io
import textwrap

from benchmarks.collect import Printed
from benchmarks.grid import Grid, Layout
from benchmarks.tables import Table

METRICS = ("IoU", "Dice")


def to_csv(table: Table, printed: list[Printed]) -> str:
    """One line per printed cell; percent with one decimal; empty where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = [
        "method",
        table.key,
        "dataset",
        "split",
        "iou",
        "iou_std",
        "dice",
        "dice_std",
        "n_images",
        "seeds",
    ]
    writer.writerow([*head, "preset", "published_iou", "published_dice", "status", "reason"])
    for p in printed:
        entry, row = p.entry, p.rows[0] if p.rows else None
        scores = [_decimal(v) for v in (p.iou, p.iou_std, p.dice, p.dice_std)]
        counts = [row.n_images if row else "", " ".join(str(r.seed) for r in p.rows)]
        published = [_decimal(p.published_iou), _decimal(p.published_dice)]
        names = [entry.method, getattr(entry, table.key), entry.dataset, entry.split]
        preset = p.preset if row else ""
        writer.writerow([*names, *scores, *counts, preset, *published, p.status, p.reason])
    return buffer.getvalue()


def to_text(layout: Layout, width: int = 100) -> str:
    """Plain text for a terminal: aligned columns, notes wrapped to `width` characters."""
    parts = [f"Table {layout.number}. {layout.title}"]
    for grid in layout.grids:
        rows = [_heads(grid), *[[line.label + line.marks, *line.texts] for line in grid.lines]]
        tops = ["", *[t for c in grid.columns for t in (c, "")]]
        widths = [max(len(r[i]) for r in rows) for i in range(len(tops))]
        for i in range(1, len(tops), 2):  # a data set's name may need more room than its two columns
            widths[i] += max(0, len(tops[i]) - widths[i] - widths[i + 1] - 2)
        lines = [
            grid.title,
            _top_line(tops, widths),
            _aligned(rows[0], widths),
            "-" * (sum(widths) + 2 * len(widths) - 2),
        ]
        for previous, line, row in zip([None, *grid.lines], grid.lines, rows[1:], strict=False):
            if previous and previous.section != line.section:
                lines.append("")
            lines.append(_aligned(row, widths))
        parts.append("\n".join(lines))
    parts.append(
        "\n".join(
            textwrap.fill(n, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            for n in layout.notes
        )
    )
    return "\n\n".join(parts) + "\n"


def to_markdown(layout: Layout) -> str:
    """A GitHub-flavoured table for each grid, then the notes as a list."""
    parts = [f"## Table {layout.number}. {layout.title}"]
    for grid in layout.grids:
        heads = ["", *[f"{column} {metric}" for column in grid.columns for metric in METRICS]]
        lines = [_piped(heads), _piped(["---", *["---:"] * (len(heads) - 1)])]
        lines += [_piped([_escaped(line.label + line.marks), *line.texts]) for line in grid.lines]
        parts.append(f"**{grid.title}**\n\n" + "\n".join(lines))
    parts.append("\n".join(f"- {_escaped(note)}" for note in layout.notes))
    return "\n\n".join(parts) + "\n"


def to_latex(layout: Layout) -> str:
    r"""A ``table`` environment for ``\input``; needs the package booktabs only."""
    body = []
    for grid in layout.grids:
        body += [f"\\emph{{{_latex(grid.title)}}}\\\\[2pt]", *_tabular(grid), "\\par\\medskip"]
    notes = [f"{_latex(note)}\\par" for note in layout.notes]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}[t]",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
            f"\\caption{{{_latex(layout.title)}.}}",
            f"\\label{{tab:{layout.number}}}",
            *body,
            "\\begin{minipage}{\\linewidth}\\scriptsize\\raggedright",
            *notes,
            "\\end{minipage}",
            "\\end{table}",
            "",
        ]
    )


def _tabular(grid: Grid) -> list[str]:
    spans = " & ".join(f"\\multicolumn{{2}}{{c}}{{{_latex(c)}}}" for c in grid.columns)
    rules = "".join(f"\\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(grid.columns)))
    lines = [f"\\begin{{tabular}}{{l{'r' * 2 * len(grid.columns)}}}", "\\toprule", f" & {spans} \\\\", rules]
    lines += [" & ".join(["", *METRICS * len(grid.columns)]) + " \\\\", "\\midrule"]
    for previous, line in zip([None, *grid.lines], grid.lines, strict=False):
        if previous and previous.section != line.section:
            lines.append("\\midrule")
        marks = f"$^{{{_latex(line.marks)}}}$" if line.marks else ""
        lines.append(" & ".join([_latex(line.label) + marks, *map(_latex, line.texts)]) + " \\\\")
    return [*lines, "\\bottomrule", "\\end{tabular}"]


LATEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "±": "\\ensuremath{\\pm}",
    "×": "\\ensuremath{\\times}",
    "*": "\\ensuremath{\\ast}",
    "§": "\\S{}",
    "†": "\\dag{}",
    "‡": "\\ddag{}",
}


def _latex(text: str) -> str:
    """Escaped; two hyphens of a command stay two hyphens, a dash becomes LaTeX's."""
    escaped = "".join(LATEX.get(character, character) for character in text)
    return escaped.replace("--", "-{}-").replace("–", "--")


def _heads(grid: Grid) -> list[str]:
    return ["", *METRICS * len(grid.columns)]


def _top_line(tops: list[str], widths: list[int]) -> str:
    """Data set names, each centred over its two columns."""
    pairs = [tops[i].center(widths[i] + widths[i + 1] + 2) for i in range(1, len(tops), 2)]
    return "  ".join([" " * widths[0], *pairs]).rstrip()


def _aligned(row: list[str], widths: list[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *[text.rjust(width) for text, width in rest]]).rstrip()


def _piped(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "*_<>|" else c for c in text)


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
