"""The committed results: every row is of this code's settings and data, and what takes seconds is measured again."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from committed import ROOT, committed_results

from benchmarks.cells import Row, read_row
from benchmarks.collect import print_cells, seeds_of
from benchmarks.data import Library
from benchmarks.jobs import Job, row_command
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES
from benchmarks.render import to_csv
from benchmarks.rows import AGREE, Stored, find_scores, merge, read_kept
from benchmarks.runs import Runner
from benchmarks.tables import load_table
from benchmarks.uncertainty import paired_difference
from benchmarks.validate import TASKS

RESULTS = committed_results()
KEPT, FAULTS = read_kept(RESULTS / "rows")
ROWS = [r for r in KEPT if r.method in METHODS and {r.test_dataset, r.train_dataset} <= {*DATASETS, ""}]


def made_in_seconds(row: Row) -> bool:
    """Whether its data set is generated, and less than a hundred megabytes."""
    budget = PRESETS[row.preset]
    return DATASETS[row.test_dataset].generated and 3 * budget.image_size**2 * budget.train_images < 1e8


QUICK = [row for row in ROWS if not METHODS[row.method].trained and made_in_seconds(row)]
SHORT = [row for row in ROWS if METHODS[row.method].trained and row.train_seconds < 40 and row.seed == 0]
LINES = {
    "GrabCut, 1-pixel border": ("GrabCut", "border"),
    "ReDO, an oracle chooses its region": ("ReDO", "full"),
    "IODINE, likewise": ("IODINE", "full"),
    "Slot-Attention, likewise": ("Slot-Attention", "full"),
    "DRC, inferred from noise, nothing matched": ("DRC", "full"),
    "everything called foreground": ("all-foreground", "fixed"),
    "a centred ellipse of half the area": ("centred-ellipse", "fixed"),
}
WHERE_MEASURED = {
    "DRC, by responsibilities: the same chains, read together": ("DRC", "responsibilities"),
    "DRC, untuned: the authors' step sizes and rates, one chain": ("DRC", "untuned"),
}


def label(row: Row) -> str:
    return f"{row.method}-{row.variant}-{row.train_dataset}-{row.test_dataset}-{row.split}-{row.preset}-{row.seed}"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Library]:
    """The data sets of each budget, made on the spot."""
    return {name: Library(tmp_path_factory.mktemp(name), name) for name in {row.preset for row in ROWS}}


def test_there_are_rows_and_none_is_faulty_or_there_twice() -> None:
    assert ROWS
    assert FAULTS == []
    assert len({row.cell for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_a_row_says_where_it_comes_from(row: Row) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(, scored at [0-9a-f]{40})?", row.commit), (
        "measured with changes that no commit holds"
    )
    assert row.command == row_command(row.cell)
    assert row.device
    assert {"python", "torch", "numpy"} <= set(row.versions)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_its_command_would_make_that_very_row(row: Row, libraries: dict[str, Library]) -> None:
    """The key covers all settings and both data sets, so an outdated row has another."""
    if not made_in_seconds(row):
        pytest.skip(f"{row.test_dataset} is not made on the spot, or takes a gigabyte under {row.preset}")
    assert Job(row.cell, libraries[row.preset]).key == row.key


class AsMeasured:
    """Of a library no more than a row says of it: the hashes of its data sets and how many images it took of them."""

    def __init__(self, row: Row) -> None:
        self.row, self.budget = row, PRESETS[row.preset]

    def dataset(self, name: str) -> SimpleNamespace:
        row = self.row
        return SimpleNamespace(sha256=row.train_data_sha256 if name == row.train_dataset else row.data_sha256)

    def training_rows(self, name: str) -> np.ndarray:
        return np.arange(self.row.train_images)

    def evaluation_rows(self, name: str, split: str) -> np.ndarray:
        return np.arange(self.row.n_images)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_a_row_is_of_todays_settings_wherever_its_images_are(row: Row) -> None:
    assert Job(row.cell, AsMeasured(row)).key == row.key  # type: ignore[arg-type]


def test_what_is_committed_names_no_folder_of_the_machine_that_rendered_it() -> None:
    files = [RESULTS / "report.html", *RESULTS.glob("*.md"), *RESULTS.glob("*.csv")]
    for file in files:
        assert not re.search(r"--\w+ '?/", file.read_text(encoding="utf-8")), file.name


@pytest.mark.parametrize("row", QUICK, ids=label)
def test_what_needs_no_training_gives_the_same_figure(
    row: Row, libraries: dict[str, Library], tmp_path: Path
) -> None:
    runner = Runner(tmp_path, libraries[row.preset], device="cpu")
    assert runner.run(row.cell).status == "computed"
    again = read_row(tmp_path / "cells" / row.key / "row.json")
    assert again.iou == pytest.approx(row.iou, abs=AGREE)
    assert again.dice == pytest.approx(row.dice, abs=AGREE)
    for end in ("iou_low", "iou_high", "dice_low", "dice_high"):
        assert getattr(again, end) == pytest.approx(getattr(row, end), abs=AGREE), end


@pytest.mark.parametrize("row", SHORT, ids=label)
def test_what_trains_in_half_a_minute_gives_the_same_figure(
    row: Row, libraries: dict[str, Library], tmp_path: Path, one_thread: None
) -> None:
    """To the last digit on the kind of processor that it was measured on, and nearly so on others."""
    runner = Runner(tmp_path, libraries[row.preset], device="cpu")
    assert runner.run(row.cell).status == "computed"
    again = read_row(tmp_path / "cells" / row.key / "row.json")
    within = 1e-6 if again.device == row.device else 0.03
    assert again.iou == pytest.approx(row.iou, abs=within)
    assert again.dice == pytest.approx(row.dice, abs=within)


@pytest.mark.parametrize(
    ("number", "preset"),
    [(n, p) for n in TABLES for p in PRESETS if (RESULTS / f"{load_table(n).stem(p)}.csv").exists()],
)
def test_the_rendered_tables_are_those_of_the_rows(number: str, preset: str) -> None:
    table = load_table(number)
    file = RESULTS / f"{table.stem(preset)}.csv"
    stored = Stored()
    merge([], ROWS, stored)
    printed = print_cells(table, preset, seeds_of(table, preset, stored), stored, lambda entry: "")
    with file.open(newline="", encoding="utf-8") as lines:
        rendered = list(csv.DictReader(lines))
    figures = ("method", "dataset", "split", "iou", "iou_std", "dice", "dice_std", "seeds", "n_images")
    again = list(csv.DictReader(io.StringIO(to_csv(table, printed))))
    assert [[line[name] for name in figures] for line in rendered] == [
        [line[name] for name in figures] for line in again
    ]


@pytest.mark.parametrize("number", TABLES)
def test_the_footnotes_of_the_rendered_tables_are_todays(number: str) -> None:
    table = load_table(number)
    files = [RESULTS / f"{table.stem(preset)}.md" for preset in PRESETS]
    for file in (file for file in files if file.exists()):
        lines = file.read_text(encoding="utf-8").replace("\\", "").splitlines()
        names = "".join(
            line if line.startswith("|  |") else line.split("|")[1] for line in lines if "|" in line
        )
        for mark, footnote in table.footnotes.items():
            assert [line for line in lines if line.startswith(f"- {mark} ")] == (
                [f"- {mark} {footnote}"] if mark in names else []
            )


def read_csv(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def told_table(page: str, header: str) -> dict[str, list[str]]:
    """The cells by the line's name, bold or not, of the page's table with that header."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("**", "")
    lines = text.split(f"\n{header}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: values for name, *values in cells}


def said(row: dict[str, str], metric: str) -> str:
    return row[metric] + (f" ± {row[f'{metric}_std']}" if row.get(f"{metric}_std") else "")


@pytest.mark.parametrize(
    ("file", "page", "header"),
    [
        ("table1.csv", "README.md", "| | training images | held out | published, 128×128 |"),
        ("table1-cpu-hour.csv", "docs/results.md", "| at 64×64 | training images | held out |"),
    ],
)
def test_the_figures_that_are_told_are_those_of_the_table(file: str, page: str, header: str) -> None:
    found = {(x["method"], x["variant"], x["split"]): x for x in read_csv(file) if x["iou"]}
    lines = told_table(page, header)
    expected = LINES | {name: which for name, which in WHERE_MEASURED.items() if (*which, "test") in found}
    assert lines.keys() == expected.keys()
    for name, (method, variant) in expected.items():
        for cell, split in zip(lines[name][:2], ("eval", "test"), strict=True):
            row = found[method, variant, split]
            assert cell == f"{said(row, 'iou')} / {said(row, 'dice')}"


def test_what_the_readme_tells_of_other_sets_is_in_their_tables() -> None:
    header = "| | DRC, π | DRC, responsibilities | GrabCut | ReDO | IODINE | Slot-Attention | ellipse |"
    columns = [("DRC", "full"), ("DRC", "responsibilities"), ("GrabCut", "border"), ("ReDO", "full")]
    columns += [("IODINE", "full"), ("Slot-Attention", "full"), ("centred-ellipse", "fixed")]
    places = {
        "TM-dSprites at 64×64, `cpu-hour`": ("table1-cpu-hour", "tm-dsprites", "test"),
        "TM-dSprites at 128×128, `cpu-evening`": ("table1-cpu-evening", "tm-dsprites", "test"),
        "TM-dSprites at 128×128, `gpu`": ("table1-gpu", "tm-dsprites", "test"),
        "grey sprites on grey gratings at 32×32, `quick`": ("grey", "tm-dsprites-grey", "test"),
        "CLEVR scenes at 32×32, `quick`": ("photos-quick", "clevr6-rendered", "eval"),
        "CLEVR scenes at 64×64, `cpu-hour-ablation`": ("photos-cpu-hour-ablation", "clevr6-rendered", "eval"),
        "ECSSD's photographs at 32×32, `quick-ablation`": ("photos", "ecssd", "test"),
        "pets' photographs at 32×32, `quick-ablation`": ("photos", "pets", "test"),
    }
    lines = told_table("README.md", header)
    assert lines.keys() == places.keys()
    for name, (stem, dataset, split) in places.items():
        here = [row for row in read_csv(f"{stem}.csv") if (row["dataset"], row["split"]) == (dataset, split)]
        found = {
            (row["method"], row["variant"]): row["iou"]
            for row in here
            if row.get("train_dataset", "") in ("", dataset)
        }
        assert lines[name] == [found.get(column) or "–" for column in columns]


def test_every_figure_of_the_readme_is_in_a_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"\d+\.\d\b", readme.split("## What it measures", 1)[1].split("`quick` means", 1)[0])
    files = [file.name for file in RESULTS.glob("*.csv")]
    found = {cell.lstrip("+-") for name in files for row in read_csv(name) for cell in row.values() if cell}
    assert len(told) > 50
    assert set(told) <= found


