"""The validation tasks: their toys, and what the command keeps, writes and says."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fake_methods import note_images

from benchmarks import validate
from benchmarks.__main__ import main
from benchmarks.registry import METHODS
from benchmarks.toys import PAINTS, coloured_sprites, two_textures

TINY: dict[str, dict[str, Any]] = {
    "ReDO": {"width": 4, "mask_width": 8, "residual_blocks": 1, "train_steps": 3, "batch_size": 4},
    "IODINE": {"width": 4, "hidden": 8, "train_steps": 3, "batch_size": 2},
    "Slot-Attention": {"slots": 4, "width": 8, "slot_size": 8, "train_steps": 3, "batch_size": 2},
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real tasks with networks of a few channels, a handful of images, and targets that all reach."""
    for name, task in validate.TASKS.items():
        small = dataclasses.replace(task, image_size=16, train_images=12, target=-1.0, changes=TINY[name])
        monkeypatch.setitem(validate.TASKS, name, small)
    monkeypatch.setattr(validate, "SCORED", 6)


def call(folder: Path, *arguments: str) -> Any:
    where = ["--runs", str(folder / "runs"), "--results", str(folder / "results")]
    return CliRunner().invoke(main, ["validate", *where, "--device", "cpu", *arguments])


def test_every_trained_baseline_has_a_task() -> None:
    assert set(validate.TASKS) == {name for name, spec in METHODS.items() if spec.trained} - {"DRC"}


def test_the_changes_are_settings_of_the_method() -> None:
    for name, task in validate.TASKS.items():
        config = (
            METHODS[name]
            .load()
            .configure(variant="full", preset="quick", dataset=task.toy, image_size=task.image_size)
        )
        assert set(task.changes) <= {field.name for field in dataclasses.fields(config)}


@pytest.mark.usefixtures("tiny")
def test_rows_of_other_baselines_and_seeds_stay(tmp_path: Path) -> None:
    file = tmp_path / "results" / "validate.json"
    for words in (["--methods", "IODINE"], ["--methods", "ReDO", "--seed", "1"], ["--methods", "ReDO"]):
        assert call(tmp_path, *words).exit_code == 0
    found = [(row["method"], row["seed"]) for row in json.loads(file.read_text())]
    assert found == [("ReDO", 0), ("IODINE", 0), ("ReDO", 1)]
    file.write_text("{")
    done = call(tmp_path, "--methods", "ReDO")
    assert done.exit_code == 2
    assert "validate.json cannot be read" in " ".join(done.output.split())


@pytest.mark.usefixtures("tiny")
def test_each_is_trained_scored_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, toy in validate.TOYS.items():
        score = lambda masks, truth: len(masks) / 16 + len(truth) / 8  # noqa: E731, of all six and of all six
        monkeypatch.setitem(validate.TOYS, name, dataclasses.replace(toy, score=score))
    done = call(tmp_path)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "results" / "validate.json").read_text())
    assert [row["method"] for row in rows] == list(validate.TASKS)
    for row in rows:
        assert row["reached"] == 6 / 16 + 6 / 8
        assert row["train_steps"] == 3
        assert 20 < row["peak_memory_mb"] < 20_000
        assert row["command"].endswith(f"--methods {row['method']} --seed 0")
    with (tmp_path / "results" / "validate.csv").open() as file:
        assert [float(row["reached"]) for row in csv.DictReader(file)] == [row["reached"] for row in rows]


@pytest.mark.usefixtures("tiny")
def test_what_is_done_is_kept_and_another_seed_is_another_training(tmp_path: Path) -> None:
    first = call(tmp_path, "--methods", "ReDO")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("row-*.json")}
    assert call(tmp_path, "--methods", "ReDO").stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("row-*.json")} == stamps
    call(tmp_path, "--methods", "ReDO", "--seed", "1")
    assert len(list((tmp_path / "runs").rglob("row-*.json"))) == 2


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("content", ["{", "[]", '{"method": "ReDO"}'])
def test_a_damaged_kept_row_stops_no_other(content: str, tmp_path: Path) -> None:
    call(tmp_path, "--methods", "ReDO")
    (damaged,) = (tmp_path / "runs").rglob("row-*.json")
    damaged.write_text(content)
    done = call(tmp_path, "--methods", "ReDO,Slot-Attention")
    assert done.exit_code == 1, done.output
    assert f"Failed: ReDO: {damaged} " in done.output
    assert "delete it to score again" in done.output
    assert "Slot-Attention" in done.stdout


@pytest.mark.usefixtures("tiny")
def test_a_missed_target_is_said_and_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hard = dataclasses.replace(validate.TASKS["IODINE"], target=1.1)
    monkeypatch.setitem(validate.TASKS, "IODINE", hard)
    done = call(tmp_path, "--methods", "IODINE")
    assert done.exit_code == 1
    assert "missed" in done.output


def test_an_unknown_baseline_is_refused_by_name(tmp_path: Path) -> None:
    done = call(tmp_path, "--methods", "DRC")
    assert done.exit_code == 2
    assert "DRC" in done.output


def test_a_gpu_that_is_not_there_is_named_in_whatever_case_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = call(tmp_path, "--methods", "ReDO", "--device", "CUDA")
    assert done.exit_code == 1, done.output
    assert "no CUDA device is usable here" in done.output


# --- the toy of sprites ------------------------------------------------------------------------------------


