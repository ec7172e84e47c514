"""Rows that are kept, merged, imported: nothing is lost, nothing counted twice, what disagrees is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cell_helpers import keep_row
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.cells import Row, parse_row
from benchmarks.collect import read_runs
from benchmarks.errors import BenchmarkError
from benchmarks.rows import (
    KEPT,
    SCORES,
    Stored,
    file_name,
    find_scores,
    import_rows,
    keep_rows,
    merge,
    read_kept,
)

LINES = (Path(__file__).parent / "golden" / "table1" / "rows.jsonl").read_text().splitlines()
ROW = parse_row(LINES[0], "golden")
SCORED = "id,iou,dice\n" + "".join(f"{i},{ROW.iou},{ROW.dice}\n" for i in range(ROW.n_images))


def test_what_was_measured_is_kept_once_and_read_back_elsewhere(tmp_path: Path) -> None:
    keep_row(tmp_path / "runs", ROW)
    for _ in range(2):
        read_runs(tmp_path / "runs", tmp_path / "rows")
    assert [path.name for path in (tmp_path / "rows").iterdir()] == [file_name(ROW)]
    elsewhere = read_runs(tmp_path / "nothing", tmp_path / "rows")
    assert list(elsewhere.rows.values()) == [replace(ROW, source=KEPT)]
    assert list(read_runs(tmp_path / "runs", tmp_path / "rows").rows.values()) == [ROW]
    assert not elsewhere.faults


def test_rows_of_a_smoke_run_are_not_kept(tmp_path: Path) -> None:
    keep_rows([replace(ROW, preset="smoke")], [], tmp_path, tmp_path / "cells")
    assert not list(tmp_path.iterdir())


def test_a_row_that_was_replaced_is_kept_no_longer(tmp_path: Path) -> None:
    keep_rows([ROW], [], tmp_path, tmp_path / "cells")
    again = replace(ROW, iou=0.5, finished="2027-01-01T00:00:00+00:00")
    keep_rows([again], [ROW], tmp_path, tmp_path / "cells")
    assert [path.name for path in tmp_path.iterdir()] == [file_name(again)]


def test_a_row_stays_until_its_successor_is_there(tmp_path: Path) -> None:
    keep_rows([ROW], [], tmp_path, tmp_path / "cells")
    keep_rows([replace(ROW, key="f" * 16)], [ROW], tmp_path, tmp_path / "cells")  # stopped before it was done
    assert (tmp_path / file_name(ROW)).exists()


def test_a_row_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / f".{file_name(ROW)}.0123abcd").write_text("{")
    assert read_kept(tmp_path) == ([], [])


def test_the_scores_of_single_images_are_kept_beside_their_row_and_imported_with_it(tmp_path: Path) -> None:
    cells, kept, theirs = tmp_path / "cells", tmp_path / "rows", tmp_path / "theirs"
    (cells / ROW.key).mkdir(parents=True)
    (cells / ROW.key / SCORES).write_text(SCORED)
    keep_rows([ROW], [], kept, cells)
    beside = (kept / file_name(ROW)).with_suffix(".csv")
    assert beside.read_text() == (cells / ROW.key / SCORES).read_text()
    assert find_scores(ROW, tmp_path / "none", kept) == beside
    import_rows([kept / file_name(ROW)], theirs, "a colleague")
    assert find_scores(ROW, tmp_path / "none", theirs).read_text() == beside.read_text()
    (theirs / beside.name).unlink()
    assert import_rows([kept / file_name(ROW)], theirs, "a colleague")[:2] == (0, 1)
    assert (theirs / beside.name).exists()
    keep_rows([replace(ROW, iou=0.5)], [ROW], kept, cells)
    assert ROW.iou != 0.5
    assert not (kept / file_name(ROW)).exists()
    assert not beside.exists()


def test_a_row_of_a_run_brings_its_scores_and_one_without_them_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_row(tmp_path, ROW)
    file = tmp_path / "cells" / ROW.key / "row.json"
    import_rows([file], tmp_path / "bare", "a colleague")
    assert "did not come with 1 rows" in caplog.text
    (file.parent / SCORES).write_text(SCORED)
    caplog.clear()
    import_rows([file], tmp_path / "whole", "a colleague")
    assert not caplog.text
    assert find_scores(ROW, tmp_path / "none", tmp_path / "whole").exists()


@pytest.mark.parametrize(
    "text",
    [
        SCORED.replace(str(ROW.iou), "0.123", 1),
        SCORED.replace(str(ROW.dice), "nan", 1),
        SCORED.rpartition(str(ROW.n_images - 1))[0],
        SCORED.replace(",", ";"),
        "",
    ],
)
def test_scores_that_are_not_the_rows_are_named_and_not_imported(text: str, tmp_path: Path) -> None:
    keep_row(tmp_path, ROW)
    file = tmp_path / "cells" / ROW.key / "row.json"
    (file.parent / SCORES).write_text(text)
    new, _, (fault,) = import_rows([file], tmp_path / "theirs", "a colleague")
    assert new == 1
    assert fault.startswith(str(file.parent / SCORES))
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == [file_name(ROW)]


def test_rows_of_what_is_not_registered_are_kept_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "row.json"
    file.write_text(json.dumps(replace(ROW, method="theirs", test_dataset="mine").to_json()))
    assert import_rows([file], tmp_path / "rows", "a colleague")[:2] == (1, 0)
    file.write_text(json.dumps(replace(ROW, variant="fulll", preset="huge").to_json()))
    assert import_rows([file], tmp_path / "rows", "a colleague")[:2] == (1, 0)
    assert "of huge, GrabCut fulll there is no entry" in caplog.text
    assert "of theirs, mine there is no entry in benchmarks/registry.py" in caplog.text


def test_the_scores_of_a_run_that_failed_are_not_those_of_a_kept_row(tmp_path: Path) -> None:
    keep_row(tmp_path, ROW)
    folder, kept = tmp_path / "cells" / ROW.key, tmp_path / "rows"
    (folder / SCORES).write_text(SCORED)
    assert find_scores(ROW, tmp_path / "cells", kept) == folder / SCORES
    (folder / "done").unlink()
    assert find_scores(ROW, tmp_path / "cells", kept).parent == kept
    (folder / "done").touch()
    assert find_scores(replace(ROW, iou=0.9), tmp_path / "cells", kept).parent == kept


def test_of_rows_that_say_the_same_one_with_scores_is_used(tmp_path: Path) -> None:
    rows = [replace(ROW, train_seconds=seconds) for seconds in (1.0, 2.0, 3.0)]
    kept = tmp_path / "rows"
    keep_rows(rows, [], kept, tmp_path / "none")
    for row in rows:
        beside = kept / file_name(row).replace(".json", ".csv")
        beside.write_text("id,iou,dice\n")
        found = read_runs(tmp_path / "none", kept)
        assert list(found.rows.values()) == [replace(row, source=KEPT)]
        beside.unlink()


def test_two_machines_never_write_one_name_with_two_contents() -> None:
    assert file_name(ROW) == file_name(replace(ROW, source="a colleague"))
    assert file_name(ROW) != file_name(replace(ROW, iou=ROW.iou + 1e-9))
    assert file_name(ROW).startswith(ROW.key)


@pytest.mark.parametrize("own", [[ROW], []])
def test_rows_that_say_the_same_are_used_once(own: list[Row]) -> None:
    twin = replace(ROW, device="another", finished="2026-02-01T00:00:00+00:00")
    stored = Stored()
    merge(own, [ROW, twin], stored)
    assert (len(stored.rows), stored.faults) == (1, [])
    assert (stored.rows[ROW.cell] == ROW) == bool(own)


@pytest.mark.parametrize("sources", [("a colleague", "the lab"), ("", "")], ids=["imported", "kept"])
def test_rows_that_disagree_are_set_aside_together(sources: tuple[str, str]) -> None:
    one, other = (replace(ROW, iou=ROW.iou + 0.02 * i, source=source) for i, source in enumerate(sources))
    stored = Stored()
    merge([], [one, other, parse_row(LINES[1], "golden")], stored)
    assert [row.variant for row in stored.rows.values()] == ["bbox"]
    (said,) = stored.faults
    assert ROW.key in said
    assert (sources[1] or "unmarked") in said
    assert "none is printed" in said


def test_an_imported_row_that_disagrees_takes_no_figure_of_ones_own_away() -> None:
    theirs = replace(ROW, iou=ROW.iou + 0.02, source="a colleague")
    for rows in ([theirs, ROW], [ROW, theirs, replace(ROW, train_seconds=9.0)]):
        stored = Stored()
        merge([], rows, stored)
        assert stored.rows[ROW.cell].iou == ROW.iou
        (said,) = stored.faults
        assert "a colleague" in said
        assert "the first is not imported and is printed" in said


@pytest.mark.parametrize(
    ("iou", "dice", "agree"),
    [
        (0.0009, -0.0009, True),
        (0.002, 0.0, False),
        (-0.002, 0.0, False),
        (0.0, 0.002, False),
        (0.0, 0.02, False),
    ],
)
def test_rows_agree_where_iou_and_dice_are_the_same_to_a_tenth_of_a_point(
    iou: float, dice: float, agree: bool
) -> None:
    one = replace(ROW, source="the lab")
    other = replace(ROW, iou=ROW.iou + iou, dice=ROW.dice + dice, source="a colleague")
    stored = Stored()
    merge([], [one, other], stored)
    assert (len(stored.rows), len(stored.faults)) == ((1, 0) if agree else (0, 1))


def test_what_was_measured_here_stands_against_a_kept_row() -> None:
    other = replace(ROW, iou=ROW.iou + 0.02, finished="2027-01-01T00:00:00+00:00")
    stored = Stored()
    merge([ROW], [other], stored)
    assert list(stored.rows.values()) == [ROW]
    assert "measured here" in stored.faults[0]


def test_a_faulty_kept_row_is_named_and_the_others_read(tmp_path: Path) -> None:
    keep_rows([ROW], [], tmp_path, tmp_path / "cells")
    (tmp_path / "old.json").write_text(json.dumps({**ROW.to_json(), "format": 1}))
    (tmp_path / "many.jsonl").write_text(LINES[1] + "\n" + LINES[2][:50] + "\n\n")
    rows, faults = read_kept(tmp_path)
    assert len(rows) == 2
    assert any("old.json" in f and "format 1" in f and "measure it again" in f for f in faults)
    assert any("many.jsonl line 2" in f for f in faults)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"iou_high": 1.5}, "iou_high"),
        ({"dice_low": -0.5}, "dice_low"),
        ({"dice": 1.01}, "dice"),
        ({"alternatives": {"best-slot": {"iou": 2, "dice": 0.1}}}, "best-slot"),
        ({"alternatives": {"best-slot": {"iou": 0.1}}}, "best-slot"),
        ({"train_seconds": -1.0}, "train_seconds"),
        ({"train_seconds": float("inf")}, "train_seconds"),
        ({"failures": 1000}, "failures"),
        ({"seed": True}, "seed"),
        ({"restarts": None}, "restarts"),
        ({"key": "../escape"}, "key"),
        ({"fg_ari": 7.3}, "fg_ari"),
        ({"fg_ari": -55}, "fg_ari"),
        ({"iou": ROW.dice, "dice": ROW.iou, "iou_low": None, "iou_high": None}, "dice"),
        ({"iou_low": 0.9, "iou_high": 0.1}, "iou"),
        ({"dice_low": 0.999}, "outside its interval"),
        ({"dice_low": None}, "two ends"),
        ({"image_size": 0}, "image_size"),
        ({"peak_memory_mb": -3.0}, "peak_memory_mb"),
        ({"finished": "yesterday"}, "finished"),
        ({"finished": "2026-01-31T12:00:00"}, "finished"),
        ({"versions": {"python": 3}}, "versions"),
        ({"versions": {"python": "\ud800"}}, "versions"),
        ({"alternatives": {"\ud800": {"iou": 0.1, "dice": 0.1}}}, "alternatives"),
    ],
)
def test_impossible_values_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(BenchmarkError, match=f"here.*{named}"):
        parse_row(json.dumps({**ROW.to_json(), **change}), "here")


def test_a_missing_field_is_named() -> None:
    content = ROW.to_json()
    del content["commit"]
    with pytest.raises(BenchmarkError, match="lacks commit"):
        parse_row(json.dumps(content), "here")


def test_imported_rows_are_marked_and_counted_once(tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join([*LINES[:3], "{"]))
    assert import_rows([file], tmp_path / "rows", "the lab")[:2] == (3, 0)
    new, known, faults = import_rows([file], tmp_path / "rows", "the lab")
    assert (new, known) == (0, 3)
    assert "theirs.jsonl line 4" in faults[0]
    assert {row.source for row in read_kept(tmp_path / "rows")[0]} == {"the lab"}


def test_files_that_hold_no_row_are_named(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    files = [empty, binary, tmp_path / "none.json", tmp_path]
    new, known, faults = import_rows(files, tmp_path / "rows", "the lab")
    assert (new, known) == (0, 0)
    assert faults[0] == f"{empty} holds no row"
    assert faults[1].startswith(f"{binary} cannot be read: ")
    assert faults[2].startswith(f"{tmp_path / 'none.json'} cannot be read: ")
    assert faults[3] == f"{tmp_path} is a folder: name its files, such as {tmp_path}/*.json"


def test_of_many_faulty_rows_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join([*LINES, *20 * ["{"]]))
    done = CliRunner().invoke(
        main, ["import", str(file), "--source", "x", "--results", str(tmp_path / "results")]
    )
    assert done.exit_code == 0, done.output
    assert done.stderr.count("Left out: ") == 12
    assert "... and 8 more" in done.stderr
    assert "20 left out" in done.stdout


def test_rows_of_a_smoke_run_are_not_imported(tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join(json.dumps(replace(ROW, preset=name).to_json()) for name in ("smoke", "quick")))
    new, known, (fault,) = import_rows([file], tmp_path / "rows", "the lab")
    assert (new, known) == (1, 0)
    assert "theirs.jsonl" in fault
    assert "figures of smoke mean nothing" in fault
    assert [row.preset for row in read_kept(tmp_path / "rows")[0]] == ["quick"]


def test_the_command_imports_and_the_table_says_whose_they_are(tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join([*LINES, "{"]))
    places = ["--results", str(tmp_path / "results")]
    done = CliRunner().invoke(main, ["import", str(file), "--source", "the lab", *places])
    assert done.exit_code == 0, done.output
    assert f"{len(LINES)} new, 0 known before, 1 left out" in done.output
    places += ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    shown = CliRunner().invoke(main, ["table", "1", "--collect-only", *places])
    assert shown.exit_code == 0, shown.output
    assert "Measured by the lab: GrabCut" in shown.output


def test_what_no_table_can_hold_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROW.to_json()))
    words = ["import", str(tmp_path / "a.json"), "--results", str(tmp_path / "results"), "--source"]
    refused = CliRunner().invoke(main, [*words, "caf\udce9"])
    assert refused.exit_code == 2
    assert "characters that no row can hold" in refused.output
    (tmp_path / "a.json").write_text(json.dumps({**ROW.to_json(), "device": "cpu \ud800"}))
    left_out = CliRunner().invoke(main, [*words, "the lab"])
    assert left_out.exit_code == 2
    assert "device is" in left_out.output
    assert not list((tmp_path / "results").rglob("*.json"))


def test_an_import_of_nothing_usable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    done = CliRunner().invoke(
        main, ["import", str(tmp_path / "bad.json"), "--source", "x", "--results", str(tmp_path / "results")]
    )
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_rows_of_a_budget_that_is_not_known_here_are_kept_and_imported(tmp_path: Path) -> None:
    later = replace(ROW, preset="of-a-later-version")
    keep_rows([later], [], tmp_path / "rows", tmp_path / "cells")
    (kept,) = (tmp_path / "rows").iterdir()
    assert import_rows([kept], tmp_path / "theirs", "a colleague") == (1, 0, [])
