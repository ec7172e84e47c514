"""The report: what stands in it, that nothing in it is loaded or runs amok, and how a real browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.cells import parse_row
from benchmarks.collect import Printed, read_runs
from benchmarks.errors import BenchmarkError
from benchmarks.page import SHOWN, by_turns, cells_table, not_shown, worth_showing, write_page
from benchmarks.paired import differences
from benchmarks.pictures import EXAMPLES, PANELS, extremes, make_panels, save_panels
from benchmarks.render import paired_csv
from benchmarks.rows import Stored
from benchmarks.tables import Entry, load_table
from benchmarks.uncertainty import Interval

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()
]
HOSTILE = '<script>alert("x")</script>&"\''


def put(runs: Path, row: dict[str, Any], *, pictures: bool = True) -> Path:
    """A cell as a run leaves it, with its training where it has one."""
    folder, fit = runs / "cells" / row["key"], runs / "fits" / row["key"]
    folder.mkdir(parents=True)
    (folder / "row.json").write_text(json.dumps(row))
    (folder / "config.json").write_text(json.dumps({"fit_key": row["key"]}))
    rng = np.random.default_rng(int(row["key"], 16) % 1000)
    apart = rng.uniform(0, min(row["iou"], 1 - row["dice"]) / 2, row["n_images"] // 2)
    offsets = [*apart, *-apart, *[0.0] * (row["n_images"] % 2)]
    lines = [f"image-{i},{row['iou'] + x:.6f},{row['dice'] + x:.6f},0" for i, x in enumerate(offsets)]
    (folder / "scores.csv").write_text("\n".join(["id,iou,dice,fg_ari", *lines]))
    (folder / "done").touch()
    if row["train_dataset"]:
        fit.mkdir(parents=True)
        steps = [
            {"step": s, "total": 9, "seconds": 2.0 * s, "loss": 1 / s, "reconstruction": None}
            for s in range(1, 9)
        ]
        (fit / "progress.jsonl").write_text("\n".join(map(json.dumps, steps)))
    if pictures:
        images = rng.integers(0, 256, (9, 16, 16, 3)).astype(np.uint8)
        panels = make_panels(images, {}, images[..., 0] > 99, images[..., 1] > 99)
        save_panels(folder / PANELS, panels)
        save_panels(folder / EXAMPLES, panels)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the report of the miniature rows, one of them by somebody of a hostile name."""
    where = tmp_path_factory.mktemp("report")
    for row in ROWS:
        put(where / "runs", row)
    stored = read_runs(where / "runs")
    cell, row = next((c, r) for c, r in stored.rows.items() if c.method == "DRC")
    stored.rows[cell] = replace(row, source=HOSTILE)
    write_page(stored, where / "runs", where, ["quick"])
    return where


