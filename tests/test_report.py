"""From a checked-in miniature set of rows to every format.

The expected texts lie in golden/table1; after a change that is meant, write them anew with
`RENEW_GOLDEN=1 python -m pytest tests/test_report.py` and read the difference.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cell_helpers import keep_row
from PIL import Image

from benchmarks.cells import read_row
from benchmarks.collect import PUBLISHED, print_cells, read_published, read_runs, seeds_of
from benchmarks.errors import BenchmarkError
from benchmarks.grid import Layout, lay_out
from benchmarks.latex import to_latex
from benchmarks.page import write_page
from benchmarks.pictures import (
    GAP,
    MARGIN,
    TOP,
    Panels,
    beside,
    draw_panels,
    load_panels,
    make_panels,
    save_panels,
)
from benchmarks.registry import TABLES
from benchmarks.render import to_csv, to_json_lines, to_markdown, to_text
from benchmarks.table_files import write_table
from benchmarks.table_picture import to_png
from benchmarks.tables import Entry, headline, load_table

GOLDEN = Path(__file__).parent / "golden" / "table1"
TABLE = load_table("1")
ENDINGS = ("csv", "jsonl", "md", "png", "tex")


def why(entry: Entry) -> str:
    if entry.dataset != "tm-dsprites":
        return f"not prepared: prepare {entry.dataset} --out data/{entry.dataset}"
    return "not run"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A runs folder that holds the miniature rows."""
    for line in (GOLDEN / "rows.jsonl").read_text().splitlines():
        keep_row(tmp_path / "runs", json.loads(line))
    return tmp_path / "runs"


def layout_of(runs: Path, seeds: list[int]) -> Layout:
    return lay_out(TABLE, "quick", print_cells(TABLE, "quick", seeds, read_runs(runs), why))


