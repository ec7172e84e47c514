"""The commit that a row names: clean after a table was rendered, dirty after the code was changed."""

from __future__ import annotations

import mmap
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with code, the paper's figures, a rendered table and a row."""
    for name in ("drc/model.py", "results/published/table1.csv", "results/table1.csv", "results/rows/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def commit() -> Callable[[], str]:
    return provenance.commit.__wrapped__


@pytest.mark.parametrize("name", ["results/table1.csv", "results/rows/a.json"])
def test_rendering_leaves_the_commit_clean(checkout: Path, commit: Callable[[], str], name: str) -> None:
    (checkout / name).write_text("2")
    assert len(commit()) == 40


@pytest.mark.parametrize("name", ["drc/model.py", "results/published/table1.csv"])
def test_a_changed_input_is_told(checkout: Path, commit: Callable[[], str], name: str) -> None:
    (checkout / name).write_text("2")
    assert commit().endswith("-dirty")


def test_a_training_of_another_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: "b" * 40)
    assert provenance.commits(None) == provenance.commits("b" * 40) == "b" * 40
    assert provenance.commits("a" * 40) == f"{'a' * 40}, scored at {'b' * 40}"


def test_the_device_has_as_many_threads_as_the_process_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "1 threads" in provenance._cpu_model.__wrapped__()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("fpu avx2 avx512f", "AMD EPYC, AVX-512, 1 threads"),
        ("fpu avx2", "AMD EPYC, AVX2, 1 threads"),
        ("fpu", "AMD EPYC, 1 threads"),
    ],
)
def test_processors_of_one_name_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, flags: str, said: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(Path, "read_text", lambda self: f"model name\t: AMD EPYC\nflags\t\t: {flags}\n")
    assert provenance._cpu_model.__wrapped__() == said


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1024**2)])
def test_a_peak_of_memory_is_in_mib_whatever_the_system_counts_in(
    system: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(ru_maxrss=700 * unit)
    monkeypatch.setattr(provenance, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(provenance, "resource", SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: usage))
    assert provenance.peak_memory_mb() == 700


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak of memory")
def test_a_peak_of_memory_is_what_came_since_it_was_forgotten() -> None:
    with mmap.mmap(-1, 400 << 20) as large:  # malloc might keep it, or take it from what it kept
        large[:: mmap.PAGESIZE] = bytes(len(large) // mmap.PAGESIZE)
        with_it = provenance.peak_memory_mb()
    provenance.forget_peak_memory("cpu")
    assert provenance.peak_memory_mb() < with_it - 300


def test_outside_of_git_it_is_unknown(
    tmp_path: Path, commit: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == "unknown"
