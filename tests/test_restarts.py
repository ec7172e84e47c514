"""Failures, interruptions and locks: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cell_helpers import cell, folder_of, result, runner
from fake_methods import RandomWalk

from benchmarks.errors import BenchmarkError, Busy
from benchmarks.files import usable_folder, write_atomic
from benchmarks.locks import BEAT_SECONDS, SILENT_SECONDS, claim, holder
from benchmarks.runs import Outcome
from drc import files as drc_files

ROOT = Path(__file__).parents[1]


def test_a_crash_is_kept_and_tried_again_on_request(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    random_walk.crash_at = 5
    run = runner(smoke_data, tmp_path / "runs")
    outcome = run.run(cell())
    folder = folder_of(smoke_data, tmp_path / "runs", cell())
    assert outcome.status == "failed"
    assert "the walk left the page" in outcome.reason
    assert "Traceback" in (folder / "error.txt").read_text()
    assert not (folder / "done").exists()
    assert not (folder / "row.json").exists()
    random_walk.crash_at = None
    steps = random_walk.steps_taken
    assert "the walk left the page" in run.run(cell()).reason
    assert random_walk.steps_taken == steps
    run.retry = True
    assert run.run(cell()).status == "computed"
    assert not (folder / "error.txt").exists()
    assert random_walk.steps_taken == 5 + 8  # it went on from step 4


def test_interrupted_and_resumed_equals_uninterrupted(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    runner(smoke_data, tmp_path / "whole").run(cell())
    random_walk.interrupt_at = 7
    with pytest.raises(KeyboardInterrupt):
        runner(smoke_data, tmp_path / "parts").run(cell())
    random_walk.interrupt_at = None
    assert runner(smoke_data, tmp_path / "parts").run(cell()).status == "computed"
    assert result(smoke_data, tmp_path / "parts", cell()) == result(smoke_data, tmp_path / "whole", cell())


WORKER = """
import signal
import sys
from pathlib import Path
from fake_methods import SPEC, RandomWalk
from benchmarks import registry
from benchmarks.__main__ import main
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
registry.METHODS["DRC"] = SPEC
RandomWalk.pause = float(sys.argv[1])
main(sys.argv[2:], prog_name="benchmarks")
"""


def worker(data: Path, runs: Path, pause: float) -> list[str]:
    options = [
        "--data",
        str(data),
        "--runs",
        str(runs),
        "--results",
        str(runs / "results"),
        "--device",
        "cpu",
    ]
    command = ["table", "1", "--preset", "smoke", "--methods", "DRC", *options]
    return [sys.executable, "-c", WORKER, str(pause), *command]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_same_command_goes_on_after_a_signal(
    number: signal.Signals, random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    process = subprocess.Popen(
        worker(smoke_data, tmp_path / "parts", 0.3), env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path / "parts" / "fits", 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "the same command goes on" in errors
        assert "Traceback" not in errors
    assert not list((tmp_path / "parts" / "cells").glob("*/done"))
    for split in ("eval", "test"):
        runner(smoke_data, tmp_path / "whole").run(cell(split=split))
    random_walk.steps_taken = 0
    for split in ("eval", "test"):
        assert runner(smoke_data, tmp_path / "parts").run(cell(split=split)).status == "computed"
    assert random_walk.steps_taken < 12
    assert result(smoke_data, tmp_path / "parts", cell()) == result(smoke_data, tmp_path / "whole", cell())


def wait_for_step(fits: Path, step: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for state in fits.glob("*/checkpoints/state.json"):
            if json.loads(state.read_text())["step"] >= step:
                return
        time.sleep(0.05)
    raise AssertionError("training did not begin")


def test_a_full_disk_is_one_sentence_and_no_result(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(smoke_data, tmp_path / "runs")
    run.run(cell("GrabCut", variant="border"))
    monkeypatch.setattr(
        random_walk, "fit", lambda *a, **k: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space"))
    )
    with pytest.raises(BenchmarkError, match="make room"):
        run.run(cell())
    assert run.run(cell("GrabCut", variant="border")).status == "kept"
    assert not (folder_of(smoke_data, tmp_path / "runs", cell()) / "done").exists()


def test_masks_that_break_the_contract_are_a_failure(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        random_walk, "segment", lambda self, images, progress=None: np.ones((len(images), 2, 16, 16))
    )
    outcome = runner(smoke_data, tmp_path / "runs").run(cell())
    assert outcome.status == "failed"
    assert "sum to 1" in outcome.reason


def test_a_method_that_cannot_run_here_says_why(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_walk, "skip", classmethod(lambda cls: "needs a pencil"))
    assert runner(smoke_data, tmp_path / "runs").run(cell()) == Outcome(cell(), "skipped", "needs a pencil")


def test_force_computes_again_and_keeps_what_was(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    runner(smoke_data, tmp_path / "runs").run(cell())
    forced = runner(smoke_data, tmp_path / "runs", force=True)
    assert [forced.run(cell(split=s)).status for s in ("test", "eval")] == ["computed", "computed"]
    assert random_walk.steps_taken == 24  # once before, once now for both splits
    assert len(list((tmp_path / "runs" / "replaced").glob("cells-*/row.json"))) == 1


def test_an_interrupted_write_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "row.json"
    write_atomic(file, "earlier")
    write = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        write_atomic(file, "later")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("row.json", "earlier")]


@pytest.mark.parametrize("write", [write_atomic, drc_files.write_atomic])
def test_who_reads_a_file_while_it_is_written_anew_reads_the_earlier_one(write: Any, tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    write(file, "earlier")
    with file.open() as reader:
        write(file, "later")
        assert reader.read() == "earlier"
    assert file.read_text() == "later"


# locks


def test_a_cell_is_claimed_by_one_process_at_a_time(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    folder = folder_of(smoke_data, tmp_path / "runs", cell())
    with claim(folder):
        outcome = runner(smoke_data, tmp_path / "runs").run(cell())
        assert outcome.status == "busy"
        assert str(os.getpid()) in outcome.reason
        with pytest.raises(Busy), claim(folder):
            pass
        assert holder(folder)
    assert holder(folder) is None
    assert runner(smoke_data, tmp_path / "runs").run(cell()).status == "computed"


def test_what_another_process_has_finished_meanwhile_is_kept(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look at the cell and our hand on its lock."""
    one, other = runner(smoke_data, tmp_path), runner(smoke_data, tmp_path)

    def late(folder: Path) -> Any:
        monkeypatch.setattr("benchmarks.runs.claim", claim)
        assert other.run(cell()).status == "computed"
        return claim(folder)

    monkeypatch.setattr("benchmarks.runs.claim", late)
    assert one.run(cell()).status == "kept"
    assert random_walk.steps_taken == 12


