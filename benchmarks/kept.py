"""What is kept of an earlier report.html: each section whose rows, scores, curves, pictures and code are the same."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.charts import CURVES, Places, training_lines
from benchmarks.collect import Printed
from benchmarks.files import write_atomic
from benchmarks.pictures import EXAMPLES, PANELS, as_pdf
from benchmarks.registry import PRESETS
from benchmarks.rows import SCORES, scores_name
from benchmarks.tables import Table

HOME = Path(__file__).parent


def sections_of(page: Path) -> dict[str, tuple[str, str]]:
    """The sections that a page has, by their ids: the digest that stands in each, and its HTML; none without a page."""
    text = content(page).decode("utf-8", "replace")
    found = re.finditer(
        r'<section aria-labelledby="([^"]*)" data-made="(\w+)">\n(.*?)</section>', text, re.DOTALL
    )
    return {match[1]: (match[2], match[3]) for match in found}


def earlier_differences(table: Table, preset: str, places: Places) -> Path:
    """The file from which differences are taken over where scores are not here."""
    return places.kept.parent / f"{table.stem(preset)}-paired.csv"


def sources_of(table: Table, preset: str, printed: list[Printed], places: Places) -> Iterator[bytes]:
    """All that a section is drawn of, but for the figures drawn of it before."""
    yield renderer()
    yield repr((table, preset, printed)).encode()
    yield content(earlier_differences(table, preset, places))
    cells = places.runs / "cells"
    for p in printed:
        for row in p.rows:
            scores = (cells / row.key / SCORES, places.kept / scores_name(row))
            yield from map(content, (cells / row.key / "row.json", *scores))
        for row in p.rows[:CURVES]:
            yield repr(training_lines(row, places.runs)).encode()
        for row in p.rows[:1]:
            yield from (content(cells / row.key / kind) for kind in (PANELS, EXAMPLES))


@functools.cache
def renderer() -> bytes:
    """The code of this package and its templates: what is changed may draw something else."""
    files = (file for kind in ("py", "jinja") for file in sorted(HOME.rglob(f"*.{kind}")))
    return digest(map(content, files)).encode()


def figures_of(table: Table, preset: str, folder: Path) -> list[Path]:
    """The files that a section has in the folder of figures, and no budget with a longer name."""
    longer = tuple(f"{table.name}-{name}-" for name in PRESETS if name.startswith(f"{preset}-"))
    return sorted(f for f in folder.glob(f"{table.name}-{preset}-*") if not f.name.startswith(longer))


def is_picture(figure: Path) -> bool:
    """Whether it is a picture of a cell, and no chart."""
    return any(f"-{Path(kind).stem}-" in figure.name for kind in (PANELS, EXAMPLES))


def write_pdfs(figures: Iterable[Path]) -> None:
    """Write each picture's PDF that is not there, as in a clone, or is older than the picture."""
    for png in (figure for figure in figures if is_picture(figure) and figure.suffix == ".png"):
        pdf = png.with_suffix(".pdf")
        if not pdf.exists() or pdf.stat().st_mtime_ns < png.stat().st_mtime_ns:
            write_atomic(pdf, as_pdf(png.read_bytes()))


def content(file: Path) -> bytes:
    """The bytes of a file; none where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def made_of(sources: str, body: str, figures: Iterable[Path]) -> str:
    """The digest of a section: what it is drawn of, its HTML and its figures, so that a damaged one is drawn again.

    A picture's PDF does not count: it is made of the picture alone, and a clone lacks it.
    """
    files = [figure for figure in figures if figure.suffix == ".png" or not is_picture(figure)]
    named = (part for file in files for part in (file.name.encode(), content(file)))
    return digest([sources.encode(), body.encode(), *named])


def digest(parts: Iterable[bytes]) -> str:
    """One word for all parts; each counts with its length, so that none runs into the next."""
    found = hashlib.sha256()
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return found.hexdigest()[:32]


def write_changed(file: Path, new: bytes) -> None:
    """Write a file unless it is there with that content."""
    if content(file) != new:
        write_atomic(file, new)
