"""The cell runner: keys, and what a cell leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from cell_helpers import cell, folder_of, runner
from fake_methods import RandomWalk, WalkConfig
from PIL import Image

from baselines.grabcut import GrabCut
from benchmarks.cells import make_cell, read_row, settings_key
from benchmarks.data import Library
from benchmarks.jobs import Job, settings_of
from benchmarks.launch import group_cells, group_command
from benchmarks.pictures import load_panels
from benchmarks.registry import METHODS
from benchmarks.runs import Outcome, Runner
from benchmarks.uncertainty import bootstrap
from drc.checkpoint import CheckpointError
from drc.config import DRCConfig
from drc.method import DRC

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
        "examples.npz",
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
        "python -m benchmarks sweep --methods DRC --variants full --train tm-dsprites "
        "--test tm-dsprites:test --seeds 0 --preset smoke"
    )
    assert row.iou_low <= row.iou <= row.iou_high
    assert row.dice_low <= row.dice <= row.dice_high
    assert (row.train_steps, row.restarts, row.alternatives) == (12, 0, {})
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


def test_a_training_has_the_seed_the_images_the_settings_and_the_device_of_its_cell(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    real, configured_for = random_walk.fit, set[str]()

    def fit(self: RandomWalk, images: np.ndarray, **options: Any) -> None:
        seen.update(options, images=images)
        real(self, images, **options)

    def configure(*, dataset: str, **_: object) -> WalkConfig:
        configured_for.add(dataset)
        return WalkConfig()

    monkeypatch.setattr(random_walk, "fit", fit)
    monkeypatch.setattr(random_walk, "configure", configure)
    monkeypatch.setattr(random_walk, "restarts", 2, raising=False)
    monkeypatch.setattr("benchmarks.provenance.resolve_device", lambda name: f"where {name} leads")
    library = Library(smoke_data, "smoke")
    crossed = make_cell("DRC", "full", "tm-dsprites-squares", "tm-dsprites", "test", "smoke", 3)
    Runner(tmp_path / "runs", library, device="auto").run(crossed)
    squares = library.dataset("tm-dsprites-squares")
    np.testing.assert_array_equal(seen["images"], squares.images[squares.rows("train")])
    assert (seen["seed"], seen["device"]) == (3, "where auto leads")
    assert configured_for == {"tm-dsprites-squares"}
    (row,) = (tmp_path / "runs" / "cells").glob("*/row.json")
    assert read_row(row).restarts == 2


@pytest.mark.parametrize(("protocol", "iou"), [("unmatched", 0.0), ("image-permutation", 1.0)])
def test_masks_are_scored_by_the_protocol_of_their_method(
    protocol: str,
    iou: float,
    random_walk: type[RandomWalk],
    smoke_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the first region is the background, and all of it."""
    truth = Library(smoke_data, "smoke").evaluation("tm-dsprites", "test").truth > 0
    swapped = np.stack([~truth, truth], axis=1).astype(np.float32)
    monkeypatch.setattr(random_walk, "segment", lambda self, images, progress=None: swapped[: len(images)])
    monkeypatch.setattr(random_walk, "names_foreground", protocol == "unmatched")
    monkeypatch.setitem(METHODS, "DRC", replace(METHODS["DRC"], protocol=protocol))
    runner(smoke_data, tmp_path / "runs").run(cell())
    (row,) = (tmp_path / "runs" / "cells").glob("*/row.json")
    assert read_row(row).iou == iou


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


def test_a_variant_that_only_segments_otherwise_takes_the_training(smoke_data: Path) -> None:
    library, variants = Library(smoke_data, "smoke"), ("full", "responsibilities")
    cells = [cell(variant=variant, split=split) for variant in variants for split in ("eval", "test")]
    jobs = [Job(each, library) for each in cells]
    assert len({job.fit_key for job in jobs}) == 1
    assert len({job.key for job in jobs}) == 4
    (group,) = group_cells(cells)
    words = group_command(group, [])
    assert words[words.index("--variants") + 1] == "full,responsibilities"
    assert words[words.index("--test") + 1] == "tm-dsprites:eval,tm-dsprites:test"


def test_a_variant_that_a_budget_makes_the_headline_again_is_not_run_twice(
    smoke_data: Path, tmp_path: Path
) -> None:
    run = runner(smoke_data, tmp_path / "runs")
    same = run.run(cell(variant="untuned"))
    assert (same.status, "the variant full" in same.reason) == ("skipped", True)
    assert run.state(cell(variant="no-tv")) == ("to do", "")
    assert not (tmp_path / "runs" / "fits").exists()


