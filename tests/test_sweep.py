"""Sweeps, launchers and the survey, with a method that trains in no time."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cell_helpers import cell, invoke
from click.testing import CliRunner
from fake_methods import RandomWalk

from benchmarks.__main__ import main
from benchmarks.cells import read_row
from benchmarks.launch import group_cells, group_command
from benchmarks.locks import claim
from benchmarks.own import resolve_test
from benchmarks.registry import DATASETS
from benchmarks.status import describe, survey
from benchmarks.tables.sweep import sweep_table
from data_prep.store import DatasetWriter

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("own_data_sets")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's prepared data set of 20 pixels, in a folder with a space in its name."""
    rng = np.random.default_rng(0)
    writer = DatasetWriter(
        tmp_path / "my own", name="mine", size=(20, 20), settings={}, licence="mine", expected=12
    )
    with writer:
        for number in range(12):
            mask = np.zeros((20, 20), np.uint8)
            mask[5:12, 5:12] = 1
            image = rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)
            writer.add(image, mask, id=str(number), split=("train", "test")[number % 2], source="-")
    return tmp_path / "my own"


def test_the_folder_of_a_registered_data_set_is_that_data_set(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "mine", replace(DATASETS["birds"], folder=own.name))
    before = set(DATASETS)
    assert resolve_test(f"{own}:test", own.parent) == "mine:test"
    assert set(DATASETS) == before


def records(tmp_path: Path, name: str = "sweep") -> list[dict[str, str]]:
    with (tmp_path / "results" / f"{name}-smoke.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_training_is_scored_on_every_test_set_and_never_repeated(
    random_walk: type[RandomWalk], smoke_data: Path, own: Path, tmp_path: Path
) -> None:
    words = ["sweep", "--methods", "DRC,GrabCut", "--train", f"tm-dsprites,{own}", "--seeds", "0-1"]
    words += ["--test", f"tm-dsprites:eval,tm-dsprites,{own}", "--name", "cross"]
    result = invoke(tmp_path, *words, data=smoke_data)
    assert result.exit_code == 0, result.output
    assert random_walk.steps_taken == 12 * 2 * 2  # two training sets, two seeds
    found = {
        (x["method"], x["train_dataset"], x["dataset"], x["split"]): x for x in records(tmp_path, "cross")
    }
    assert len(found) == 2 * 3 + 3
    assert {x["status"] for x in found.values()} == {"measured"}
    mine = found["DRC", "tm-dsprites", "my own", "test"]
    assert (mine["seeds"], mine["n_images"]) == ("0 1", "6")
    assert float(mine["iou_low"]) <= float(mine["iou"]) <= float(mine["iou_high"])


def test_variants_are_those_that_each_method_has(smoke_data: Path, tmp_path: Path) -> None:
    result = invoke(
        tmp_path, "sweep", "--methods", "GrabCut,all-foreground", "--variants", "all",
        "--test", "tm-dsprites", data=smoke_data,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert {(x["method"], x["variant"], x["train_dataset"]) for x in records(tmp_path)} == {
        ("GrabCut", "border", ""), ("GrabCut", "center60", ""), ("GrabCut", "bbox", ""),
        ("all-foreground", "fixed", ""),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--methods", "DRC", "--test", "tm-dsprite"), "did you mean tm-dsprites?"),
        (("--methods", "DRC", "--test", "tm-dsprites:val"), "choose from: eval, test"),
        (("--methods", "DRC", "--test", "no/such/folder"), "python -m data_prep folder"),
        (("--methods", "DRC", "--variants", "no-tvv", "--test", "tm-dsprites"), "no-tv"),
        (("--methods", "DRC,GrabCut", "--variants", "border", "--test", "tm-dsprites"), "DRC has none of"),
        (("--methods", "DRC", "--test", "tm-dsprites", "--name", "../up"), "no file name"),
        (("--methods", "DRC", "--test", "tm-dsprites", "--launcher", "slum"), "did you mean slurm?"),
        (("--methods", "DRC", "--test", "tm-dsprites", "--layout", "wide"), "paper, long"),
    ],
)
def test_a_wrong_word_is_refused_in_one_sentence(words: tuple[str, ...], named: str, tmp_path: Path) -> None:
    result = invoke(tmp_path, "sweep", *words)
    assert result.exit_code == 2, result.output
    assert named in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_named_like_a_known_data_set_is_refused(own: Path, tmp_path: Path) -> None:
    own.rename(tmp_path / "birds")
    result = invoke(tmp_path, "sweep", "--methods", "GrabCut", "--test", str(tmp_path / "birds"))
    assert result.exit_code == 2
    assert "rename the folder" in result.output