def test_each_image_has_three_sprites_of_different_colours_on_one_grey() -> None:
    images, objects = coloured_sprites(40, 32, 0)
    assert (images.shape, images.dtype, objects.shape) == ((40, 32, 32, 3), np.uint8, (40, 32, 32))
    grey = images[objects == 0]
    assert np.median(grey) == 64
    paints = {tuple(paint) for paint in np.round(255 * PAINTS).astype(int)}
    for image, mask in zip(images, objects, strict=True):
        assert set(np.unique(mask)) == {0, 1, 2, 3}
        colours = [tuple(np.median(image[mask == k], axis=0).round().astype(int)) for k in (1, 2, 3)]
        assert len(set(colours)) == 3
        assert set(colours) <= paints


def test_the_sprites_are_fixed_by_their_seed() -> None:
    np.testing.assert_array_equal(coloured_sprites(4, 16, 3)[0], coloured_sprites(4, 16, 3)[0])
    assert not np.array_equal(coloured_sprites(4, 16, 3)[0], coloured_sprites(4, 16, 4)[0])


def test_the_figure_of_slots_is_1_for_the_truth_and_about_0_for_one_slot() -> None:
    _, objects = coloured_sprites(10, 16, 0)
    perfect, one = (np.eye(4)[slots].transpose(0, 3, 1, 2) for slots in (objects, 0 * objects))
    assert validate.slot_score(perfect, objects) == pytest.approx(1)
    assert abs(validate.slot_score(one, objects)) < 0.05


def test_the_figure_of_slots_does_not_ask_what_becomes_of_the_background() -> None:
    _, objects = coloured_sprites(10, 16, 0)
    smeared = np.where(objects, objects, np.random.default_rng(0).integers(0, 4, objects.shape))
    masks = (smeared[:, None] == np.arange(4)[None, :, None, None]).astype(np.float32)
    assert validate.slot_score(masks, objects) == pytest.approx(1)


def test_the_figure_of_regions_is_1_whichever_is_the_object_in_an_image() -> None:
    _, disc = two_textures(10, 16, 0)
    perfect = np.stack([disc, ~disc], axis=1).astype(np.float32)
    perfect[::2] = perfect[::2, ::-1]
    assert validate.region_score(perfect, disc) == pytest.approx(1)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("seed", ["0", "1"])
def test_no_image_is_scored_that_was_trained_on(
    seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = note_images(METHODS["IODINE"].load(), monkeypatch)
    assert call(tmp_path, "--methods", "IODINE", "--seed", seed).exit_code == 0
    assert len(seen["segment"]) == 6
    assert not seen["fit"] & seen["segment"]


@pytest.mark.usefixtures("tiny")
def test_a_baseline_is_trained_with_the_seed_of_its_row_which_tells_its_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, seeds = METHODS["IODINE"].load(), []
    fit = cls.fit
    monkeypatch.setattr(
        cls, "fit", lambda *words, **named: (seeds.append(named["seed"]), fit(*words, **named))
    )
    monkeypatch.setattr(cls, "restarts", 2, raising=False)
    assert call(tmp_path, "--methods", "IODINE", "--seed", "3").exit_code == 0
    (row,) = json.loads((tmp_path / "results" / "validate.json").read_text())
    assert seeds == [row["seed"]] == [3]
    assert row["command"].endswith(" --methods IODINE --seed 3")
    assert row["restarts"] == 2


@pytest.mark.usefixtures("tiny", "earlier_peak")
def test_a_baseline_tells_of_no_memory_that_an_earlier_one_took(tmp_path: Path) -> None:
    assert validate.validate("IODINE", 0, tmp_path, "cpu")["peak_memory_mb"] == 50


@pytest.mark.usefixtures("tiny")
def test_a_training_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Any, *images: Any, **rest: Any) -> None:
        raise RuntimeError("it diverged")

    monkeypatch.setattr(METHODS["IODINE"].load(), "fit", failing)
    done = call(tmp_path, "--methods", "IODINE")
    assert done.exit_code == 1
    assert "Failed: IODINE: " in done.output
    assert "it diverged" in done.output
    assert str(tmp_path / "runs" / "validate") in done.output
    assert "Traceback" not in done.output
    assert not list((tmp_path / "results").iterdir())
    again = call(tmp_path)
    assert again.exit_code == 1
    assert again.output.count("it diverged") == 1
    rows = json.loads((tmp_path / "results" / "validate.json").read_text())
    assert [row["method"] for row in rows] == ["ReDO", "Slot-Attention"]


def test_a_new_row_takes_the_place_of_an_earlier_one_of_its_method_and_seed() -> None:
    def row(method: str, seed: int, reached: float) -> dict[str, Any]:
        return {"method": method, "seed": seed, "reached": reached}

    found = validate.joined([row("IODINE", 0, 0.1), row("ReDO", 1, 0.3)], [row("IODINE", 0, 0.9)])
    assert found == [row("IODINE", 0, 0.9), row("ReDO", 1, 0.3)]


def test_what_misses_its_target_is_marked() -> None:
    same = {"method": "IODINE", "figure": "fg-ARI", "target": 0.8}
    same |= {"train_steps": 1, "train_seconds": 60.0, "restarts": 0}
    lines = validate.as_text([{**same, "reached": reached} for reached in (0.7, 0.8)]).splitlines()
    assert [line.endswith("missed") for line in lines] == [False, True, False]
