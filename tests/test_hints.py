"""A command that the suite names in a note does what it says, wherever data, runs and results lie."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main

pytestmark = pytest.mark.usefixtures("own_data_sets")


def call(*words: str) -> Result:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done


def lines(results: Path) -> dict[str, dict[str, str]]:
    """The lines of the table by their methods' headlines."""
    with (results / "grey-smoke.csv").open() as file:
        return {line["method"]: line for line in reversed(list(csv.DictReader(file)))}


def hint(results: Path) -> list[str]:
    """The words of the command that measures GrabCut."""
    return shlex.split(lines(results)["GrabCut"]["reason"].removeprefix("not run yet: "))


RUN = ("table", "grey", "--preset", "smoke", "--methods", "all-foreground")


def test_what_was_not_run_is_measured_by_the_command_that_the_table_names(
    smoke_data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "my own"
    places = ["--data", str(smoke_data), "--runs", str(home / "runs"), "--results", str(home / "results")]
    call(*RUN, "--seeds", "0,1", *places)
    python, m, program, *words = hint(home / "results")
    assert (python, m, program) == ("python", "-m", "benchmarks")
    assert words[words.index("--seeds") + 1] == "0,1"
    call(*words)
    measured = lines(home / "results")
    assert (measured["GrabCut"]["status"], measured["all-foreground"]["status"]) == ("measured",) * 2


def test_with_the_defaults_a_command_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call(*RUN)
    assert hint(tmp_path / "results")[-2:] == ["--datasets", "tm-dsprites-grey"]


def test_status_names_the_folder_of_the_data(tmp_path: Path) -> None:
    said = call("status", "1", "--data", str(tmp_path / "my data"), "--runs", str(tmp_path / "runs"))
    assert f"--out '{tmp_path / 'my data'}/birds'" in said.output
