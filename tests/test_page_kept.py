"""What is kept of an earlier report: nothing is drawn twice of the same, and nothing is kept of anything else."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_page import ROWS, put

from benchmarks import page
from benchmarks.collect import read_runs
from benchmarks.kept import figures_of, renderer, sections_of
from benchmarks.page import write_page
from benchmarks.pictures import PANELS, load_panels, save_panels
from benchmarks.tables import load_table

FEW = [
    row for row in ROWS if (row["seed"], row["split"]) == (0, "test") and row["variant"] in ("border", "full")
]
ROW = next(row for row in FEW if row["method"] == "DRC")
ANOTHER = {**ROW, "seed": 7, "key": "00000000000000aa", "iou": 0.5, "dice": 0.6}
DRAWN = ["table1-quick", "table3-quick"]
CHART = "table1-quick-iou-tm-dsprites-test"
PICTURE = "table1-quick-panels-DRC-full-tm-dsprites-test"
Write = Callable[[], list[str]]
"""Writes the report and says which sections were drawn for it."""


@pytest.fixture(scope="module", autouse=True)
def small_charts() -> Iterator[None]:
    """Charts of few dots, which are drawn fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.charts.DPI", 20)
        yield


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of DRC and GrabCut, in two tables, and the runs folder that it was drawn of."""
    where = tmp_path_factory.mktemp("kept")
    for row in FEW:
        put(where / "runs", row)
    write_page(read_runs(where / "runs", where / "rows"), where / "runs", where, ["quick"])
    return where


@pytest.fixture
def where(once: Path, tmp_path: Path) -> Path:
    """A copy of it which a test may change."""
    return Path(shutil.copytree(once, tmp_path / "results"))


@pytest.fixture
def write(where: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    drawn: list[str] = []
    make_section = page.make_section

    def noted(*words: object) -> object:
        section, files = make_section(*words)  # type: ignore[arg-type]
        drawn.append(section.id)
        return section, files

    monkeypatch.setattr(page, "make_section", noted)

    def write() -> list[str]:
        drawn.clear()
        write_page(read_runs(where / "runs", where / "rows"), where / "runs", where, ["quick"])
        return list(drawn)

    return write


def times(where: Path) -> dict[str, int]:
    files = [where / "report.html", where / "REPRODUCING.md", *(where / "figures").iterdir()]
    return {file.name: file.stat().st_mtime_ns for file in files}


def test_of_the_same_nothing_is_drawn_or_written_and_it_is_quick(where: Path, write: Write) -> None:
    before, began = times(where), time.process_time()
    assert write() == []
    assert time.process_time() - began < 1
    assert times(where) == before


def another_row(where: Path) -> None:
    put(where / "runs", ANOTHER)


def swap(file: Path) -> None:
    """Two images with each other's IoU: other scores of the same mean."""
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[4][1], lines[5][1] = lines[5][1], lines[4][1]
    file.write_text("\n".join(map(",".join, lines)))


def other_scores(where: Path) -> None:
    swap(where / "runs" / "cells" / ROW["key"] / "scores.csv")


def another_picture(where: Path) -> None:
    file = where / "runs" / "cells" / ROW["key"] / PANELS
    save_panels(file, {name: np.flip(picture, axis=1) for name, picture in load_panels(file).items()})