def test_force_does_not_move_what_another_process_works_at(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    folder = folder_of(smoke_data, tmp_path / "runs", cell())
    with claim(folder):
        with pytest.raises(BenchmarkError, match=f"{os.getpid()}.* is at work in .*leave --force out"):
            runner(smoke_data, tmp_path / "runs", force=True).run(cell())
        assert holder(folder)
    assert not (tmp_path / "runs" / "replaced").exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_where_there_are_no_hard_links_a_folder_is_one_process_s_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, lock: Path) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(lock))

    monkeypatch.setattr(os, "link", refuse)
    with claim(tmp_path):
        assert str(os.getpid()) in holder(tmp_path)
        with pytest.raises(Busy), claim(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_of_two_that_find_a_lock_abandoned_the_later_gives_back_what_the_first_has_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other takes it over between our look at the lock and our hand on it."""
    theirs = json.dumps({"pid": os.getpid(), "host": "elsewhere", "started": "1"})
    (tmp_path / "lock").write_text("abandoned")

    def taken_over_meanwhile(lock: Path, text: str) -> bool:
        lock.write_text(theirs)
        return text == "abandoned"

    monkeypatch.setattr("benchmarks.locks._abandoned", taken_over_meanwhile)
    with pytest.raises(Busy), claim(tmp_path):
        pass
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("lock", theirs)]


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from benchmarks.locks import claim\n"
        "with claim(Path(sys.argv[1])): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / "lock").exists()
    assert holder(tmp_path) is None
    with claim(tmp_path):
        assert holder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_whose_number_was_used_again_is_taken_over(tmp_path: Path) -> None:
    who = {"pid": os.getpid(), "host": socket.gethostname()}
    (tmp_path / "lock").write_text(json.dumps(who | {"started": "long ago"}))
    assert holder(tmp_path) is None
    with claim(tmp_path):
        assert holder(tmp_path)


def test_a_lock_from_where_numbers_of_processes_mean_others_is_not_judged_by_its_number(
    tmp_path: Path,
) -> None:
    """A container of the same host's name, or the machine before it was started anew."""
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"pid": 10**7, "host": socket.gethostname(), "system": "another"}))
    with pytest.raises(Busy), claim(tmp_path):
        pass
    os.utime(lock, (0, 0))  # silent for long
    with claim(tmp_path):
        assert holder(tmp_path)


@pytest.mark.parametrize("pid", [None, 10**20, "x", [1]])
def test_a_lock_that_names_no_process_is_taken_over(pid: object, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(json.dumps({"pid": pid, "host": socket.gethostname()}))
    with claim(tmp_path):
        assert holder(tmp_path)


def test_the_lock_of_another_user_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    lock = json.dumps({"pid": 12345, "host": socket.gethostname()})
    (tmp_path / "lock").write_text(lock)
    monkeypatch.setattr("benchmarks.locks.os.kill", forbidden)
    with pytest.raises(Busy, match="process 12345"), claim(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == lock


def test_a_lock_that_another_process_took_over_stays_when_the_first_holder_ends(tmp_path: Path) -> None:
    theirs = json.dumps({"pid": 1, "host": "elsewhere"})
    with claim(tmp_path):
        (tmp_path / "lock").write_text(theirs)
    assert (tmp_path / "lock").read_text() == theirs


def test_a_lock_is_touched_as_long_as_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another machine would take the work of a long training over."""
    monkeypatch.setattr("benchmarks.locks.BEAT_SECONDS", 0.01)
    with claim(tmp_path):
        os.utime(tmp_path / "lock", (1, 1))
        deadline = time.monotonic() + 20
        while (tmp_path / "lock").stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_lock_may_miss_many_touches_before_it_counts_as_abandoned() -> None:
    assert SILENT_SECONDS >= 10 * BEAT_SECONDS


@pytest.mark.parametrize(("silent_for", "held"), [(10, True), (7200, False)])
def test_the_lock_of_another_machine_holds_while_it_is_touched(
    tmp_path: Path, silent_for: float, held: bool
) -> None:
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"pid": 1, "started": "1", "host": "elsewhere"}))
    os.utime(lock, (time.time() - silent_for,) * 2)
    if held:
        with pytest.raises(Busy, match=r"elsewhere.* 15 minutes of silence"), claim(tmp_path):
            pass
    else:
        with claim(tmp_path):
            pass


def test_many_commands_may_try_one_folder_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tried = list(pool.map(lambda _: usable_folder(tmp_path / "results", "tables"), range(400)))
    assert set(tried) == {tmp_path / "results"}
    assert not list((tmp_path / "results").iterdir())