class Outline(HTMLParser):
    """Tags as they open and close, and every attribute."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_tag_is_closed_and_every_table_is_captioned_and_headed(written: Path) -> None:
    page = Outline((written / "report.html").read_text())
    assert page.open == []
    assert page.tags.count("caption") == page.tags.count("table") > 1
    assert {("th", "scope", "col"), ("th", "scope", "row")} <= set(page.attributes)
    assert all(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))
    identifiers = [value for _, name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))


def test_nothing_is_loaded_from_anywhere(written: Path) -> None:
    text = (written / "report.html").read_text()
    for tag, name, value in Outline(text).attributes:
        if name in ("src", "href", "action", "data", "poster"):
            assert value.startswith(("data:", "#")), (tag, value[:80])
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < 5_000_000


def test_words_of_others_are_shown_and_not_obeyed(written: Path) -> None:
    text = (written / "report.html").read_text()
    assert HOSTILE not in text
    assert "&lt;script&gt;alert" in text
    assert Outline(text).tags.count("script") == 1


def test_each_figure_says_where_it_comes_from(written: Path) -> None:
    text = (written / "report.html").read_text()
    for row in ROWS:
        if row["preset"] != "quick":
            continue
        assert f"<dd>{row['key']}</dd>" in text
        assert f"<dd>{row['commit']}</dd>" in text
        assert f"<dd>{row['data_sha256']}</dd>" in text
    assert "(quick)" in text


def test_measured_minus_published_is_shown(written: Path) -> None:
    """DRC's mean on training images is 48.0 and 61.0, GrabCut's 63.1 and 76.6; the paper prints 78.8 and so on."""
    text = (written / "report.html").read_text()
    shown = {float(v) for v in re.findall(r'data-v="([-\d.]+)">[+-][\d.]+</td>', text)}
    assert shown == {-30.8, -26.5, 1.2, 5.6}


def test_what_is_bold_in_the_table_is_bold_in_the_report(written: Path) -> None:
    table = (Path(__file__).parent / "golden" / "table1" / "table1.md").read_text()
    bold = re.findall(r"\*\*([\d.]+)\*\*", table)
    assert len(bold) == 4  # IoU and Dice, on two kinds of images
    shown = re.findall(r"<td[^>]*><strong>([^<]+)</strong>", (written / "report.html").read_text())
    assert set(shown) == set(bold)


@pytest.mark.parametrize("metric", ["iou", "dice"])
def test_the_best_figure_of_each_metric_is_marked(metric: str) -> None:
    entry = next(e for e in load_table("1").entries if (e.method, e.dataset) == ("DRC", "tm-dsprites"))
    printed = Printed(entry, "quick", "measured", rows=(parse_row(json.dumps(ROWS[3]), "-"),))
    table = cells_table([printed], {(entry, metric)})
    heads = [head["text"] for head in table["heads"]]
    cells = table["lines"][0]["cells"]
    best = [name for name in ("IoU", "Dice") if cells[heads.index(name) - 1]["best"]]
    assert best == [{"iou": "IoU", "dice": "Dice"}[metric]]


def test_training_seconds_are_the_mean_over_seeds() -> None:
    rows = [
        replace(parse_row(json.dumps(ROWS[3]), "-"), seed=s, train_seconds=100.0 + 50 * s) for s in (0, 1)
    ]
    entry = next(e for e in load_table("1").entries if (e.method, e.dataset) == ("DRC", "tm-dsprites"))
    table = cells_table([Printed(entry, "quick", "measured", rows=tuple(rows))], set())
    seconds = [head["text"] for head in table["heads"]].index("training seconds")
    assert table["lines"][0]["cells"][seconds - 1]["text"] == "125"


def test_figures_are_files_too_the_same_each_time(written: Path, tmp_path: Path) -> None:
    names = {path.name for path in (written / "figures").iterdir()}
    assert {Path(name).stem for name in names if name.endswith("png")} == {
        Path(name).stem for name in names if name.endswith("pdf")
    }
    kinds = ("-iou-", "-time-", "-training", "-panels-", "-examples-")
    assert all(any(kind in name for name in names) for kind in kinds)
    stored = read_runs(written / "runs")
    write_page(stored, written / "runs", tmp_path, ["quick"])
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes() == (written / "figures" / name).read_bytes()


def test_every_row_has_the_command_that_measures_it_again(written: Path) -> None:
    text = (written / "REPRODUCING.md").read_text()
    for row in ROWS:
        if row["preset"] == "quick":
            assert f"{row['command']} --device cpu` | {100 * row['iou']:.1f} |" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {7}


def test_without_any_row_it_says_what_to_do(tmp_path: Path) -> None:
    write_page(Stored(), tmp_path / "runs", tmp_path, ["quick"])
    assert "nox -s table1" in (tmp_path / "report.html").read_text()


def test_rows_whose_pictures_are_elsewhere_are_named(tmp_path: Path) -> None:
    for row in ROWS:
        put(tmp_path / "runs", row, pictures=False)
    write_page(read_runs(tmp_path / "runs"), tmp_path / "runs", tmp_path, ["quick"])
    assert "No pictures of" in (tmp_path / "report.html").read_text()


def test_a_clone_without_the_runs_folder_shows_the_same_pictures_and_differences(
    written: Path, tmp_path: Path
) -> None:
    shutil.copytree(written / "figures", tmp_path / "figures")
    read_runs(written / "runs", tmp_path / "rows")
    write_page(read_runs(tmp_path / "none", tmp_path / "rows"), tmp_path / "none", tmp_path, ["quick"])
    before, after = ((folder / "report.html").read_text() for folder in (written, tmp_path))
    assert "No pictures of" not in after
    assert "Differences on the same images" in after
    assert after.count("<img") == before.count("<img")


def test_charts_and_differences_drawn_where_the_scores_lay_are_shown_again(
    written: Path, tmp_path: Path
) -> None:
    shutil.copytree(written / "figures", tmp_path / "figures")
    stored = read_runs(written / "runs")
    for table, _, printed in worth_showing(stored, ["quick"]):
        pairs = [
            (a, b, {m: Interval(getattr(a, m) - getattr(b, m), -1, 1) for m in ("iou", "dice")})
            for a, b, _ in differences(printed, written / "runs", tmp_path, tmp_path)
        ]
        (tmp_path / f"{table.name}-paired.csv").write_text(paired_csv(pairs))
    write_page(stored, tmp_path / "none", tmp_path, ["quick"])
    before, after = ((folder / "report.html").read_text() for folder in (written, tmp_path))
    assert after.count("<img") == before.count("<img")
    assert "No difference is shown" not in after
    assert "Differences on the same images" in after
    later = {cell: replace(row, finished="2030-01-01T00:00:00+00:00") for cell, row in stored.rows.items()}
    write_page(Stored(later), tmp_path / "none", tmp_path, ["quick"])
    assert "IoU of single images" not in (tmp_path / "report.html").read_text()


def test_a_table_under_another_budget_is_shown_for_what_is_new_in_it_whoever_computed_it(
    written: Path,
) -> None:
    rows = read_runs(written / "runs").rows.values()
    moved = [replace(row, preset="gpu", table="sweep", key=f"gpu-{row.key}") for row in rows]
    stored = Stored({row.cell: row for row in [*rows, *moved]})
    shown = [(table.number, preset) for table, preset, _ in worth_showing(stored, ["quick", "gpu"])]
    assert ("1", "gpu") in shown
    assert ("3", "gpu") not in shown
    assert ("3", "quick") in shown


def test_of_tables_that_share_rows_under_another_budget_the_fullest_is_shown(written: Path) -> None:
    rows = read_runs(written / "runs").rows.values()
    full = next(row for row in rows if (row.method, row.split) == ("DRC", "test"))
    moved = [replace(full, preset="gpu", variant=v, key=f"gpu-{v}") for v in ("full", "untuned", "no-tv")]
    shown = worth_showing(Stored({row.cell: row for row in moved}), ["gpu"])
    assert [table.number for table, _, _ in shown] == ["2"]  # Table 1 has two of them


def test_a_picture_of_another_row_is_not_shown_as_this_ones(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "figures", tmp_path / "figures")
    found = read_runs(written / "runs").rows.items()
    later = {cell: replace(row, finished="2030-01-01T00:00:00+00:00") for cell, row in found}
    write_page(Stored(later), tmp_path / "none", tmp_path, ["quick"])
    assert "No pictures of" in (tmp_path / "report.html").read_text()


def test_of_many_pictures_each_data_set_has_some_and_the_papers_method_comes_first() -> None:
    methods = (("GrabCut", "border"), ("DRC", "untuned"), ("DRC", "full"), ("ReDO", "full"))
    datasets = ("ecssd", "pets", "coco-mval", "clevr6", "tm-dsprites")
    cells = [
        Entry(method, "", method, variant, "", dataset, "test")
        for method, variant in methods
        for dataset in datasets
        if (variant, dataset) != ("full", "coco-mval")
    ]
    order = by_turns(cells)
    assert sorted(order, key=cells.index) == cells
    first = [(cell.method, cell.variant, cell.dataset) for cell in order[:SHOWN]]
    drc = [("DRC", "full", dataset) for dataset in datasets if dataset != "coco-mval"]
    assert first == [*drc, ("GrabCut", "border", "coco-mval"), ("GrabCut", "border", "ecssd")]


def test_pictures_that_are_not_shown_are_named_with_the_files_that_hold_them(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not_shown([], "table1-quick", tmp_path) == []
    assert "Not shown here" not in (written / "report.html").read_text()
    monkeypatch.setattr("benchmarks.page.SHOWN", 1)
    write_page(read_runs(written / "runs"), written / "runs", tmp_path, ["quick"])
    text = (tmp_path / "report.html").read_text()
    names = "GrabCut on TM-dSprites (re-made); GrabCut bbox on TM-dSprites (re-made)"
    files = [f"figures/table1-quick-{kind}-*.png" for kind in ("panels", "examples")]
    assert f"Not shown here are the pictures of {names}: they lie in {files[0]} and {files[1]}." in text
    for file in files:
        assert len(list(tmp_path.glob(file))) == 3
    shown = re.findall(r"<figcaption><strong>(.*?): TM-dSprites", text[: text.index("Not shown here")])
    assert [name for name in shown if "IoU" not in name] == ["DRC", "DRC, worst, median and best"]


def test_the_command_writes_it_and_names_a_folder_that_refuses(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["report", "--runs", str(tmp_path), "--results", str(tmp_path / "results")]
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "results" / "report.html").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="file"):
        write_page(Stored(), tmp_path, tmp_path / "file", ["quick"])


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "REPRODUCING.md").mkdir()
    with pytest.raises(
        BenchmarkError, match=f"cannot write the report to {tmp_path}: .*; choose another folder"
    ):
        write_page(Stored(), tmp_path / "runs", tmp_path, ["quick"])
    assert not list(tmp_path.glob(".*"))


def test_extremes_are_the_worst_the_middle_and_the_best() -> None:
    assert extremes(np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6]), 3).tolist() == [1, 5, 3, 7, 0, 8, 4, 6, 2]
    assert extremes(np.array([0.5, 0.1]), 3).tolist() == []
    assert len(set(extremes(np.zeros(100), 3).tolist())) == 9


# --- in a real browser -------------------------------------------------------------------------------------

PROBE = """
<script>
const said = {width: innerWidth, page: document.documentElement.scrollWidth,
  loaded: performance.getEntriesByType("resource").map(e => e.name)};