def test_other_settings_of_inference_are_another_cell_and_no_other_training(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(smoke_data, tmp_path / "runs")
    run.run(cell())
    first = folder_of(smoke_data, tmp_path / "runs", cell())
    real = random_walk.configure
    monkeypatch.setattr(
        random_walk, "configure", lambda **options: replace(real(**options), inference_shift=-300.0)
    )
    assert run.run(cell()).status == "computed"
    second = folder_of(smoke_data, tmp_path / "runs", cell())
    assert random_walk.steps_taken == 12
    assert first != second
    scores = [read_row(folder / "row.json").iou for folder in (first, second)]
    assert scores[0] != scores[1] > 0


def test_the_annotated_box_is_given_and_said(smoke_data: Path, tmp_path: Path) -> None:
    which = cell("GrabCut", variant="bbox")
    assert runner(smoke_data, tmp_path / "runs").run(which).status == "computed"
    row = read_row(folder_of(smoke_data, tmp_path / "runs", which) / "row.json")
    assert row.protocol == "unmatched, annotated box"
    assert row.train_dataset == ""
    assert row.versions["opencv-python-headless"].startswith(cv2.__version__)


def test_what_is_not_trained_is_shown_no_image_to_fit_and_asks_for_no_device(
    smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted_to: list[int] = []
    monkeypatch.setattr(GrabCut, "fit", lambda self, images, **options: fitted_to.append(len(images)))
    monkeypatch.setattr("benchmarks.provenance.resolve_device", lambda name: pytest.fail(name))
    run = Runner(tmp_path, Library(smoke_data, "smoke"), device="cuda")
    assert run.run(cell("GrabCut", variant="border")).status == "computed"
    assert fitted_to == [0]


def test_failures_of_opencv_are_in_the_row_and_in_the_mean(
    smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = cv2.grabCut, list[int]()

    def half(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) % 2:
            raise cv2.error("!bgdSamples.empty()")
        return real(*arguments)

    monkeypatch.setattr(cv2, "grabCut", half)
    which = cell("GrabCut", variant="border")
    runner(smoke_data, tmp_path / "runs").run(which)
    folder = folder_of(smoke_data, tmp_path / "runs", which)
    row, scores = read_row(folder / "row.json"), pd.read_csv(folder / "scores.csv")
    assert (row.failures, row.n_images, len(scores)) == (8, 16, 16)
    assert (scores["iou"][::2] == 0).all()


def test_a_setting_that_was_added_changes_no_key_at_its_default() -> None:
    config = DRCConfig()
    assert "flips" not in settings_of(config)
    assert settings_of(replace(config, flips=True)) == settings_of(config) | {"flips": True}
    assert "start_scale" not in settings_of(config)


def test_a_training_of_a_table_opens_for_ones_own_pictures(smoke_data: Path, tmp_path: Path) -> None:
    """The real DRC, as `python -m drc segment --checkpoint runs/fits/*` takes it."""
    assert runner(smoke_data, tmp_path / "runs").run(cell()).status == "computed"
    (fit,) = (tmp_path / "runs" / "fits").iterdir()
    picture = tmp_path / "a.png"
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(picture)
    (mask,) = DRC.load(fit).segment_files([picture])
    assert mask.shape == (20, 30)
    with pytest.raises(TypeError, match="takes a list of files"):
        DRC.load(fit).segment_files(str(picture))


def test_a_training_of_another_method_is_told_from_a_damaged_one(smoke_data: Path, tmp_path: Path) -> None:
    assert runner(smoke_data, tmp_path / "runs").run(cell("Slot-Attention")).status == "computed"
    (fit,) = (tmp_path / "runs" / "fits").iterdir()
    with pytest.raises(CheckpointError, match="a training of another method than DRC"):
        DRC.load(fit)


def test_each_interval_is_that_of_its_own_scores(smoke_data: Path, tmp_path: Path) -> None:
    which = cell("GrabCut", variant="border")
    assert runner(smoke_data, tmp_path / "runs").run(which).status == "computed"
    folder = folder_of(smoke_data, tmp_path / "runs", which)
    row, scores = read_row(folder / "row.json"), pd.read_csv(folder / "scores.csv")
    iou, dice = (bootstrap(scores[name].to_numpy()) for name in ("iou", "dice"))
    assert (row.iou_low, row.iou_high) == pytest.approx((iou.low, iou.high), abs=1e-5)
    assert (row.dice_low, row.dice_high) == pytest.approx((dice.low, dice.high), abs=1e-5)
    assert iou.high + 0.01 < dice.high
