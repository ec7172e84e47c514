"""What is seen and kept while a method trains."""

from __future__ import annotations

import json
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cell_helpers import cell, runner
from fake_methods import RandomWalk

from benchmarks.progress import FitProgress
from benchmarks.stops import GentleStop, stops
from benchmarks.training import fit_method


def test_training_seconds_count_over_restarts_and_a_cut_off_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "progress.jsonl").write_text('{"step": 3, "total": 9, "seconds": 100.0}\n{"step": 4, "to')
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    assert 100 <= progress.seconds < 101
    progress(9, 9, loss=0.5)
    progress.close()
    last = json.loads((tmp_path / "progress.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["loss"]) == (9, 0.5)


def test_the_last_step_before_a_stop_is_recorded(tmp_path: Path) -> None:
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    progress(1, 9, loss=0.5)
    progress.close()
    assert json.loads((tmp_path / "progress.jsonl").read_text())["step"] == 1


def test_steps_that_are_taken_again_are_recorded_and_counted_once(tmp_path: Path) -> None:
    """Killed after step 8, a training goes on from its checkpoint of step 5, which took 60 seconds."""
    lines = [
        {"step": step, "total": 9, "seconds": seconds} for step, seconds in ((4, 50.0), (6, 70.0), (8, 90.0))
    ]
    (tmp_path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    progress(6, 9)
    progress(9, 9)
    progress.close()
    assert 60 <= progress.seconds < 61
    recorded = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in recorded] == [4, 9]


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    with pytest.raises(TypeError, match="progress was given note='well': values must be numbers"):
        progress(9, 9, note="well")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.0, "1", None])
def test_steps_are_whole_numbers(value: Any, tmp_path: Path) -> None:
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    with pytest.raises(TypeError, match=f"progress was given step={value!r}: it must be a whole number"):
        progress(value, 9)
    with pytest.raises(TypeError, match=f"progress was given total={value!r}: it must be a whole number"):
        progress(1, value)
    progress(np.int64(9), np.int64(9), loss=np.float32(0.5))
    progress.close()
    assert json.loads((tmp_path / "progress.jsonl").read_text())["step"] == 9


def test_seconds_are_counted_and_not_given(tmp_path: Path) -> None:
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    with pytest.raises(TypeError, match="a value called seconds, which are counted here: call it otherwise"):
        progress(1, 9, seconds=1.0)


class Clock:
    """Time that goes on only when told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_training_begun_afresh_counts_no_second_of_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("benchmarks.progress.time", clock)
    (tmp_path / "progress.jsonl").write_text('{"step": 9, "total": 9, "seconds": 100.0}\n')
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None, afresh=True)
    assert progress.seconds == 100
    clock.now += 3.0
    progress(9, 9)
    progress.close()
    assert progress.seconds == 3
    (line,) = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert json.loads(line)["seconds"] == 3


def test_live_pictures_are_no_training_time_and_take_a_small_share_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, drawn = Clock(), list[float]()
    monkeypatch.setattr("benchmarks.progress.time", clock)

    def live() -> None:
        drawn.append(clock.now)
        clock.now += 6.0

    progress = FitProgress(tmp_path, "test", GentleStop(), live)
    for step in range(1, 1001):
        clock.now += 1.0
        progress(step, 1000)
    progress.close()
    assert progress.seconds == 1000
    assert 3 <= len(drawn) <= 1 + 1000 * 0.03 / 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_stop_waits_and_the_second_does_not(number: signal.Signals) -> None:
    with GentleStop() as stop:
        stop.check()
        signal.raise_signal(number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            stop.check()


def test_a_terminal_that_is_closed_asks_for_a_stop_but_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert signal.SIGHUP in stops()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert signal.SIGHUP not in stops()
        with GentleStop():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_of_the_main_thread_no_signal_is_taken_over() -> None:
    def handler() -> object:
        with GentleStop() as stop:
            stop.check()
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handler).result() is signal.getsignal(signal.SIGINT)


def test_a_stop_that_comes_after_the_last_step_is_heeded(tmp_path: Path) -> None:
    class Last:
        """Is asked to stop while it writes its last checkpoint, and ends well."""

        def fit(self, images: np.ndarray, *, progress: FitProgress, **options: object) -> None:
            progress(1, 1)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_method(Last(), np.zeros((1, 8, 8, 3), np.uint8), None, 0, "cpu", tmp_path, "test")


def test_a_live_picture_changes_no_random_number_and_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("benchmarks.progress.LIVE_SECONDS", 0.0)
    calls: list[int] = []

    def draw() -> list[float]:
        return [np.random.uniform(), random.random(), torch.rand(()).item()]

    def live() -> None:
        calls.append(len(draw()))
        raise RuntimeError("no canvas")

    def seed() -> None:
        np.random.seed(0)
        random.seed(0)
        torch.manual_seed(0)

    progress = FitProgress(tmp_path, "test", GentleStop(), live)
    seed()
    progress(1, 3)
    progress(2, 3)
    progress.close()
    drawn = draw()
    seed()
    assert drawn == draw()
    assert len(calls) == 1  # after a failure there is no further attempt
    assert caplog.messages == ["no live pictures from here on: RuntimeError: no canvas"]


def test_the_live_picture_is_written_while_training(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.progress.LIVE_SECONDS", 0.0)
    monkeypatch.setattr("benchmarks.progress.LIVE_SHARE", 1e9)
    runner(smoke_data, tmp_path / "runs").run(cell())
    (picture,) = (tmp_path / "runs" / "fits").glob("*/live.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_line_that_is_no_text_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "progress.jsonl").write_bytes(b'{"step": 3, "total": 9, "seconds": 100.0}\n\xff\n')
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    assert 100 <= progress.seconds < 101
    progress.close()
