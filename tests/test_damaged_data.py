"""A data set that is damaged is named at once, costs only its own cells, and is none the less a failure."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.launch import ClusterJob
from benchmarks.registry import DATASETS
from benchmarks.session import Session
from benchmarks.status import survey
from data_prep.tm_dsprites import TMDspritesConfig, generate

pytestmark = pytest.mark.usefixtures("own_data_sets")
TESTS = "tm-dsprites-squares,tm-dsprites"


def sweep(folder: Path, *words: str) -> Result:
    """The floors on squares, whose data set the tests damage, and on sprites of every shape."""
    places = [word for name in ("data", "runs", "results") for word in (f"--{name}", str(folder / name))]
    floors = ("--methods", "all-foreground", "--preset", "smoke", "--device", "cpu")
    return CliRunner().invoke(main, ["sweep", *floors, *places, *words])


@pytest.fixture
def squares(smoke_data: Path, tmp_path: Path) -> Path:
    """The prepared squares, beside the sprites of every shape."""
    assert sweep(tmp_path, "--test", "tm-dsprites-squares", "--runs", str(tmp_path / "other")).exit_code == 0
    return smoke_data / "tm-dsprites-squares-16"


def truncate(folder: Path) -> str:
    file = folder / "images.npy"
    file.write_bytes(file.read_bytes()[:-9])
    return "images.npy is truncated"


def change(folder: Path) -> str:
    content = bytearray((folder / "masks.npy").read_bytes())
    content[-1] ^= 1
    (folder / "masks.npy").write_bytes(content)
    return "masks.npy changed since it was written"


@pytest.mark.parametrize("damage", [truncate, change])
@pytest.mark.parametrize("options", [[], ["--jobs", "2"]])
def test_the_others_are_computed(
    damage: Callable[[Path], str], options: list[str], squares: Path, tmp_path: Path
) -> None:
    why = damage(squares)
    done = sweep(tmp_path, "--test", TESTS, *options)
    assert done.exit_code == 1, done.output
    assert "Cells: 1 failed, 1 computed" in done.output
    assert f"Failed: all-foreground fixed on tm-dsprites-squares test, smoke: {squares}" in done.output
    assert why in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("damage", [truncate, change])
def test_it_is_named_before_anything_is_computed(
    damage: Callable[[Path], str], squares: Path, tmp_path: Path
) -> None:
    why = damage(squares)
    lines = sweep(tmp_path, "--test", f"tm-dsprites,{TESTS}").output.splitlines()
    assert why in lines[0]
    assert lines[0].endswith("what needs no such data set is computed")


@pytest.mark.parametrize("damage", [truncate, change])
def test_where_there_is_no_other_it_is_refused(
    damage: Callable[[Path], str], squares: Path, tmp_path: Path
) -> None:
    why = damage(squares)
    done = sweep(tmp_path, "--test", "tm-dsprites-squares")
    assert done.exit_code == 2, done.output
    assert why in done.output


def test_where_all_need_it_it_is_refused_though_others_are_there(squares: Path, tmp_path: Path) -> None:
    why = truncate(squares)
    words = ("--methods", "DRC", "--train", "tm-dsprites-squares", "--test", "tm-dsprites")
    done = sweep(tmp_path, *words)
    assert done.exit_code == 2, done.output
    assert why in done.output


@pytest.mark.parametrize("damage", [truncate, change])
@pytest.mark.parametrize("options", [[], ["--jobs", "2"]])
def test_mended_it_is_computed(
    damage: Callable[[Path], str], options: list[str], squares: Path, tmp_path: Path
) -> None:
    whole = {name: (squares / name).read_bytes() for name in ("images.npy", "masks.npy")}
    damage(squares)
    sweep(tmp_path, "--test", TESTS, *options)
    for name, content in whole.items():
        (squares / name).write_bytes(content)
    done = sweep(tmp_path, "--test", TESTS, *options)
    assert done.exit_code == 0, done.output
    assert "failed" not in done.output


def test_its_kept_figure_is_not_shown_once_it_is_replaced(squares: Path, tmp_path: Path) -> None:
    """The figure is of the images that were there; those that were put in their place cannot be read."""
    assert sweep(tmp_path, "--test", "tm-dsprites-squares").exit_code == 0
    shutil.rmtree(squares)
    other = TMDspritesConfig(shapes=("square",), count=64, heldout=32, size=16, seed=5)
    generate(squares, other, command="")
    truncate(squares)
    for words in (("--test", TESTS), ("--test", TESTS, "--collect-only")):
        sweep(tmp_path, *words)
        with (tmp_path / "results" / "sweep-smoke.csv").open() as file:
            shown = {line["dataset"]: line["status"] for line in csv.DictReader(file)}
        assert shown == {"tm-dsprites-squares": "missing", "tm-dsprites": "measured"}


def test_no_job_is_submitted_that_needs_it(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = truncate(squares)
    sent: list[str] = []

    def noted(commands: list[list[str]], *options: object) -> list[ClusterJob]:
        sent.extend(words[words.index("--train") + 1] for words in commands if "--train" in words)
        return []

    monkeypatch.setattr("benchmarks.session.submit", noted)
    done = sweep(tmp_path, "--test", TESTS, "--methods", "DRC", "--launcher", "slurm")
    assert done.exit_code == 1, done.output
    assert why in done.output
    assert sent == ["tm-dsprites"]
    assert f"status --data {tmp_path / 'data'} --runs {tmp_path / 'runs'} shows" in done.output


def test_a_cell_that_damage_meanwhile_stopped_is_seen_by_status(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "faulty", {})  # as it was found before
    change(squares)
    sweep(tmp_path, "--test", TESTS)
    assert {state.cell.test_dataset: state.state for state in survey(tmp_path / "runs", [])} == {
        "tm-dsprites-squares": "stopped",
        "tm-dsprites": "done",
    }


@pytest.mark.parametrize("damage", [truncate, change])
def test_anybodys_own_costs_only_its_own_cells(
    damage: Callable[[Path], str], squares: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(squares, tmp_path / "own"))
    why = damage(own)
    done = sweep(tmp_path, "--test", f"{own}:test,tm-dsprites-squares")
    assert done.exit_code == 1, done.output
    assert "Cells: 1 failed, 1 computed" in done.output
    assert why in done.output


def test_a_data_set_without_the_split_to_train_on_costs_only_its_own(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        DATASETS, "tm-dsprites-squares", replace(DATASETS["tm-dsprites-squares"], train="foo")
    )
    done = sweep(tmp_path, "--test", TESTS, "--methods", "all-foreground,DRC", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "has no split 'foo'; it has test, train" in done.output
    assert "DRC full on tm-dsprites test seed 0, smoke: to do" in done.output