const table = document.querySelector("table"), button = table.querySelectorAll("thead button")[2];
const column = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[2].dataset.v)).filter(v => !isNaN(v));
button.focus(); said.focused = document.activeElement === button;
button.click(); said.up = column(); said.sort = button.closest("th").getAttribute("aria-sort");
button.click(); said.down = column();
const details = document.querySelector("details"); details.querySelector("summary").click(); said.open = details.open;
said.dark = getComputedStyle(document.body).backgroundColor;
said.broken = [...document.images].filter(image => !image.complete || !image.naturalWidth).length;
document.title = "PROBE" + JSON.stringify(said) + "PROBE";
</script>
"""


def look(page: Path, folder: Path, width: int, *flags: str) -> tuple[dict[str, Any], str]:
    """What the page says of itself in Chromium, and Chromium's own log."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    probed = folder / "probed.html"
    probed.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    quiet = ("quic", "background-networking", "component-update", "sync", "gpu")
    words = [
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        "--enable-logging=stderr",
        "--virtual-time-budget=4000",
    ]
    words += [f"--disable-{name}" for name in quiet] + [f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [browser, *words, *flags, f"--window-size={width},900", "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"PROBE(\{.*\})PROBE</title>", done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")), done.stderr


@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_it_without_errors_loads_nothing_and_sorts(
    written: Path, tmp_path: Path, width: int
) -> None:
    said, log = look(written / "report.html", tmp_path, width)
    assert "CONSOLE" not in log
    assert said["loaded"] == []
    assert said["broken"] == 0
    assert said["page"] <= said["width"]
    assert said["focused"]
    assert said["open"]
    assert said["sort"] == "ascending"
    assert said["up"] == sorted(said["up"])
    assert said["down"] == said["up"][::-1]


def test_it_is_dark_where_that_is_preferred(written: Path, tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    dark, _ = look(
        written / "report.html", tmp_path / "dark", 1400, "--blink-settings=preferredColorScheme=0"
    )
    light, _ = look(written / "report.html", tmp_path, 1400)
    assert light["dark"] == "rgb(255, 255, 255)"
    assert dark["dark"] != light["dark"]
