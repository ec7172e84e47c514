"""Parameters for Slurm: what submitit refuses is one sentence, and numbers arrive as numbers."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from cell_helpers import cell, folder_of
from click.testing import CliRunner
from fake_methods import RandomWalk

from benchmarks.__main__ import main
from benchmarks.cells import make_cell
from benchmarks.data import Library
from benchmarks.errors import BenchmarkError
from benchmarks.jobs import Job, row_command
from benchmarks.launch import (
    ClusterJob,
    Launch,
    _environment,
    _parameter,
    run_locally,
    slurm_parameters,
    submit,
)
from benchmarks.locks import claim


def submitted(tmp_path: Path, *parameters: str) -> list[Any]:
    pytest.importorskip("submitit")
    return submit([["-c", "pass"]], Launch("slurm", 0, parameters), "cpu", tmp_path, cluster="local")


@pytest.mark.parametrize(
    "parameter", ["timeout_min=4h", "timeout_min=7.5", "mem_gb=much", "gpus_per_node=", "tmeout_min=4"]
)
def test_a_wrong_value_for_slurm_is_one_sentence(parameter: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=parameter.partition("=")[0]) as caught:
        submitted(tmp_path, parameter)
    assert str(caught.value).startswith("Slurm did not take the jobs: ")
    assert "\n" not in str(caught.value)


def test_a_number_with_a_point_is_taken(tmp_path: Path) -> None:
    (job,) = submitted(tmp_path, "mem_gb=7.5", "timeout_min=2")
    assert job.result() == 0


def test_an_account_of_digits_is_no_number() -> None:
    given = ("slurm_account=007", "slurm_partition=inf", "mem_gb=7.5", "timeout_min=2")
    assert [_parameter(text)[1] for text in given] == ["007", "inf", 7.5, 2]


def test_parameters_are_what_submitit_takes() -> None:
    texts = ["slurm_use_srun=False", "slurm_setup=module load cuda", "slurm_setup=ulimit -n 4096"]
    texts += [f"slurm_additional_parameters={pair}" for pair in ("account=abc", "hint=nomultithread")]
    assert slurm_parameters(texts) == {
        "slurm_use_srun": False,
        "slurm_setup": ["module load cuda", "ulimit -n 4096"],
        "slurm_additional_parameters": {"account": "abc", "hint": "nomultithread"},
    }
    with pytest.raises(BenchmarkError, match="'abc' is not of the form name=value"):
        slurm_parameters(["slurm_additional_parameters=abc"])


def test_a_parameter_without_a_value_is_refused() -> None:
    for text in ("timeout_min", "=4", "timeout min=4"):
        with pytest.raises(BenchmarkError, match="is not of the form name=value"):
            _parameter(text)


def test_a_job_fails_where_its_command_does() -> None:
    assert ClusterJob(["-c", "pass"])() == 0
    with pytest.raises(RuntimeError, match="exit code 3: -c import sys; "):
        ClusterJob(["-c", "import sys; sys.exit(3)"])()


def test_processes_keep_the_number_of_threads_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    words = ["-c", "import os, sys; sys.exit(os.environ['OMP_NUM_THREADS'])"]
    assert run_locally([words, words], 2, tmp_path, "cpu") == [
        f"77 (exit code 1, {log})" for log in sorted(tmp_path.glob("*.log"))
    ]


def test_a_process_that_was_killed_is_said_to_have_been(tmp_path: Path) -> None:
    words = ["-c", "import os; print('step 1 of 4', flush=True); os.kill(os.getpid(), 9)"]
    (said,) = run_locally([words], 1, tmp_path, "cpu")
    assert said.startswith(
        "killed by signal 9, perhaps for want of memory; the same command goes on (exit code -9, "
    )


def test_what_another_process_works_at_is_not_done_again(smoke_data: Path, tmp_path: Path) -> None:
    at_work = cell("GrabCut", variant="border")
    words = ["sweep", "--methods", "GrabCut", "--test", "tm-dsprites", "--preset", "smoke", "--compute-only"]
    folders = ["--data", smoke_data, "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    with claim(folder_of(smoke_data, tmp_path / "runs", at_work)):
        done = CliRunner().invoke(main, [*words, *map(str, folders), "--jobs", "2"])
    assert done.exit_code == 0, done.output
    assert "Cells: 1 busy" in done.output


def test_a_training_that_another_holds_is_busy_and_no_failure(smoke_data: Path, tmp_path: Path) -> None:
    words = ["sweep", "--methods", "DRC", "--test", "tm-dsprites", "--preset", "smoke", "--compute-only"]
    folders = ["--data", smoke_data, "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    fit = tmp_path / "runs" / "fits" / Job(cell(), Library(smoke_data, "smoke")).fit_key
    with claim(fit):
        for options in ([], ["--jobs", "2"]):
            done = CliRunner().invoke(main, [*words, *map(str, folders), "--device", "cpu", *options])
            assert done.exit_code == 0, done.output
            assert "Cells: 1 busy" in done.output
            said = done.output.count("run the same command again when it has ended")
            assert said == (0 if options else 1)


def test_what_was_done_before_is_kept_beside_what_is_new(smoke_data: Path, tmp_path: Path) -> None:
    words = ["sweep", "--methods", "all-foreground", "--preset", "smoke", "--compute-only", "--test"]
    folders = ["--data", smoke_data, "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    for tests, said in (
        ("tm-dsprites", "1 computed"),
        ("tm-dsprites,tm-dsprites:eval", "1 kept, 1 computed"),
    ):
        done = CliRunner().invoke(main, [*words, tests, *map(str, folders), "--jobs", "2"])
        assert f"Cells: {said};" in done.output


def test_an_error_of_an_earlier_run_is_told_as_one(
    smoke_data: Path, tmp_path: Path, random_walk: type[RandomWalk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_walk, "crash_at", 3)
    words = ["sweep", "--methods", "DRC", "--test", "tm-dsprites", "--preset", "smoke", "--compute-only"]
    folders = ["--data", smoke_data, "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    for options, said in (
        ([], "the walk left the page"),
        (["--jobs", "2"], "(in an earlier run; --retry tries it again)"),
    ):
        done = CliRunner().invoke(main, [*words, *map(str, folders), "--device", "cpu", *options])
        assert done.exit_code == 1
        assert said in " ".join(done.output.split())


def test_processes_on_gpus_get_one_each_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    given = [_environment(slot, 3, "cuda")["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert given == ["3", "5", "3"]


@pytest.mark.parametrize(("jobs", "threads"), [(1, "8"), (2, "4"), (3, "2"), (20, "1")])
def test_processes_on_a_cpu_share_its_cores(jobs: int, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert _environment(0, jobs, "cpu")["OMP_NUM_THREADS"] == threads


def test_a_machine_without_a_gpu_can_submit_jobs_that_need_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices: list[str] = []

    def noted(commands: object, launch: Launch, device: str, folder: Path) -> list[ClusterJob]:
        devices.append(device)
        return []

    monkeypatch.setattr("benchmarks.session.submit", noted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [
        "table",
        "1",
        "--preset",
        "smoke",
        "--device",
        "cuda",
        "--methods",
        "DRC",
        "--datasets",
        "tm-dsprites",
    ]
    places = [f"--{name}={tmp_path / name}" for name in ("data", "runs", "results")]
    submitted_there = CliRunner().invoke(main, [*words, *places, "--launcher", "slurm"])
    assert submitted_there.exit_code == 0, submitted_there.output
    assert devices == ["cuda"]
    here = CliRunner().invoke(main, [*words, *places])
    assert here.exit_code == 2
    assert "no CUDA device" in here.output


def test_what_is_forced_and_never_came_about_is_no_success(
    smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sweep", "--methods", "all-foreground", "--test", "tm-dsprites", "--preset", "smoke"]
    words += [f"--data={smoke_data}", f"--runs={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
    assert CliRunner().invoke(main, [*words, "--compute-only"]).exit_code == 0
    monkeypatch.setattr("benchmarks.session.run_locally", lambda words, *more: ["Killed (exit code -9)"])
    forced = CliRunner().invoke(main, [*words, "--compute-only", "--force", "--jobs", "2"])
    assert forced.exit_code == 1
    assert "Killed (exit code -9)" in " ".join(forced.output.split())


def test_what_is_forced_is_computed_again_by_processes_too(smoke_data: Path, tmp_path: Path) -> None:
    words = ["sweep", "--methods", "all-foreground", "--test", "tm-dsprites", "--preset", "smoke"]
    folders = ["--data", smoke_data, "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    for options in ([], ["--force", "--jobs", "2"]):
        done = CliRunner().invoke(main, [*words, *map(str, folders), "--compute-only", *options])
        assert "Cells: 1 computed;" in done.output
    assert len(list((tmp_path / "runs" / "replaced").glob("cells-*/row.json"))) == 1


def test_the_row_says_how_to_make_it_again() -> None:
    which = make_cell("GrabCut", "bbox", "birds-split", "birds-split", "test", "gpu", 3)
    words = shlex.split(row_command(which))
    assert words[:4] == ["python", "-m", "benchmarks", "sweep"]
    assert "--train" not in words
    assert words[words.index("--test") + 1] == "birds-split:test"
