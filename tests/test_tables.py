"""Tables 2 to 4, their layouts, and what stands under a table."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cell_helpers import keep_scores
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.cells import Row, parse_row
from benchmarks.collect import Printed, print_cells
from benchmarks.grid import Layout, Style, lay_out
from benchmarks.latex import to_latex
from benchmarks.notes import notes_of, place_of
from benchmarks.paired import difference_grid, differences, unpaired
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES
from benchmarks.render import paired_csv, strategies_csv, to_csv, to_json_lines, to_markdown, to_text
from benchmarks.rows import Stored
from benchmarks.tables import STAND_IN, Entry, load_table, plan
from benchmarks.tables.sweep import sweep_table
from benchmarks.uncertainty import Interval

ROW = parse_row(
    (Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()[0], "golden"
)


def row(entry: Entry, **changes: Any) -> Row:
    names = {"method": entry.method, "variant": entry.variant, "train_dataset": entry.train_dataset}
    if "iou" in changes:  # which the interval would not be around
        changes = dict.fromkeys(("iou_low", "iou_high", "dice_low", "dice_high")) | changes
    return replace(ROW, **names, test_dataset=entry.dataset, split=entry.split, **changes)


def measured(number: str, scores: dict[str, float], **changes: Any) -> tuple[Any, list[Printed]]:
    """A table whose stand-in cells are measured, by method; `DRC by responsibilities` is one of its own."""
    table, printed = load_table(number), []
    for entry in table.entries:
        name = f"{entry.method} by responsibilities" if entry.variant == "responsibilities" else entry.method
        if entry.dataset.startswith("tm-dsprites") and name in scores:
            iou = scores[name]
            rows: tuple[Row, ...] = (row(entry, iou=iou, dice=iou, **changes),)
            printed.append(Printed(entry, "quick", "measured", rows=rows))
        else:
            published = (50.0, 60.0) if entry.published else (None, None)
            status = "published-only" if entry.published else "missing"
            printed.append(Printed(entry, "quick", status, "not prepared: prepare it", (), *published))
    return table, printed


def layout(number: str, scores: dict[str, float], style: Style | None = None, **changes: Any) -> Layout:
    table, printed = measured(number, scores, **changes)
    return lay_out(table, "quick", printed, style)


@pytest.mark.parametrize("number", TABLES)
def test_every_cell_has_a_line_a_column_and_known_names(number: str) -> None:
    table = load_table(number)
    lines, columns = {line.label for line in table.lines}, {column.label for column in table.columns}
    assert len(lines) == len(table.lines)
    assert len(columns) == len(table.columns)
    assert table.preset in PRESETS
    for entry in table.entries:
        assert entry.line in lines
        assert entry.column in columns
        assert entry.split in DATASETS[entry.dataset].splits
        assert entry.train_dataset in ("", *DATASETS)
    places = [(e.line, e.column) for e in table.entries]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("number", ["4", "photos"])
def test_what_is_not_trained_stands_once_for_each_test_set(number: str) -> None:
    entries = load_table(number).entries
    for method in {entry.method for entry in entries if not METHODS[entry.method].trained}:
        places = [(e.block, e.dataset, e.split) for e in entries if e.method == method]
        assert sorted(places) == sorted({(e.block, e.dataset, e.split) for e in entries if e.method == "DRC"})


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_the_stand_in_needs_no_preparation_and_claims_no_published_figure(number: str) -> None:
    for entry in load_table(number).entries:
        assert (entry.block == STAND_IN) == DATASETS[entry.dataset].generated
        if entry.block:
            assert entry.published is None
            assert all(DATASETS[name].generated for name in (entry.dataset, entry.train_dataset) if name)


def test_table_2_has_every_variant() -> None:
    variants = {e.variant for e in load_table("2").entries if e.method == "DRC"}
    assert set(METHODS["DRC"].variants) <= variants
    assert len(variants) == 9


def test_table_4_is_a_full_matrix() -> None:
    table = load_table("4")
    for method in ("ReDO", "DRC"):
        for block in ("", STAND_IN):
            pairs = {
                (e.train_dataset, e.dataset) for e in table.entries if (e.method, e.block) == (method, block)
            }
            names = {name for pair in pairs for name in pair}
            assert len(names) == 3
            assert pairs == {(train, test) for train in names for test in names}


def test_a_cell_waits_for_its_training_set_too() -> None:
    cells = plan(load_table("4"), "quick", ["DRC", "GrabCut"], ["birds-split", "dogs-split"], [0])
    assert {(c.train_dataset, c.test_dataset) for c in cells if c.method == "DRC"} == {
        (train, test) for train in ("birds-split", "dogs-split") for test in ("birds-split", "dogs-split")
    }
    assert {c.test_dataset for c in cells if c.method == "GrabCut"} == {"birds-split", "dogs-split"}


@pytest.mark.parametrize("budget", ["quick", "cpu-hour"])
def test_a_short_budget_is_the_long_one_with_fewer_steps(budget: str) -> None:
    for trained in (spec for spec in METHODS.values() if spec.trained):
        method = trained.load()
        whole, short = (
            asdict(
                method.configure(
                    variant="full",
                    preset=preset,
                    dataset="tm-dsprites",
                    image_size=PRESETS[preset].image_size,
                )
            )
            for preset in (budget, f"{budget}-ablation")
        )
        assert {key for key in whole if whole[key] != short[key]} - {"inference_chains"} == {"train_steps"}
        assert short["train_steps"] < whole["train_steps"]


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_measured_and_published_stand_apart_and_reasons_below(number: str) -> None:
    grids = layout(number, {"DRC": 0.4, "GrabCut": 0.5})
    ours, theirs = grids.grids
    assert ours.title.startswith(STAND_IN)
    assert "budget quick" in ours.title
    assert not any(text.aside for line in ours.lines for text in line.texts)
    assert theirs.title.startswith("Published only")
    assert {text.main for line in theirs.lines for text in line.texts} <= {"50.0", "60.0", ""}
    assert any("Not measured, Birds" in note and "prepare it" in note for note in grids.notes)


def test_the_best_measured_is_marked_and_floors_do_not_compete() -> None:
    grid = layout("3", {"DRC": 0.4, "GrabCut": 0.5, "all-foreground": 0.9}).grids[0]
    assert {line.words[0] for line in grid.lines if any(text.best for text in line.texts)} == {"GrabCut"}
    assert not any(text.best for line in layout("3", {"DRC": 0.4}).grids[0].lines for text in line.texts)
    text = to_markdown(layout("3", {"DRC": 0.4, "GrabCut": 0.5}))
    assert "| **50.0** |" in text
    assert "\\textbf{50.0}" in to_latex(layout("3", {"DRC": 0.4, "GrabCut": 0.5}))


def test_what_is_not_trained_competes_in_every_line_of_its_test_set() -> None:
    grid = layout("4", {"DRC": 0.4, "ReDO": 0.3, "GrabCut": 0.5}).grids[0]
    best = [(line.words[0], i) for line in grid.lines for i, text in enumerate(line.texts) if text.best]
    assert {line for line, _ in best} == {"Squares ← Squares", "Ellipses ← Ellipses", "Hearts ← Hearts"}
    assert {i for _, i in best} == {0, 1}  # GrabCut's columns


def test_a_method_within_a_point_of_a_floor_is_flagged() -> None:
    notes = layout("3", {"DRC": 0.075, "GrabCut": 0.5, "all-foreground": 0.07}).notes
    flagged = [note for note in notes if note.startswith("Within a point of a floor")]
    assert len(flagged) == 2  # both splits
    assert all("DRC" in note and "7.5" in note and "7.0" in note for note in flagged)


def test_every_strategy_is_in_the_appendix() -> None:
    scores = {"dataset-permutation": {"iou": 0.2, "dice": 0.3}}
    changes = {"protocol": "image-permutation", "alternatives": scores}
    grid = layout("3", {"ReDO": 0.4}, **changes).grids[-1]
    assert grid.title.startswith("Appendix")
    assert [line.words for line in grid.lines] == [
        ("ReDO", "image-permutation"),
        ("ReDO", "dataset-permutation"),
    ]
    assert str(grid.lines[1].texts[0]) == "20.0"
    assert (
        strategies_csv(measured("3", {"ReDO": 0.4}, **changes)[1]).count("dataset-permutation,20.0,30.0") == 2
    )
    assert strategies_csv(measured("3", {"GrabCut": 0.4})[1]) == ""


def test_restarts_and_training_seconds_are_said() -> None:
    notes = layout("3", {"ReDO": 0.4}, restarts=2, train_seconds=321.0).notes
    assert any("ReDO: 321 training seconds" in note and "2 (seed 0)" in note for note in notes)


def test_the_long_layout_has_one_line_a_cell_with_its_interval() -> None:
    grid = layout("3", {"DRC": 0.4, "GrabCut": 0.4}, Style("long"), iou_low=0.381, iou_high=0.421).grids[0]
    assert len(grid.lines) == 4
    assert len({len(line.words) + len(line.texts) for line in grid.lines} | {len(grid.heads)}) == 1
    assert str(grid.lines[0].texts[1]) == "38.1 to 42.1"


@pytest.mark.parametrize("style", [Style(), Style("long"), Style("paper", "hidden"), Style("long", "hidden")])
def test_every_format_has_every_layout(style: Style) -> None:
    found = layout("4", {"DRC": 0.4, "GrabCut": 0.5}, style)
    for text in (to_text(found), to_markdown(found), to_latex(found)):
        assert "40.0" in text
        assert ("Published" in text) == (style.published == "beside")


def test_json_lines_hold_what_the_csv_holds_and_the_commands() -> None:
    table, printed = measured("3", {"DRC": 0.4, "GrabCut": 0.5})
    lines = [json.loads(line) for line in to_json_lines(table, printed).splitlines()]
    head = to_csv(table, printed).splitlines()[0].split(",")
    assert [list(line) for line in lines] == [[*head, "rows"]] * len(printed)
    made = [r["command"] for line in lines for r in line["rows"]]
    assert len(made) == 4
    assert all(command.startswith("python -m benchmarks ") for command in made)


def test_differences_are_of_the_same_images_and_of_the_same_training_set(tmp_path: Path) -> None:
    _, printed = measured("4", {"DRC": 0.4, "ReDO": 0.3, "GrabCut": 0.5, "all-foreground": 0.1})
    found = []
    for number, p in enumerate(printed):
        if p.rows:
            kept = replace(p.rows[0], key=f"{number:016x}", n_images=9, dice=0.5)
            found.append(replace(p, rows=(kept,)))
            keep_scores(tmp_path, kept, "".join(f"{i},{kept.iou + (i - 4) / 100},0.5\n" for i in range(9)))
    pairs = differences(found, tmp_path, tmp_path, tmp_path / "paired.csv")
    assert len(pairs) == 3 * (1 + 3)  # for each test set: GrabCut once, ReDO for each training set
    for one, other, intervals in pairs:
        assert one.entry.method == "DRC"
        assert other.entry.train_dataset in ("", one.entry.train_dataset)
        expected = 10.0 if other.entry.method == "ReDO" else -10.0
        assert intervals["iou"].mean == pytest.approx(expected)
        assert intervals["dice"].mean == 0
    assert len(difference_grid(pairs).lines) == 12
    kept = found[0].rows[0]
    keep_scores(tmp_path, kept, "".join(f"other-{i},{kept.iou},0.5\n" for i in range(9)))
    assert len(differences(found, tmp_path, tmp_path, tmp_path / "paired.csv")) == 11


def test_another_way_to_segment_is_compared_with_the_other_methods_too(tmp_path: Path) -> None:
    scores = {"DRC": 0.4, "DRC by responsibilities": 0.45, "ReDO": 0.3, "GrabCut": 0.5}
    _, printed = measured("1", scores)
    held_out = [p for p in printed if p.rows and (p.entry.dataset, p.entry.split) == ("tm-dsprites", "test")]
    for number, p in enumerate(held_out):
        (kept,) = (replace(r, key=f"{number:016x}", n_images=2, iou=0.5, dice=0.5) for r in p.rows)
        held_out[number] = replace(p, rows=(kept,))
        keep_scores(tmp_path, kept, "a,0.5,0.5\nb,0.5,0.5\n")
    pairs = differences(held_out, tmp_path, tmp_path, tmp_path / "paired.csv")
    compared = {(one.entry.variant, other.entry.line) for one, other, _ in pairs}
    others = {"GrabCut", "ReDO", "GrabCut center60", "GrabCut bbox"}
    assert compared == {
        *(("full", line) for line in (*others, "DRC by responsibilities", "DRC untuned")),
        *(("responsibilities", line) for line in others),
    }


def test_without_the_reference_the_first_method_is_compared_trained_or_not(tmp_path: Path) -> None:
    for methods in (["GrabCut", "ReDO"], ["ReDO", "GrabCut"]):
        found = []
        for entry in sweep_table("mine", methods, [], [], ["tm-dsprites"]).entries:
            made = row(entry, key=entry.method, n_images=1, iou=0.5, dice=0.5)
            found.append(Printed(entry, "quick", "measured", rows=(made,)))
            keep_scores(tmp_path, made, "a,0.5,0.5\n")
        ((one, other, _),) = differences(found, tmp_path, tmp_path, tmp_path / "paired.csv")
        assert [one.entry.method, other.entry.method] == methods


def test_differences_are_of_the_seeds_that_both_have(tmp_path: Path) -> None:
    _, printed = measured("3", {"DRC": 0.4, "ReDO": 0.3, "GrabCut": 0.5})
    ours, redo, grabcut = (
        next(p for p in printed if p.rows and p.entry.method == name and p.entry.dataset == "tm-dsprites")
        for name in ("DRC", "ReDO", "GrabCut")
    )

    def scored(p: Printed, ious: dict[int, float]) -> Printed:
        rows = tuple(
            row(p.entry, key=f"{p.entry.method}{s}", seed=s, n_images=1, iou=v, dice=v)
            for s, v in ious.items()
        )
        for r in rows:
            keep_scores(tmp_path, r, f"a,{r.iou},{r.dice}\n")
        return replace(p, rows=rows)

    ours, redo = scored(ours, {0: 0.4, 1: 0.6, 2: 0.8}), scored(redo, {1: 0.3, 5: 0.9})
    grabcut = scored(replace(grabcut, entry=replace(grabcut.entry, train_dataset="")), {0: 0.5})
    pairs = differences([ours, redo, grabcut], tmp_path, tmp_path, tmp_path / "paired.csv")
    found = {other.entry.method: intervals["iou"].mean for _, other, intervals in pairs}
    assert found == {"ReDO": pytest.approx(30), "GrabCut": pytest.approx(10)}
    assert [line.words[2] for line in difference_grid(pairs).lines] == ["1", "0 1 2"]
    assert "seeds" in paired_csv(pairs).splitlines()[0]
    redo = replace(redo, rows=redo.rows[1:])
    assert not differences([ours, redo], tmp_path, tmp_path, tmp_path / "paired.csv")
    assert "no seed in common" in unpaired([ours, redo], [])[0]


def test_what_is_not_trained_is_compared_once_where_nothing_was_trained_on_the_test_set() -> None:
    found = [e for e in load_table("photos").entries if e.dataset == "coco-mval"]
    entries = [e for e in found if e.column != "DRC by responsibilities"]
    printed = [Printed(e, "quick-ablation", "measured", rows=(row(e),)) for e in entries]
    (note,) = unpaired(printed, [])
    assert note.count("and GrabCut") == 1
    assert note.count("and ReDO") == 2


def test_a_difference_is_taken_over_where_the_scores_are_elsewhere(tmp_path: Path) -> None:
    file, nowhere = tmp_path / "paired.csv", tmp_path / "none"
    _, printed = measured("3", {"DRC": 0.4, "ReDO": 0.3, "GrabCut": 0.5})
    entry = next(p.entry for p in printed if p.rows)
    names = f"DRC,GrabCut,{entry.dataset},{entry.split},{ROW.n_images}"
    head = "method,other,dataset,split,n_images,iou_difference,iou_low,iou_high,"
    head += "dice_difference,dice_low,dice_high\n"
    file.write_text(f"{head}{names},-10.0,-12.0,-8.0,-10.0,-12.0,-8.0\n")
    pairs = differences(printed, nowhere, nowhere, file)
    assert [(one.entry.method, other.entry.method) for one, other, _ in pairs] == [("DRC", "GrabCut")]
    assert pairs[0][2]["iou"] == Interval(-10, -12, -8)
    (note,) = unpaired(printed, pairs)
    assert "DRC and ReDO" in note
    assert f"DRC and GrabCut ({place_of(entry)})" not in note
    other_seeds = f"{head}{names},-10.0,-12.0,-8.0,-10.0,-12.0,-8.0\n".replace(
        "n_images,", "n_images,seeds,", 1
    )
    file.write_text(other_seeds.replace(names, f"{names},0 1"))
    assert not differences(printed, nowhere, nowhere, file)
    for wrong in ("-10.2,-12.0,-8.0,-10.0,-12.0,-8.0", "-10.0,-12.0,-8.0,,,", "x"):
        file.write_text(f"{head}{names},{wrong}\n")
        assert not differences(printed, nowhere, nowhere, file)
    file.write_text("other\n1\n")
    assert not differences(printed, nowhere, nowhere, file)


def test_what_is_not_trained_names_no_training_set() -> None:
    stored = Stored()
    for entry in load_table("photos").entries:
        cell = entry.cell("quick", 0)
        if cell is not None and entry.method in ("GrabCut", "DRC"):
            stored.rows[cell] = replace(row(entry), preset="quick", train_dataset=cell.train_dataset)
    printed = print_cells(load_table("photos"), "quick", [0], stored, lambda entry: "")
    found = {(p.entry.method, p.entry.train_dataset == "") for p in printed if p.rows}
    assert found == {("GrabCut", True), ("DRC", False)}


LATEX = shutil.which("pdflatex")


@pytest.mark.skipif(LATEX is None, reason="no pdflatex is installed")
@pytest.mark.parametrize("style", [Style(), Style("long")])
def test_latex_compiles_as_it_is_and_inside_a_paper(style: Style, tmp_path: Path) -> None:
    assert LATEX
    (tmp_path / "table.tex").write_text(to_latex(layout("4", {"DRC": 0.4, "GrabCut": 0.5}, style)))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\n"
        "\\begin{document}See Table~\\ref{tab:table4}.\\input{table}Done.\\end{document}\n"
    )
    for name in ("table", "paper"):
        done = subprocess.run(
            [LATEX, "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        assert "LaTeX Error" not in done.stdout


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_a_table_does_something_on_a_fresh_machine(number: str, tmp_path: Path) -> None:
    """Without training: the floors and GrabCut on the stand-in, beside the published figures."""
    places = [w for n in ("data", "runs", "results") for w in (f"--{n}", str(tmp_path / n))]
    words = [
        "--methods",
        "all-foreground" if number == "2" else "GrabCut,all-foreground",
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--layout",
        "paper",
    ]
    done = CliRunner().invoke(main, ["table", number, *words, *places])
    assert done.exit_code == 0, done.output
    assert STAND_IN in done.output
    assert "Published only" in done.output
    assert "python -m data_prep birds" in done.output
    text = (tmp_path / "results" / f"table{number}-smoke.csv").read_text()
    assert ",measured," in text
    assert ",published-only," in text


def test_what_was_trained_once_is_named() -> None:
    table, printed = measured("3", {"DRC": 0.4, "GrabCut": 0.5})
    found = []
    for p in printed:
        cell = p.entry.cell("quick", 0)
        train = cell.train_dataset if cell else ""
        found.append(replace(p, rows=tuple(replace(row, train_dataset=train) for row in p.rows)))
    (note,) = [note for note in notes_of(table, "quick", found) if note.startswith("Of one seed")]
    assert "DRC" in note
    assert "GrabCut" not in note