def another_curve(where: Path) -> None:
    with (where / "runs" / "fits" / ROW["key"] / "progress.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"step": 9, "total": 9, "seconds": 18.0, "loss": 5.0}))


def no_chart(where: Path) -> None:
    (where / "figures" / f"{CHART}.png").unlink()


def no_pdf_of_a_chart(where: Path) -> None:
    (where / "figures" / f"{CHART}.pdf").unlink()


def a_torn_picture(where: Path) -> None:
    file = where / "figures" / f"{PICTURE}.png"
    file.write_bytes(file.read_bytes()[:99])


def a_damaged_section(where: Path) -> None:
    file = where / "report.html"
    file.write_text(file.read_text().replace("What these figures are", "What they are not", 1))


def no_end_of_the_page(where: Path) -> None:
    text = (where / "report.html").read_text()
    (where / "report.html").write_text(text[: text.rindex("</section>")])


def no_page(where: Path) -> None:
    (where / "report.html").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (another_row, DRAWN),
        (other_scores, DRAWN),
        (another_picture, DRAWN),
        (another_curve, DRAWN),
        (no_chart, DRAWN[:1]),
        (no_pdf_of_a_chart, DRAWN[:1]),
        (a_torn_picture, DRAWN[:1]),
        (a_damaged_section, DRAWN[:1]),
        (no_end_of_the_page, DRAWN[1:]),
        (no_page, DRAWN),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_has_changed_is_drawn_again_as_if_there_were_no_page(
    change: Callable[[Path], None], expected: list[str], where: Path, write: Write
) -> None:
    before = (where / "report.html").read_text()
    change(where)
    assert write() == expected
    assert write() == []
    after, figures = (where / "report.html").read_text(), times(where).keys()
    drawn_anew = change in (another_row, other_scores, another_picture, another_curve)
    assert (after != before) == drawn_anew
    (where / "report.html").unlink()
    shutil.rmtree(where / "figures")
    assert write() == DRAWN
    assert (where / "report.html").read_text() == after
    assert times(where).keys() == figures


def test_scores_kept_beside_the_rows_count_where_the_runs_folder_is_elsewhere(
    where: Path, write: Write
) -> None:
    shutil.rmtree(where / "runs")
    assert write() == DRAWN  # the rows are measured by another now
    assert write() == []
    swap(next(file for file in (where / "rows").glob(f"{ROW['key']}-*.csv")))
    assert write() == DRAWN


def test_what_stands_outside_of_the_sections_is_written_again_without_drawing(
    where: Path, write: Write
) -> None:
    file = where / "report.html"
    before = file.read_text()
    file.write_text(before.replace("</h1>", ", or so</h1>"))
    assert write() == []
    assert file.read_text() == before


def test_other_folders_in_the_commands_are_shown(where: Path, write: Write) -> None:
    stored = read_runs(where / "runs", where / "rows")
    write_page(stored, where / "runs", where, ["quick"], options=["--results", "mine"])
    assert "--results mine" in (where / "report.html").read_text()
    write()
    assert "--results mine" not in (where / "report.html").read_text()


def test_changed_code_draws_anew(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = renderer()
    shutil.copytree(Path(page.__file__).parent, tmp_path / "code")
    monkeypatch.setattr("benchmarks.kept.HOME", tmp_path / "code")
    assert renderer.__wrapped__() == before
    for name in ("charts.py", "tables/table1.py", "section.html.jinja"):
        earlier = renderer.__wrapped__()
        with (tmp_path / "code" / name).open("a") as file:
            file.write("\n")
        assert renderer.__wrapped__() != earlier, name
    monkeypatch.setattr("benchmarks.kept.renderer", renderer.__wrapped__)
    assert write() == DRAWN


def test_the_pdf_of_a_picture_is_made_without_drawing_where_a_clone_lacks_it(
    where: Path, write: Write
) -> None:
    pdf = where / "figures" / f"{PICTURE}.pdf"
    before = pdf.read_bytes()
    pdf.unlink()
    assert write() == []
    assert pdf.read_bytes() == before


def test_figures_of_a_budget_with_a_longer_name_are_not_those_of_the_shorter(tmp_path: Path) -> None:
    short, long = tmp_path / "table1-quick-training.png", tmp_path / "table1-quick-ablation-training.png"
    for file in (short, long, tmp_path / "table2-quick-training.png"):
        file.touch()
    assert figures_of(load_table("1"), "quick", tmp_path) == [short]
    assert figures_of(load_table("1"), "quick-ablation", tmp_path) == [long]


def test_rows_of_another_budget_draw_their_own_section_alone(where: Path, write: Write) -> None:
    rows = [{**row, "preset": "gpu", "key": f"f{row['key'][1:]}"} for row in FEW]
    for row in rows:
        put(where / "runs", row)
    write()
    stored = read_runs(where / "runs", where / "rows")
    before = sections_of(where / "report.html")
    write_page(stored, where / "runs", where, ["quick", "gpu"])
    after = sections_of(where / "report.html")
    assert after.keys() - before.keys() == {"table1-gpu"}
    assert {name: after[name] for name in before} == before