@pytest.mark.parametrize(
    ("name", "render"),
    [
        ("table1.txt", lambda layout, printed: to_text(layout)),
        ("table1.md", lambda layout, printed: to_markdown(layout)),
        ("table1.tex", lambda layout, printed: to_latex(layout)),
        ("table1.csv", lambda layout, printed: to_csv(TABLE, printed)),
        ("table1.jsonl", lambda layout, printed: to_json_lines(TABLE, printed)),
    ],
)
def test_rendered_text_equals_the_golden_file(
    name: str, render: Callable[[Layout, list[Any]], str], runs: Path
) -> None:
    printed = print_cells(TABLE, "quick", [0, 1, 2], read_runs(runs), why)
    text = render(lay_out(TABLE, "quick", printed), printed)
    if os.environ.get("RENEW_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def csv_of(runs: Path, seeds: list[int]) -> pd.DataFrame:
    text = to_csv(TABLE, print_cells(TABLE, "quick", seeds, read_runs(runs), why))
    return pd.read_csv(io.StringIO(text)).set_index(["method", "variant", "dataset", "split"]).sort_index()


def test_the_csv_holds_means_spreads_and_published_figures(runs: Path) -> None:
    line = csv_of(runs, [0, 1, 2]).loc[("DRC", "full", "tm-dsprites", "eval")]
    assert (line["iou"], line["iou_std"]) == (48.0, 2.0)
    assert (line["published_iou"], line["published_dice"]) == (78.8, 87.5)
    assert (line["seeds"], line["n_images"], line["preset"], line["status"]) == (
        "0 1 2",
        256,
        "quick",
        "measured",
    )


def test_only_the_seeds_asked_for_are_printed(runs: Path) -> None:
    line = csv_of(runs, [1]).loc[("DRC", "full", "tm-dsprites", "eval")]
    assert (line["iou"], float(line["seeds"])) == (46.0, 1)
    assert np.isnan(line["iou_std"])


def test_what_is_not_trained_adds_no_seed_to_those_of_what_is(runs: Path) -> None:
    stored = read_runs(runs)
    stored.rows = {cell: row for cell, row in stored.rows.items() if cell.seed or not cell.train_dataset}
    assert {cell.seed for cell in stored.rows} == {0, 1, 2}
    assert seeds_of(TABLE, "quick", stored) == [1, 2]
    stored.rows = {cell: row for cell, row in stored.rows.items() if not cell.train_dataset}
    assert seeds_of(TABLE, "quick", stored) == [0]


def test_a_seed_that_lacks_is_said(runs: Path) -> None:
    found = csv_of(runs, [0, 7])
    assert found.loc[("DRC", "full", "tm-dsprites", "eval"), "reason"] == "seed 7 not measured"
    assert pd.isna(found.loc[("GrabCut", "border", "tm-dsprites", "eval"), "reason"])


def test_every_cell_without_a_figure_says_why(runs: Path) -> None:
    found = csv_of(runs, [0])
    assert set(found["status"]) == {"measured", "published-only", "missing"}
    unmeasured = found[found["status"] != "measured"]
    assert unmeasured["reason"].notna().all()
    assert unmeasured["iou"].isna().all()
    assert found[found["status"] == "measured"]["iou"].notna().all()
    assert found[found["status"] == "published-only"]["published_iou"].notna().all()


def test_rows_of_another_budget_are_not_mixed_in(runs: Path) -> None:
    printed = print_cells(TABLE, "gpu", [0], read_runs(runs), why)
    assert not any(p.rows for p in printed)


def test_the_budget_is_printed_under_every_format(runs: Path) -> None:
    layout = layout_of(runs, [0])
    for render in (to_text, to_markdown, to_latex):
        assert "Budget quick" in render(layout)


def test_without_any_row_the_published_figures_are_printed(tmp_path: Path) -> None:
    text = to_text(layout_of(tmp_path, [0]))
    assert "Measured here" not in text
    assert "78.8  87.5" in text


def test_a_kept_error_is_the_reason(runs: Path) -> None:
    folder = runs / "cells" / "ffffffffffffffff"
    folder.mkdir()
    cell = {
        "method": "centred-ellipse",
        "variant": "fixed",
        "train_dataset": "",
        "test_dataset": "tm-dsprites",
        "split": "test",
        "preset": "quick",
        "seed": 0,
    }
    (folder / "config.json").write_text(json.dumps(cell))
    (folder / "error.txt").write_text("Traceback ...\nRuntimeError: too round\n")
    line = csv_of(runs, [0]).loc[("centred-ellipse", "fixed", "tm-dsprites", "test")]
    assert "failed: RuntimeError: too round" in line["reason"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"iou": 1.2}, "iou"),
        ({"iou": None}, "iou"),
        ({"dice": "0.5"}, "dice"),
        ({"n_images": 0}, "n_images"),
        ({"format": 99}, "format"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_unusable_row_is_named_and_the_rest_rendered(
    change: dict[str, Any], named: str, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = sorted((runs / "cells").glob("*/row.json"))[0]
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BenchmarkError, match=named):
        read_row(file)
    found = csv_of(runs, [0])
    assert str(file) in caplog.text
    assert found.loc[("GrabCut", "border", "tm-dsprites", "eval"), "status"] == "published-only"
    assert found.loc[("GrabCut", "border", "tm-dsprites", "test"), "status"] == "measured"


def test_a_half_written_row_is_left_out(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = sorted((runs / "cells").glob("*/row.json"))[0]
    file.write_text(file.read_text()[:40])
    assert len(read_runs(runs).rows) == len(list((runs / "cells").iterdir())) - 1
    assert str(file) in caplog.text


def test_a_row_without_done_does_not_count(runs: Path) -> None:
    (sorted((runs / "cells").iterdir())[0] / "done").unlink()
    assert len(read_runs(runs).rows) == len(list((runs / "cells").iterdir())) - 1


def test_of_two_rows_of_one_cell_the_later_counts(runs: Path) -> None:
    row = json.loads((GOLDEN / "rows.jsonl").read_text().splitlines()[0])
    keep_row(runs, {**row, "key": "0" * 15 + "f", "iou": 0.62, "finished": "2027-01-01T00:00:00+00:00"})
    assert csv_of(runs, [0]).loc[("GrabCut", "border", "tm-dsprites", "eval"), "iou"] == 62.0


def test_a_report_is_written_in_every_format_and_only_a_smoke_run_is_named_so(
    runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    report = write_table(
        TABLE, "quick", [0], read_runs(runs, tmp_path / "results" / "rows"), runs, tmp_path / "results", why
    )
    assert {f.name for f in report.files} == {f"table1.{s}" for s in ENDINGS}
    before = {f: f.read_bytes() for f in report.files}
    smoke = write_table(
        TABLE, "smoke", [0], read_runs(runs, tmp_path / "results" / "rows"), runs, tmp_path / "results", why
    )
    assert {f.name for f in smoke.files} == {f"table1-smoke.{s}" for s in ENDINGS}
    assert before == {f: f.read_bytes() for f in report.files}


def test_figure_3_is_drawn_from_the_stored_panels(runs: Path, tmp_path: Path) -> None:
    images, mask = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), bool)
    for folder in (runs / "cells").iterdir():
        save_panels(folder / "panels.npz", make_panels(images, {"reconstruction": images}, mask, mask))
    report = write_table(TABLE, "quick", [0], read_runs(runs, tmp_path / "rows"), runs, tmp_path, why)
    assert "figure3.png" in {f.name for f in report.files}
    assert Image.open(tmp_path / "figure3.png").size[1] > 5 * 100  # five rows
    write_page(read_runs(runs, tmp_path / "rows"), runs, tmp_path, ["quick"])
    before = pixels((tmp_path / "figure3.png").read_bytes())
    (tmp_path / "figure3.png").unlink()
    empty = tmp_path / "of another machine"
    write_table(TABLE, "quick", [0], read_runs(empty, tmp_path / "rows"), empty, tmp_path, why)
    np.testing.assert_array_equal(pixels((tmp_path / "figure3.png").read_bytes()), before)
    (tmp_path / "figure3.png").unlink()
    for folder in (runs / "cells").iterdir():
        (folder / "panels.npz").write_bytes(b"torn")
    write_table(TABLE, "quick", [0], read_runs(runs, tmp_path / "rows"), runs, tmp_path, why)
    np.testing.assert_array_equal(pixels((tmp_path / "figure3.png").read_bytes()), before)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_blocks_drawn_apart_are_set_beside_one_another_as_if_drawn_together() -> None:
    rng = np.random.default_rng(0)

    def some(count: int) -> Panels:
        images = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
        return make_panels(images, {"background": images}, images[..., 0] > 99, images[..., 1] > 99)

    blocks = {"the first, of three": some(3), "the other": some(2)}
    apart = {title: draw_panels({"as it was called": panels}) for title, panels in blocks.items()}
    np.testing.assert_array_equal(pixels(beside(apart)), pixels(draw_panels(blocks)))


def test_panels_keep_the_papers_order_and_survive_the_disk(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3)).astype(np.uint8)
    truth = images[..., 0] > 100
    panels = make_panels(images, {"background": images, "reconstruction": images}, truth, ~truth)
    save_panels(tmp_path / "panels.npz", panels)
    loaded = load_panels(tmp_path / "panels.npz")
    assert list(loaded) == [
        "input",
        "reconstruction",
        "foreground",
        "background",
        "true_mask",
        "inferred_mask",
    ]
    np.testing.assert_array_equal(loaded["foreground"], np.where(truth[..., None], 0, images))
    with pytest.raises(BenchmarkError, match=r"nothing\.npz"):
        load_panels(tmp_path / "nothing.npz")
    assert draw_panels({"One": panels, "Two": panels}).startswith(b"\x89PNG")


