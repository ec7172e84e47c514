"""Tables in LaTeX: every character of them is one that LaTeX can set as it stands."""

from __future__ import annotations

import pytest
from committed import committed_results

from benchmarks.collect import print_cells, seeds_of
from benchmarks.grid import Grid, GridLine, Layout, Style, Text, lay_out
from benchmarks.latex import to_latex
from benchmarks.registry import PRESETS, TABLES
from benchmarks.rows import Stored, merge, read_kept
from benchmarks.tables import load_table

KNOWN = set("–—‘’“”…")
"""Beyond Latin-1, what LaTeX sets without any package."""


@pytest.fixture(scope="module")
def stored() -> Stored:
    """The committed rows."""
    found = Stored()
    merge([], read_kept(committed_results() / "rows")[0], found)
    return found


@pytest.mark.parametrize("number", TABLES)
def test_latex_knows_every_character_of_every_table(number: str, stored: Stored) -> None:
    table = load_table(number)
    for preset in PRESETS:
        printed = print_cells(table, preset, seeds_of(table, preset, stored), stored, lambda entry: "not run")
        for layout in ("paper", "long"):
            text = to_latex(lay_out(table, preset, printed, Style(layout)))
            assert {character for character in text if ord(character) > 0xFF} <= KNOWN


def test_a_greek_letter_of_a_footnote_is_set_in_mathematics(stored: Stored) -> None:
    table = load_table("2")
    printed = print_cells(table, table.preset, [0], stored, lambda entry: "not run")
    assert "their mean \\ensuremath{\\pi}" in to_latex(lay_out(table, table.preset, printed))


def test_what_is_longer_than_a_page_is_cut_and_nothing_is_lost() -> None:
    lines = tuple(GridLine((f"line {number}",), "", "methods", (Text("1.0"),)) for number in range(100))
    text = to_latex(Layout("long", "A long one", (Grid("Measured", ("", "IoU"), lines),), ()))
    pages = text.split("\\begin{table}")[1:]
    assert [page.count("line ") for page in pages] == [45, 45, 10]
    assert all(f"line {number} & 1.0" in text for number in range(100))
