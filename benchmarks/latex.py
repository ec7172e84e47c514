r"""A laid-out table as LaTeX that compiles as it is, and that can be taken into a paper with `\\input`."""

from __future__ import annotations

import re

from benchmarks.grid import Grid, GridLine, Layout, Text

HEAD = r"""% Compiles as it is; \input into a document that loads booktabs, it is the table alone.
\ifdefined\toprule\else
\documentclass{article}
\usepackage{booktabs}
\usepackage[landscape,margin=1.5cm]{geometry}
\begin{document}
\def\finishtable{\end{document}}
\fi"""
FOOT = r"\ifdefined\finishtable\expandafter\finishtable\fi"
LONGEST = 45
"""A tabular cannot go over a page: a longer block is cut into pieces of so many lines."""


def to_latex(layout: Layout) -> str:
    """A `table` environment for each page that it takes; needs the package booktabs only."""
    pieces = [piece for grid in layout.grids for piece in _cut(grid)]
    bodies = [_body(grid) for grid in pieces]
    notes = [f"{_latex(note)}\\par" for note in layout.notes]
    notes = ["\\begin{minipage}{\\linewidth}\\scriptsize\\raggedright", *notes, "\\end{minipage}"]
    pages: list[list[str]] = [[]]
    lines = 0
    for grid, body in zip(pieces, bodies, strict=True):
        if pages[-1] and lines + len(grid.lines) > LONGEST:
            pages.append([])
            lines = 0
        pages[-1] += body
        lines += len(grid.lines)
    pages[-1] += notes
    head = [HEAD]
    for number, page in enumerate(pages):
        head += ["\\clearpage"] if number else []
        head += _environment(layout, page, first=number == 0)
    return "\n".join([*head, FOOT, ""])


def _environment(layout: Layout, body: list[str], *, first: bool) -> list[str]:
    title = re.sub(r"^Table \d+\. ", "", layout.heading)  # LaTeX counts by itself
    named = [f"\\caption{{{_latex(title)}.}}"]
    named += [f"\\label{{tab:{layout.name}}}"]
    start = ["\\begin{table}[tp]", "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}"]
    return [*start, *(named if first else []), *body, "\\end{table}"]


def _cut(grid: Grid) -> list[Grid]:
    parts = [grid.lines[i : i + LONGEST] for i in range(0, len(grid.lines), LONGEST)]
    return [Grid(grid.title, grid.heads, part, grid.spans) for part in parts]


def _body(grid: Grid) -> list[str]:
    return [f"\\emph{{{_latex(grid.title)}}}\\\\[2pt]", *_tabular(grid), "\\par\\medskip"]


def _tabular(grid: Grid) -> list[str]:
    words = grid.words
    lines = [f"\\begin{{tabular}}{{{'l' * words}{'r' * (len(grid.heads) - words)}}}", "\\toprule"]
    if grid.spans:
        spans = " & ".join(f"\\multicolumn{{2}}{{c}}{{{_latex(s)}}}" for s in grid.spans)
        starts = range(words + 1, len(grid.heads), 2)
        rules = "".join(f"\\cmidrule(lr){{{i}-{i + 1}}}" for i in starts)
        lines += [" & " * words + spans + " \\\\", rules]
    lines += [" & ".join(map(_latex, grid.heads)) + " \\\\", "\\midrule"]
    for previous, line in zip([None, *grid.lines], grid.lines, strict=False):
        if previous and previous.section != line.section:
            lines.append("\\midrule")
        lines.append(" & ".join(_cells(line)) + " \\\\")
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _cells(line: GridLine) -> list[str]:
    first, *others = map(_latex, line.words)
    marks = f"$^{{{_latex(line.marks)}}}$" if line.marks else ""
    return [first + marks, *others, *map(_text, line.texts)]


def _text(text: Text) -> str:
    if not text.best:
        return _latex(str(text))
    return f"\\textbf{{{_latex(text.main)}}}" + (f" {_latex(text.aside)}" if text.aside else "")


LATEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "[": "{[}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "±": "\\ensuremath{\\pm}",
    "×": "\\ensuremath{\\times}",
    "*": "\\ensuremath{\\ast}",
    "←": "\\ensuremath{\\leftarrow}",
    "§": "\\S{}",
    "†": "\\dag{}",
    "‡": "\\ddag{}",
    "¶": "\\P{}",
    "‖": "\\ensuremath{\\Vert}",
    "π": "\\ensuremath{\\pi}",
}


def _latex(text: str) -> str:
    """Escaped; two hyphens of a command stay two hyphens, a dash becomes LaTeX's."""
    escaped = "".join(LATEX.get(character, character) for character in text)
    return escaped.replace("--", "-{}-").replace("–", "--")
