"""What is kept beside a figure is what happened: the peak of memory, examples of masks, whose row it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cell_helpers import cell, folder_of, runner
from fake_methods import RandomWalk

from benchmarks.cells import parse_row, read_row
from benchmarks.data import Library
from benchmarks.files import write_json
from benchmarks.metrics import iou
from benchmarks.pictures import EXAMPLES, PANELS, ROWS, extremes, load_panels
from benchmarks.rows import import_rows, read_kept
from benchmarks.runs import draw_live

ROW = parse_row((Path(__file__).parent / "golden/table1/rows.jsonl").read_text().splitlines()[0], "golden")


@pytest.mark.parametrize(("training", "kept"), [(1000.0, 1000.0), (50.0, 100.0)])
def test_the_peak_of_memory_is_the_higher_of_training_and_scoring(
    random_walk: type[RandomWalk],
    smoke_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: float,
    kept: float,
) -> None:
    monkeypatch.setattr("benchmarks.provenance.peak_memory_mb", lambda: 100.0)
    monkeypatch.setattr("benchmarks.provenance.peak_gpu_memory_mb", lambda device: 100.0)
    run = runner(smoke_data, tmp_path)
    run.run(cell(split="eval"))
    fit = next((tmp_path / "fits").iterdir()) / "fit.json"
    peaks = {"peak_memory_mb": training, "peak_gpu_memory_mb": training}
    write_json(fit, json.loads(fit.read_text()) | peaks)
    run.run(cell(split="test"))
    row = read_row(folder_of(smoke_data, tmp_path, cell(split="test")) / "row.json")
    assert (row.peak_memory_mb, row.peak_gpu_memory_mb) == (kept, kept)


@pytest.mark.usefixtures("random_walk", "earlier_peak")
def test_a_cell_tells_of_no_memory_that_an_earlier_one_took(smoke_data: Path, tmp_path: Path) -> None:
    runner(smoke_data, tmp_path).run(cell())
    assert read_row(folder_of(smoke_data, tmp_path, cell()) / "row.json").peak_memory_mb == 50


def test_the_masks_of_the_examples_are_those_that_were_scored(smoke_data: Path, tmp_path: Path) -> None:
    which = cell("GrabCut", variant="border")
    runner(smoke_data, tmp_path).run(which)
    folder = folder_of(smoke_data, tmp_path, which)
    scores = pd.read_csv(folder / "scores.csv")["iou"].to_numpy()
    examples = load_panels(folder / EXAMPLES)
    found, truth = (examples[name].any(axis=3) for name in ("inferred_mask", "true_mask"))
    np.testing.assert_allclose(iou(found, truth), scores[extremes(scores, 3)], atol=1e-6)


def test_the_panels_are_of_the_first_images_with_their_own_masks(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(self: RandomWalk, images: np.ndarray, *, progress: Any = None) -> np.ndarray:
        bright = images.mean(axis=3) > 120
        return np.stack([bright, ~bright], axis=1).astype(np.float32)

    monkeypatch.setattr(random_walk, "segment", segment)
    runner(smoke_data, tmp_path).run(cell())
    data = Library(smoke_data, "smoke").evaluation("tm-dsprites", "test")
    panels, first = load_panels(folder_of(smoke_data, tmp_path, cell()) / PANELS), data.images[:8]
    np.testing.assert_array_equal(panels["input"], first)
    np.testing.assert_array_equal(panels["reconstruction"], first)  # this method's is the image itself
    np.testing.assert_array_equal(panels["true_mask"].all(axis=3), data.truth[:8])
    np.testing.assert_array_equal(panels["inferred_mask"].all(axis=3), first.mean(axis=3) > 120)


def test_a_live_picture_shows_the_masks_of_the_method_and_calls_each_row_what_it_is(
    random_walk: type[RandomWalk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    truth, method = images[..., 0] > 99, random_walk()
    method.weight = 120.0
    method.config = random_walk.configure(variant="", preset="", dataset="", image_size=16)
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("benchmarks.runs.draw_panels", lambda blocks: (drawn.update(blocks), b"")[1])
    draw_live(tmp_path / "live.png", method, images, truth, lambda: None)
    panels = drawn["DRC"]
    np.testing.assert_array_equal(panels["true_mask"].all(axis=3), truth)
    np.testing.assert_array_equal(panels["inferred_mask"].all(axis=3), images.mean(axis=3) > 120)
    assert all(said.replace(" ", "_") == name for name, said in ROWS.items())


def test_a_live_picture_is_stopped_in_its_midst(
    random_walk: type[RandomWalk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(random_walk, "segment", lambda self, images, *, progress: progress(1, 2))
    images = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(KeyboardInterrupt):
        draw_live(tmp_path / "live.png", random_walk(), images, images[..., 0] > 0, stop)
    assert not list(tmp_path.iterdir())


def test_an_imported_row_that_names_its_source_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    rows = replace(ROW, source="a colleague"), replace(ROW, seed=1, key="f" * 16)
    file.write_text("\n".join(json.dumps(row.to_json()) for row in rows))
    assert import_rows([file], tmp_path / "rows", "the lab") == (2, 0, [])
    kept = {row.key: row.source for row in read_kept(tmp_path / "rows")[0]}
    assert kept == {ROW.key: "a colleague", "f" * 16: "the lab"}