@pytest.mark.parametrize(
    "name", ["table1", "Trials", "grey-gpu", "reproducing", "7", "a/b", "my-paired", "my-cpu-hour"]
)
def test_a_sweep_never_takes_the_name_of_another_result(name: str, tmp_path: Path) -> None:
    words = ["sweep", "--methods", "all-foreground", "--test", "tm-dsprites", "--name", name]
    result = invoke(tmp_path, *words)
    assert result.exit_code == 2
    assert name in result.output
    assert not (tmp_path / "results").exists()


# launchers


def test_cells_of_one_training_go_together() -> None:
    cells = [cell(split=split, seed=seed) for seed in (0, 1) for split in ("eval", "test")]
    cells += [cell("GrabCut", variant="border", split=split) for split in ("eval", "test")]
    assert [len(group) for group in group_cells(cells)] == [2, 2, 2]
    words = group_command(cells[:2], [])
    assert words[words.index("--test") + 1] == "tm-dsprites:eval,tm-dsprites:test"


def test_print_names_the_data_first_and_its_commands_do_the_work(tmp_path: Path) -> None:
    words = ["sweep", "--methods", "GrabCut,all-foreground", "--test", "tm-dsprites"]
    lines = invoke(tmp_path, *words, "--launcher", "print").stdout.splitlines()
    assert lines[0].startswith("python -m data_prep tm-dsprites --out")
    assert not (tmp_path / "runs").exists()
    for line in lines[1:]:
        assert CliRunner().invoke(main, shlex.split(line)[3:]).exit_code == 0
    result = invoke(tmp_path, *words, "--launcher", "print", "--collect-only")
    assert {x["status"] for x in records(tmp_path)} == {"measured"}, result.output


def test_processes_share_the_work(smoke_data: Path, tmp_path: Path) -> None:
    words = ["sweep", "--methods", "GrabCut,all-foreground", "--test", "tm-dsprites,tm-dsprites:eval"]
    result = invoke(tmp_path, *words, "--jobs", "2", data=smoke_data)
    assert result.exit_code == 0, result.output
    assert "4 computed" in result.output
    assert "4 kept" in invoke(tmp_path, *words, "--jobs", "2", data=smoke_data).output


TWO = """
import sys
from fake_methods import SPEC, RandomWalk
from benchmarks import registry
from benchmarks.__main__ import main
registry.METHODS["DRC"] = SPEC
RandomWalk.pause = 0.05
main(sys.argv[1:], prog_name="benchmarks")
"""