def ious_of_images(method: str, train_dataset: str, test_dataset: str, preset: str) -> np.ndarray:
    """In percent, each image's mean over the seeds that there are."""
    wanted = (method, train_dataset, test_dataset, preset)
    rows = [r for r in ROWS if (r.method, r.train_dataset, r.test_dataset, r.preset) == wanted]
    seeds = [
        [float(line["iou"]) for line in read_csv(str(find_scores(row, Path(), RESULTS / "rows")))]
        for row in rows
    ]
    return 100 * np.mean(seeds, axis=0)


def test_every_interval_that_is_told_is_in_a_table_of_differences() -> None:
    found = {("-0.3", "+4.8")}  # of the trainings on one thread that the text names
    for file in RESULTS.glob("*-paired.csv"):
        for row in read_csv(file.name):
            for metric in ("iou", "dice"):
                low, high = float(row[f"{metric}_low"]), float(row[f"{metric}_high"])
                found |= {(f"{a:+.1f}", f"{b:+.1f}") for a, b in ((low, high), (-high, -low))}
    for preset in ("quick-ablation", "cpu-hour-ablation"):
        floor = ious_of_images("centred-ellipse", "", "coco-mval", preset)
        for trained_on in ("ecssd", "pets"):
            ahead = paired_difference(ious_of_images("IODINE", trained_on, "coco-mval", preset), floor)
            found.add((f"{ahead.low:+.1f}", f"{ahead.high:+.1f}"))
    for page in ("README.md", "docs/results.md"):
        told = re.findall(
            r"([+-]?\d+\.\d)\s+to\s+([+-]?\d+\.\d)\b", (ROOT / page).read_text(encoding="utf-8")
        )
        assert len(told) >= 5
        assert {tuple(f"{float(end):+.1f}" for end in ends) for ends in told} <= found, page


