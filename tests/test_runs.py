"""The cell runner: keys, folders, failures, restarts, locks, data at the budget's size."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_methods import RandomWalk, WalkConfig

from baselines.grabcut import GrabCut
from benchmarks.cells import Cell, make_cell, read_row, settings_key
from benchmarks.data import Library, object_boxes, resize_images, resize_objects
from benchmarks.errors import BenchmarkError, Busy, NotPrepared
from benchmarks.files import write_atomic
from benchmarks.jobs import Job
from benchmarks.locks import claim, holder
from benchmarks.pictures import load_panels
from benchmarks.progress import FitProgress, GentleStop
from benchmarks.runs import Outcome, Runner
from data_prep.store import StoreError

ROOT = Path(__file__).parents[1]


def cell(method: str = "DRC", *, variant: str = "full", split: str = "test", seed: int = 0) -> Cell:
    return make_cell(method, variant, "tm-dsprites", "tm-dsprites", split, "smoke", seed)


def runner(data: Path, runs: Path, **options: object) -> Runner:
    return Runner(runs, Library(data, "smoke"), device="cpu", **options)  # type: ignore[arg-type]


def folder_of(data: Path, runs: Path, which: Cell) -> Path:
    return runs / "cells" / Job(which, Library(data, "smoke")).key


def result(data: Path, runs: Path, which: Cell) -> tuple[str, str]:
    """What must not depend on how the cell came about: the per-image scores and the final state."""
    job = Job(which, Library(data, "smoke"))
    state = runs / "fits" / job.fit_key / "checkpoints" / "state.json"
    return (runs / "cells" / job.key / "scores.csv").read_text(), state.read_text()


# keys


def test_the_key_does_not_depend_on_the_order_of_settings() -> None:
    one = {"method": "DRC", "config": {"steps": 3, "lr": 0.1}, "seed": 0}
    other = {"seed": 0, "config": {"lr": 0.1, "steps": 3}, "method": "DRC"}
    assert settings_key(one) == settings_key(other)
    assert settings_key(one) != settings_key({**one, "seed": 1})
    assert settings_key(one) != settings_key({**one, "config": {"steps": 3, "lr": 0.2}})


def test_what_is_not_trained_is_one_cell_for_all_seeds_and_training_sets() -> None:
    one = make_cell("GrabCut", "border", "birds", "tm-dsprites", "test", "quick", 0)
    assert one == make_cell("GrabCut", "border", "cars", "tm-dsprites", "test", "quick", 3)
    assert cell(seed=0) != cell(seed=1)


# a cell


def test_a_cell_leaves_what_the_design_names(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    outcome = runner(smoke_data, tmp_path / "runs").run(cell())
    assert outcome == Outcome(cell(), "computed")
    folder = folder_of(smoke_data, tmp_path / "runs", cell())
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "scores.csv",
        "row.json",
        "panels.npz",
        "done",
    }
    row, scores = read_row(folder / "row.json"), pd.read_csv(folder / "scores.csv")
    assert row.cell == cell()
    assert len(scores) == row.n_images == 16
    assert row.iou == pytest.approx(scores["iou"].mean(), abs=1e-6)
    assert row.dice == pytest.approx(scores["dice"].mean(), abs=1e-6)
    assert scores["id"].is_unique
    assert (
        row.data_sha256 == row.train_data_sha256 == Library(smoke_data, "smoke").dataset("tm-dsprites").sha256
    )
    assert row.command == (
        "python -m benchmarks table 1 --preset smoke --datasets tm-dsprites --methods DRC --seeds 0"
    )
    assert row.versions["numpy"] == np.__version__
    assert list(load_panels(folder / "panels.npz")) == [
        "input",
        "reconstruction",
        "foreground",
        "background",
        "true_mask",
        "inferred_mask",
    ]
    (fit,) = (tmp_path / "runs" / "fits").iterdir()
    assert {p.name for p in fit.iterdir()} == {
        "config.json",
        "progress.jsonl",
        "checkpoints",
        "fit.json",
        "done",
    }


def test_a_finished_cell_is_not_computed_again(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    runner(smoke_data, tmp_path / "runs").run(cell())
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*")}
    assert runner(smoke_data, tmp_path / "runs").run(cell()).status == "kept"
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*")}


def test_two_splits_share_one_training(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path / "runs")
    assert [run.run(cell(split=s)).status for s in ("eval", "test")] == ["computed", "computed"]
    assert random_walk.steps_taken == 12
    run.run(cell(seed=1))
    assert random_walk.steps_taken == 24


def test_the_training_images_are_the_training_split(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    real = random_walk.fit

    def fit(self: RandomWalk, images: np.ndarray, **options: object) -> None:
        seen["images"] = images
        real(self, images, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(random_walk, "fit", fit)
    library = Library(smoke_data, "smoke")
    Runner(tmp_path / "runs", library, device="cpu").run(cell())
    dataset = library.dataset("tm-dsprites")
    np.testing.assert_array_equal(seen["images"], dataset.images[dataset.rows("train")])


def test_a_method_may_train_on_the_first_images_only(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Few(WalkConfig):
        train_images: int = 10

    monkeypatch.setattr(random_walk, "configure", lambda **options: Few())
    library = Library(smoke_data, "smoke")
    Runner(tmp_path / "runs", library, device="cpu").run(cell())
    assert list(Job(cell(), library).train_rows) == list(library.training_rows("tm-dsprites")[:10])
    row = read_row(folder_of(smoke_data, tmp_path / "runs", cell()) / "row.json")
    assert row.train_images == 10


def test_other_settings_or_data_are_another_cell(
    random_walk: type[RandomWalk], smoke_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(smoke_data, "smoke")
    before = Job(cell(), library)
    real = random_walk.configure
    monkeypatch.setattr(random_walk, "configure", lambda **options: replace(real(**options), steps=13))
    after = Job(cell(), library)
    assert (before.key, before.fit_key) != (after.key, after.fit_key)
    assert Job(cell(split="eval"), library).fit_key == after.fit_key


def test_the_annotated_box_is_given_and_said(smoke_data: Path, tmp_path: Path) -> None:
    which = cell("GrabCut", variant="bbox")
    assert runner(smoke_data, tmp_path / "runs").run(which).status == "computed"
    row = read_row(folder_of(smoke_data, tmp_path / "runs", which) / "row.json")
    assert row.protocol == "unmatched, annotated box"
    assert row.train_dataset == ""


def test_failures_of_opencv_are_in_the_row_and_in_the_mean(
    smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = GrabCut._cut
    calls: list[int] = []

    def half(self: GrabCut, image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        calls.append(1)
        return real(self, image, (5, 5, 0, 0) if len(calls) % 2 else box)

    monkeypatch.setattr(GrabCut, "_cut", half)
    which = cell("GrabCut", variant="border")
    runner(smoke_data, tmp_path / "runs").run(which)
    folder = folder_of(smoke_data, tmp_path / "runs", which)
    row, scores = read_row(folder / "row.json"), pd.read_csv(folder / "scores.csv")
    assert (row.failures, row.n_images, len(scores)) == (8, 16, 16)
    assert (scores["iou"][::2] == 0).all()


# failures and restarts


def test_a_crash_is_kept_shown_and_tried_again(
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
import sys
from pathlib import Path
from fake_methods import SPEC, RandomWalk
from benchmarks import registry
from benchmarks.__main__ import main
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
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
    monkeypatch.setattr(
        Path, "write_bytes", lambda *a: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space"))
    )
    with pytest.raises(OSError, match="No space"):
        write_atomic(file, "later")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("row.json", "earlier")]


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


@pytest.mark.parametrize(("silent_for", "held"), [(10, True), (7200, False)])
def test_the_lock_of_another_machine_holds_while_it_is_touched(
    tmp_path: Path, silent_for: float, held: bool
) -> None:
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"pid": 1, "started": "1", "host": "elsewhere"}))
    os.utime(lock, (time.time() - silent_for,) * 2)
    if held:
        with pytest.raises(Busy, match="elsewhere"), claim(tmp_path):
            pass
    else:
        with claim(tmp_path):
            pass


# progress


def test_training_seconds_count_over_restarts_and_a_cut_off_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "progress.jsonl").write_text('{"step": 3, "total": 9, "seconds": 100.0}\n{"step": 4, "to')
    progress = FitProgress(tmp_path, "test", GentleStop(), live=lambda: None)
    assert 100 <= progress.seconds < 101
    progress(9, 9, loss=0.5)
    progress.close()
    last = json.loads((tmp_path / "progress.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["loss"]) == (9, 0.5)


def test_a_live_picture_changes_no_random_number_and_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.progress.LIVE_SECONDS", 0.0)
    calls: list[int] = []

    def live() -> None:
        calls.append(np.random.randint(1000))
        raise RuntimeError("no canvas")

    progress = FitProgress(tmp_path, "test", GentleStop(), live)
    np.random.seed(0)
    progress(1, 3)
    progress(2, 3)
    progress.close()
    drawn = np.random.uniform()
    np.random.seed(0)
    assert drawn == np.random.uniform()
    assert len(calls) == 1  # after a failure there is no further attempt


def test_the_live_picture_is_written_while_training(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.progress.LIVE_SECONDS", 0.0)
    monkeypatch.setattr("benchmarks.progress.LIVE_SHARE", 1e9)
    runner(smoke_data, tmp_path / "runs").run(cell())
    (picture,) = (tmp_path / "runs" / "fits").glob("*/live.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


# data at the budget's size


def test_a_damaged_data_set_is_refused_before_anything_is_computed(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    images = smoke_data / "tm-dsprites-16" / "images.npy"
    content = bytearray(images.read_bytes())
    content[-100] ^= 255
    images.write_bytes(content)
    with pytest.raises(StoreError, match=r"images\.npy"):
        runner(smoke_data, tmp_path / "runs").run(cell())
    assert random_walk.steps_taken == 0


def test_what_is_not_prepared_is_named_with_its_command(tmp_path: Path) -> None:
    with pytest.raises(NotPrepared, match=r"python -m data_prep birds .* --out .*birds"):
        Library(tmp_path, "quick").dataset("birds")


def test_a_smaller_data_set_than_the_budget_uses_is_refused(tmp_path: Path) -> None:
    from data_prep.tm_dsprites import TMDspritesConfig, generate

    config = TMDspritesConfig(count=8, heldout=4, size=16)
    generate(tmp_path / "tm-dsprites-16", config, workers=1, progress=False)
    with pytest.raises(BenchmarkError, match="8 train images and this preset uses 64"):
        Library(tmp_path, "smoke").dataset("tm-dsprites")


def test_scored_images_are_spread_over_the_subset(smoke_data: Path) -> None:
    library = Library(smoke_data, "smoke")
    rows = library.evaluation_rows("tm-dsprites", "test")
    held_out = library.dataset("tm-dsprites").rows("test")
    assert len(rows) == len(set(rows)) == 16
    assert (rows[0], rows[-1]) == (held_out[0], held_out[-1])
    assert set(rows) <= set(held_out)


def test_masks_are_resized_by_majority() -> None:
    objects = np.zeros((1, 8, 8), np.uint8)
    objects[0, :4, :4] = 1  # a quarter: object 1
    objects[0, 4:, 4:7] = 2  # most of a quarter: object 2
    objects[0, :4, 4:5] = 3  # a quarter of a quarter: lost
    np.testing.assert_array_equal(resize_objects(objects, 2), [[[1, 0], [0, 2]]])


def test_objects_that_share_a_pixel_are_foreground_together() -> None:
    objects = np.zeros((1, 10, 10), np.uint8)
    objects[0, :4], objects[0, 4:7] = 1, 2  # 40 % and 30 % of the one pixel, background 30 %
    assert resize_objects(objects, 1)[0, 0, 0] == 1


def test_images_are_averaged_when_made_smaller() -> None:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0, :2, :2] = [[[10], [20]], [[30], [40]]]
    assert resize_images(images, 2)[0, 0, 0, 0] == 25
    assert resize_images(images, 4) is images


def test_boxes_around_all_objects() -> None:
    objects = np.zeros((2, 9, 9), np.uint8)
    objects[0, 2:4, 3:8], objects[0, 6, 1] = 1, 2
    np.testing.assert_array_equal(object_boxes(objects), [[1, 2, 7, 5], [0, 0, 0, 0]])
