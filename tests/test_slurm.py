"""Jobs on a Slurm cluster: what is submitted, what is left out and why, and what a job does that must leave."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cell_helpers import invoke
from fake_methods import RandomWalk

from benchmarks.launch import ClusterJob, Launch, submit

pytestmark = pytest.mark.usefixtures("own_data_sets")


def test_slurm_without_submitit_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    result = invoke(
        tmp_path, "sweep", "--methods", "all-foreground", "--test", "tm-dsprites", "--launcher", "slurm"
    )
    assert result.exit_code == 2
    assert "[cluster]" in result.output


def test_what_slurm_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.session.submit", lambda *words: [])
    words = ["table", "1", "--datasets", "birds", "--launcher", "slurm"]
    result = invoke(tmp_path, *words)
    assert result.exit_code == 0, result.output
    assert "birds is not prepared: python -m data_prep birds" in result.output
    assert "Submitted: nothing." in result.output
    assert "--preset smoke" in result.output  # of the command that shows how far they are


def test_jobs_of_submitit_run_and_are_succeeded(tmp_path: Path) -> None:
    """On submitit's own stand-in for a cluster; the successor of a stopped job holds the same command."""
    pytest.importorskip("submitit")
    code = f"open({str(tmp_path / 'made')!r}, 'w').write('x')"
    jobs = submit([["-c", code]], Launch("slurm", 0, ("timeout_min=2",)), "cpu", tmp_path, cluster="local")
    assert [job.result() for job in jobs] == [0]
    assert (tmp_path / "made").exists()


def test_a_cluster_job_that_must_leave_stops_its_command_gently(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    job = ClusterJob(["-c", "import time; time.sleep(60)"])
    job.process = subprocess.Popen([sys.executable, *job.words])
    began = time.monotonic()
    successor = job.checkpoint()
    assert time.monotonic() - began < 30
    assert job.process.poll() is not None
    assert successor.function.words == job.words


def test_the_successor_of_a_forced_job_goes_on_where_it_was() -> None:
    pytest.importorskip("submitit")
    job = ClusterJob(["-c", "pass", "--force"])
    job.process = subprocess.Popen([sys.executable, *job.words])
    assert job.checkpoint().function.words == ["-c", "pass"]


def test_a_forced_job_that_slurm_requeues_itself_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when its node fails."""
    job = ClusterJob(["-c", "import sys; sys.exit('--force' in sys.argv)", "--force"])
    with pytest.raises(RuntimeError, match="exit code 1"):
        job()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert job() == 0


def test_a_method_that_runs_on_the_nodes_alone_is_submitted(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[list[str]] = []
    monkeypatch.setattr("benchmarks.session.submit", lambda commands, *more: submitted.extend(commands) or [])
    monkeypatch.setattr(random_walk, "skip", lambda: "it needs a GPU")
    words = ["sweep", "--methods", "DRC,all-foreground", "--test", "tm-dsprites", "--launcher", "slurm"]
    result = invoke(tmp_path, *words, data=smoke_data)
    assert result.exit_code == 0, result.output
    assert [words[words.index("--methods") + 1] for words in submitted] == ["all-foreground", "DRC"]


def test_what_slurm_is_not_given_is_named_with_its_reason(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.session.submit", lambda *words: [])
    words = ["sweep", "--methods", "DRC", "--test", "tm-dsprites"]
    with monkeypatch.context() as patch:
        patch.setattr(random_walk, "segment", lambda self, images, **more: 1 / 0)
        assert invoke(tmp_path, *words, data=smoke_data).exit_code == 1
    result = invoke(tmp_path, *words, "--launcher", "slurm", data=smoke_data)
    assert result.exit_code == 1
    assert re.search(r"failed in an earlier run: .*ZeroDivisionError.*; --retry tries", result.output)
    assert "all is done" not in result.output


def test_parameters_for_slurm_need_slurm(smoke_data: Path, tmp_path: Path) -> None:
    words = ["sweep", "--methods", "all-foreground", "--test", "tm-dsprites", "--slurm", "timeout_min=3"]
    result = invoke(tmp_path, *words, data=smoke_data)
    assert result.exit_code == 2
    assert "--slurm is for --launcher slurm" in result.output