def test_the_ablation_that_is_told_is_that_of_the_tables() -> None:
    header = "| | `quick-ablation`, 32×32 | `cpu-hour-ablation`, 64×64 | published, birds, 128×128 |"
    lines = told_table("docs/results.md", header)
    table = load_table("2")
    names = {entry.variant: entry.line for entry in table.entries if entry.method == "DRC"}
    assert lines.keys() == set(names.values())
    for at, stem, dataset, metric in (
        (0, "table2", "tm-dsprites", "iou"),
        (1, "table2-cpu-hour-ablation", "tm-dsprites", "iou"),
        (2, "table2", "birds", "published_iou"),
    ):
        rows = {r["variant"]: r for r in read_csv(f"{stem}.csv") if r["dataset"] == dataset}
        for variant, name in names.items():
            measured = said(rows[variant], metric) if variant in rows else ""
            assert lines[name][at] == (measured or "–"), f"{name} of {stem}, {dataset}"


def test_the_scenes_and_photographs_that_are_told_are_those_of_the_tables() -> None:
    by_area = {f"{x}, all but its largest region": x for x in ("ReDO", "IODINE", "Slot-Attention")}
    pooled = {"DRC, by responsibilities: the same chains": ("DRC", "responsibilities")}
    lines = told_table("docs/results.md", "| | CLEVR | ECSSD | pets |")
    assert lines.keys() == LINES.keys() | by_area.keys() | pooled.keys()

    def figure(stem: str, name: str, dataset: str) -> list[str]:
        kind = "-strategies" if name in by_area else ""
        method, variant = (LINES | pooled).get(name) or (by_area[name], "full")
        return [
            said(row, "iou")
            for row in read_csv(f"{stem}{kind}.csv")
            if (row["method"], row["variant"]) == (method, variant)
            and row["dataset"] == dataset
            and row["train_dataset"] in ("", dataset)
            and row.get("strategy", "background-slot-by-area") == "background-slot-by-area"
            and row["iou"]
        ]

    for name, cells in lines.items():
        for cell, dataset in zip(cells, ("clevr6-rendered", "ecssd", "pets"), strict=True):
            (small,) = figure("photos-quick", name, dataset) + figure("photos", name, dataset)
            large = figure("photos-cpu-hour-ablation", name, dataset) or ["–"]
            assert cell == f"{small} / {large[0]}"
            assert len(large) == 1