@pytest.mark.parametrize("options", [["--jobs", "2"], ["--dry-run"], []])
def test_a_method_that_cannot_run_here_is_skipped_however_it_is_launched(
    options: list[str],
    random_walk: type[RandomWalk],
    smoke_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["sweep", "--methods", "DRC", "--test", "tm-dsprites", *options]

    def refuse(**names: object) -> None:
        raise ValueError("it has no such budget")

    def absent() -> str:
        return "its package is not installed"

    for name, stand_in, reason in (
        ("skip", absent, "its package is not installed"),
        ("configure", refuse, "it has no such budget"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(random_walk, name, stand_in)
            result = invoke(tmp_path, *words, data=smoke_data)
        assert result.exit_code == 0, result.output
        assert reason in result.output
        assert "--dry-run" in options or "1 skipped" in result.output


def test_two_launchers_on_one_folder_never_do_a_cell_twice(smoke_data: Path, tmp_path: Path) -> None:
    words = ["sweep", "--preset", "smoke", "--methods", "DRC", "--test", "tm-dsprites,tm-dsprites:eval"]
    places = {"--data": smoke_data, "--runs": tmp_path / "runs", "--results": tmp_path / "results"}
    words += [word for name, path in places.items() for word in (name, str(path))]
    words += ["--seeds", "0-3", "--device", "cpu", "--compute-only"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", TWO, *words]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    heard = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], heard
    said = [out for out, _ in heard]
    computed = [int(text.split(" computed")[0].split()[-1]) if " computed" in text else 0 for text in said]
    assert sum(computed) == 8, said
    steps = [
        [json.loads(line)["step"] for line in file.read_text().splitlines()]
        for file in (tmp_path / "runs" / "fits").glob("*/progress.jsonl")
    ]
    assert steps == [[12]] * 4  # each training came to its end once


ORPHANS = """
import sys
from pathlib import Path
from benchmarks.launch import run_locally
code = (
    "import os, pathlib, sys, time\\n"
    "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\\n"
    "time.sleep(300)"
)
run_locally([["-c", code, f"{sys.argv[1]}/{i}"] for i in range(2)], 2, Path(sys.argv[1]) / "logs", "cpu")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_the_launcher_that_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    # A shell's background job ignores SIGINT, and so would what it starts.
    stop = f"import signal\nsignal.signal({int(number)}, signal.default_int_handler)\n"
    launcher = subprocess.Popen(
        [sys.executable, "-c", stop + ORPHANS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    files = [tmp_path / "0", tmp_path / "1"]
    while not all(file.exists() and file.read_text() for file in files):
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.send_signal(number)
    launcher.wait(timeout=60)
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def test_damage_is_said_before_processes_are_started(smoke_data: Path, tmp_path: Path) -> None:
    (smoke_data / "tm-dsprites-16" / "masks.npy").write_bytes(
        (smoke_data / "tm-dsprites-16" / "masks.npy").read_bytes()[:-1] + b"\x07"
    )
    words = ["sweep", "--methods", "GrabCut", "--test", "tm-dsprites", "--jobs", "2"]
    result = invoke(tmp_path, *words, data=smoke_data)
    assert result.exit_code == 2
    assert "masks.npy changed since it was written" in result.output
    assert not (tmp_path / "runs" / "cells").exists()


# the survey


def test_the_survey_tells_the_states_apart(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    invoke(tmp_path, "sweep", "--methods", "DRC", "--test", "tm-dsprites", data=smoke_data)
    random_walk.crash_at = 3
    invoke(tmp_path, "sweep", "--methods", "DRC", "--test", "tm-dsprites", "--seeds", "1", data=smoke_data)
    random_walk.crash_at, random_walk.interrupt_at = None, 5
    invoke(tmp_path, "sweep", "--methods", "DRC", "--test", "tm-dsprites", "--seeds", "2", data=smoke_data)
    planned = [cell(seed=seed) for seed in range(4)]
    states = {state.cell.seed: state for state in survey(tmp_path / "runs", planned)}
    assert [states[seed].state for seed in range(4)] == ["done", "failed", "stopped", "missing"]
    assert "the walk left the page" in states[1].note
    stopped = next(
        f.parent for f in (tmp_path / "runs" / "cells").glob("*/config.json")
        if json.loads(f.read_text())["seed"] == 2
    )  # fmt: skip
    with claim(stopped):
        running = {s.cell.seed: s for s in survey(tmp_path / "runs", planned)}[2]
    assert running.state == "running"
    assert str(os.getpid()) in running.note
    text = "\n".join(describe(list(states.values()), everything=False))
    assert "1 done, 0 running, 1 failed, 1 stopped, 1 missing" in text


def test_status_starts_fast_and_counts_what_waits_for_data(tmp_path: Path) -> None:
    result = invoke(tmp_path, "status", "1")
    assert result.exit_code == 0, result.output
    assert "0 done" in result.output
    assert "wait for data sets" in result.output
    code = (
        "import sys; from benchmarks.__main__ import main; main(['status'], standalone_mode=False)\n"
        "heavy = {'torch', 'cv2', 'matplotlib', 'pandas'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_colon_above_the_folder_is_no_split_and_a_comma_in_its_name_is_refused(
    own: Path, tmp_path: Path
) -> None:
    above = tmp_path / "run:2"
    above.mkdir()
    own.rename(above / "mine too")
    words = ("sweep", "--methods", "all-foreground", "--test")
    assert invoke(tmp_path, *words, str(above / "mine too")).exit_code == 0
    row = read_row(next((tmp_path / "runs" / "cells").glob("*/row.json")))
    command = shlex.split(row.command)
    assert command[command.index("--test") + 1] == f"{above / 'mine too'}:test"
    (above / "mine too").rename(tmp_path / "a:b")
    refused = invoke(tmp_path, *words, f"{tmp_path / 'a:b'}:test")
    assert refused.exit_code == 2
    assert "comma or a colon" in refused.output


def test_columns_and_what_is_given_boxes_are_told_apart(own: Path, tmp_path: Path) -> None:
    """A folder of one's own that is called like the label of a registered data set, and GrabCut from true boxes."""
    own.rename(tmp_path / "ECSSD")
    name = resolve_test(str(tmp_path / "ECSSD"), tmp_path)
    table = sweep_table("mine", ["GrabCut"], ["all"], [], ["ecssd", name])
    assert len({column.label for column in table.columns}) == 2
    assert {line.label for line in table.lines if line.section == "appendix"} == {"GrabCut bbox"}


@pytest.mark.parametrize("option", ["--methods", "--test"])
def test_a_sweep_over_nothing_is_refused(tmp_path: Path, option: str) -> None:
    words = {"--methods": "GrabCut", "--test": "tm-dsprites"} | {option: ","}
    refused = invoke(tmp_path, "sweep", *(word for pair in words.items() for word in pair))
    assert refused.exit_code == 2
    assert f"{option} names nothing" in refused.output