def test_the_picture_shows_the_whole_table(runs: Path) -> None:
    picture = np.asarray(Image.open(io.BytesIO(to_png(layout_of(runs, [0, 1, 2])))).convert("L"))
    ink = np.argwhere(picture < 200)
    assert ink.min() > 5
    assert (ink.max(axis=0) < np.array(picture.shape) - 5).all()
    assert (picture < 200).mean() > 0.005


def test_latex_escapes_what_it_must(runs: Path) -> None:
    text = to_latex(layout_of(runs, [0]))
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 2
    assert "-{}-out" in text
    assert not set("§†‡±×–") & set(text)
    body = [line for line in text.splitlines() if line.endswith("\\\\") and "&" in line]
    assert {line.count("&") for line in body if "multicolumn" not in line} == {4, 8}


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_published_figures_are_those_of_the_paper(number: str, shared: Path) -> None:
    ours = pd.read_csv(PUBLISHED / f"table{number}.csv")
    paper = pd.read_csv(shared / "facts" / "published" / f"table{number}.csv")
    columns = [c for c in paper.columns if c != "note"]
    pd.testing.assert_frame_equal(ours[columns], paper[columns])
    assert ours["split"].notna().all()


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_every_published_figure_has_its_place(number: str) -> None:
    table = load_table(number)
    published = {key for key, value in read_published(table).items() if value[0] is not None}
    places = {entry.published for entry in table.entries}
    assert published <= places


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_a_published_figure_stands_beside_what_was_measured_of_the_same(number: str) -> None:
    """The same method and variant, trained on the same, and scored on the same split of the same."""
    for entry in load_table(number).entries:
        if entry.published is None:
            continue
        trained_on = entry.train_dataset.removesuffix("-split")
        second = {"2": entry.variant.replace("amortised", "amortized"), "4": trained_on}.get(number, "")
        dataset = entry.dataset.removesuffix("-split")
        assert entry.published == (entry.method, second, dataset, entry.split), entry
        assert number == "2" or entry.variant == headline(entry.method), entry


def test_a_missing_published_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.collect.PUBLISHED", tmp_path)
    with pytest.raises(BenchmarkError, match=r"table1\.csv"):
        read_published(TABLE)


def test_rendering_imports_no_torch() -> None:
    code = "import sys, benchmarks.table_files, benchmarks.session; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=GOLDEN.parents[2]).returncode == 0


@pytest.mark.parametrize("number", TABLES)
def test_no_two_lines_of_a_csv_are_called_alike(number: str) -> None:
    table = load_table(number)
    names = [(e.method, *(getattr(e, key) for key in table.keys), e.dataset, e.split) for e in table.entries]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_long_title_stays_inside_the_picture(count: int) -> None:
    tiles = np.full((count, 8, 8, 3), 90, np.uint8)
    picture = draw_panels({"My photos, held out: DRC, budget smoke, seed 0": {"input": tiles}})
    above = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))[:TOP]
    assert (above < 128).any()
    assert (above[:, -1] == 255).all()
    assert (above[:, : MARGIN - GAP] == 255).all()