def test_the_photographs_of_other_sets_that_are_told_are_those_of_the_tables() -> None:
    header = "| tested on ← trained on | ECSSD ← pets | pets ← ECSSD | COCO ← ECSSD | COCO ← pets |"
    places = [("ecssd", "pets"), ("pets", "ecssd"), ("coco-mval", "ecssd"), ("coco-mval", "pets")]
    lines = told_table("docs/results.md", header)
    assert lines.keys() == LINES.keys() - {"GrabCut, 1-pixel border"}
    for name, cells in lines.items():
        for cell, (dataset, trained_on) in zip(cells, places, strict=True):
            figures = [
                said(row, "iou")
                for stem in ("photos", "photos-cpu-hour-ablation")
                for row in read_csv(f"{stem}.csv")
                if (row["method"], row["variant"], row["dataset"]) == (*LINES[name], dataset)
                and row["train_dataset"] in ("", trained_on)
            ]
            assert cell == " / ".join(figures)


def test_the_validation_was_of_these_tasks_reached_them_and_is_in_the_docs() -> None:
    found = json.loads((RESULTS / "validate.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert {row["method"]: row["target"] for row in found} == {name: t.target for name, t in TASKS.items()}
    for row in found:
        assert row["reached"] >= row["target"]
        assert re.fullmatch(r"[0-9a-f]{64}", row["data_sha256"])
        assert row["train_steps"] == TASKS[row["method"]].changes["train_steps"]
        assert re.search(rf"^\| {row['method']} \|.*\| {row['reached']:.3f} \|$", page, re.MULTILINE)
