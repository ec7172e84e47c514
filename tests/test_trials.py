"""Trials of DRC's settings: what they change, which images they see, what is kept and written."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fake_methods import note_images
from matplotlib.axes import Axes

from benchmarks import trials
from benchmarks.__main__ import main
from benchmarks.data import Library
from benchmarks.errors import BenchmarkError, Busy
from benchmarks.flat import as_csv
from benchmarks.locks import claim
from drc.method import DRC


def call(folder: Path, *arguments: str) -> Any:
    where = [word for name in ("data", "runs", "results") for word in (f"--{name}", str(folder / name))]
    return CliRunner().invoke(main, ["trials", *where, "--device", "cpu", "--preset", "smoke", *arguments])


def test_each_trial_is_another_setting_of_the_preset() -> None:
    configs = {name: trials.trial_settings(name, "quick") for name in trials.TRIALS}
    assert len(set(configs.values())) == len(configs)
    for name, changes in trials.TRIALS.items():
        differ = {
            key
            for key, value in dataclasses.asdict(configs[name]).items()
            if value != dataclasses.asdict(configs["as it is"])[key]
        }
        assert differ == set(changes) or name == "untuned"


def test_a_trial_can_be_asked_for_by_its_name() -> None:
    assert not [name for name in trials.TRIALS if "," in name]


def test_twice_as_many_is_twice_under_every_budget() -> None:
    for preset in ("smoke", "quick", "gpu"):
        plain, twice = (trials.trial_settings(n, preset) for n in ("as it is", "twice as many channels"))
        assert (twice.width, twice.start) == (2 * plain.width, 2 * plain.start)


def test_no_trial_sees_an_image_of_the_tables(tmp_path: Path) -> None:
    own, tables = trials.trial_data(tmp_path, "smoke"), Library(tmp_path, "smoke").dataset("tm-dsprites")
    assert not set(map(bytes, np.asarray(own.images))) & set(map(bytes, np.asarray(tables.images)))


def test_trials_are_run_written_and_kept(tmp_path: Path) -> None:
    done = call(tmp_path, "--only", "as it is,100 inference steps,50 training steps")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "results" / "trials-smoke.json").read_text())
    assert [row["trial"] for row in rows] == ["as it is", "50 training steps", "100 inference steps"]
    assert [row["train_steps"] for row in rows] == [4, 50, 4]
    assert [(row["inference_steps"], row["inference_chains"]) for row in rows] == [(4, 1), (4, 1), (100, 1)]
    assert len(list((tmp_path / "runs" / "trials").iterdir())) == 2, "inference alone trains nothing"
    assert all(0 <= row["iou_low"] <= row["iou"] <= row["iou_high"] <= 1 for row in rows)
    assert all(20 < row["peak_memory_mb"] < 20_000 for row in rows)
    assert (tmp_path / "results" / "trials-smoke.png").read_bytes().startswith(b"\x89PNG")
    words = shlex.split(rows[0]["command"])
    assert words[:4] == ["python", "-m", "benchmarks", "trials"]
    again = call(tmp_path, *words[4:])
    assert again.exit_code == 0
    assert json.loads((tmp_path / "results" / "trials-smoke.json").read_text()) == rows
    assert "| 50 training steps |" in (tmp_path / "results" / "trials-smoke.md").read_text()


def test_a_clone_goes_on_from_the_rows_it_came_with(tmp_path: Path) -> None:
    assert call(tmp_path, "--only", "as it is,50 training steps", "--seeds", "0").exit_code == 0
    earlier = json.loads((tmp_path / "results" / "trials-smoke.json").read_text())
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    outdated = earlier[1] | {"key": "of-other-settings", "trial": "200 training steps"}
    (tmp_path / "results" / "trials-smoke.json").write_text(json.dumps([*earlier, outdated]))
    assert call(tmp_path, "--only", "100 inference steps", "--seeds", "1").exit_code == 0
    rows = json.loads((tmp_path / "results" / "trials-smoke.json").read_text())
    assert rows[:2] == earlier
    assert [(row["trial"], row["seed"]) for row in rows[2:]] == [("100 inference steps", 1)]


@pytest.mark.parametrize("content", ["[{", "{}", "[1]"])
def test_a_damaged_file_of_rows_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "trials-smoke.json").write_text(content)
    done = call(tmp_path, "--only", "as it is")
    assert done.exit_code != 0
    assert "trials-smoke.json" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("content", ["{", "[]", '{"iou": 0.5}'])
def test_a_damaged_kept_row_stops_no_other(content: str, tmp_path: Path) -> None:
    assert call(tmp_path, "--only", "as it is,50 inference steps").exit_code == 0
    (tmp_path / "results" / "trials-smoke.json").unlink()
    damaged, _ = sorted((tmp_path / "runs").rglob("row-*.json"))
    trial = json.loads(damaged.read_text())["trial"]
    damaged.write_text(content)
    done = call(tmp_path, "--only", "as it is,50 inference steps")
    assert done.exit_code == 1, done.output
    assert f"Failed: {trial}, seed 0: {damaged} " in done.output
    assert "delete it to score again" in done.output
    assert len(json.loads((tmp_path / "results" / "trials-smoke.json").read_text())) == 1


def test_rows_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results" / "trials-smoke.csv").mkdir(parents=True)
    done = call(tmp_path, "--only", "as it is")
    assert done.exit_code == 2
    assert f"cannot write trials-smoke to {tmp_path / 'results'}: " in done.output
    assert "Traceback" not in done.output


def test_rows_of_a_later_version_may_have_a_field_more() -> None:
    rows = [{"trial": "a", "versions": {"torch": "2"}}, {"trial": "b", "versions": {"torch": "3"}, "new": 1}]
    assert as_csv(rows) == "trial,versions,new\na,torch 2,\nb,torch 3,1\n"


def test_a_trial_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = trials.train

    def failing(title: str, *rest: Any) -> Any:
        if title.endswith("50 training steps"):
            raise BenchmarkError("it diverged")
        return train(title, *rest)

    monkeypatch.setattr(trials, "train", failing)
    done = call(tmp_path, "--only", "as it is,50 training steps,learning rate 1e-3")
    assert done.exit_code == 1
    assert "Failed: 50 training steps, seed 0: it diverged" in done.output
    rows = json.loads((tmp_path / "results" / "trials-smoke.json").read_text())
    assert [row["trial"] for row in rows] == ["as it is", "learning rate 1e-3"]
    alone = call(tmp_path / "new", "--only", "50 training steps")
    assert alone.exit_code == 1
    assert "it diverged" in alone.output
    assert not list((tmp_path / "new" / "results").iterdir())


def test_a_trial_that_diverges_as_it_segments_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = {
        "as it is": {},
        "wild": {"inference_step_size": 1e12},
        "learning rate 1e-3": {"lr_generators": 1e-3},
    }
    monkeypatch.setattr(trials, "TRIALS", wild)
    done = call(tmp_path)
    assert done.exit_code == 1
    assert "Failed: wild, seed 0: " in done.output
    rows = json.loads((tmp_path / "results" / "trials-smoke.json").read_text())
    assert [row["trial"] for row in rows] == ["as it is", "learning rate 1e-3"]


def test_a_stop_is_no_failure_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*words: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "train", stopped)
    assert call(tmp_path, "--only", "as it is,learning rate 1e-3").exit_code == 130


def test_seeds_are_averaged(tmp_path: Path) -> None:
    done = call(tmp_path, "--only", "as it is", "--seeds", "0-1")
    assert done.exit_code == 0, done.output
    (found,) = trials.averaged(json.loads((tmp_path / "results" / "trials-smoke.json").read_text())).values()
    assert found["seeds"] == 2
    assert found["std"] is not None
    assert "±" in (tmp_path / "results" / "trials-smoke.md").read_text()


def row_of(name: str, **changes: Any) -> dict[str, Any]:
    """A trial's row as far as it is averaged and drawn."""
    counts = dict.fromkeys(("train_steps", "inference_steps", "inference_chains", "images"), 4)
    seconds = dict.fromkeys(("train_seconds", "segment_seconds"), 1.0)
    ious = {"iou": 0.5, "iou_low": 0.4, "iou_high": 0.8}
    same = {"trial": name, "seed": 0, "preset": "smoke", "device": "cpu"}
    return {**same, **counts, **seconds, **ious, **changes}


def test_a_trial_is_compared_with_the_plain_one_of_its_own_seeds() -> None:
    ious = {("as it is", 0): 0.6, ("as it is", 1): 0.2, ("no momentum", 0): 0.5, ("temperature 1", 2): 0.9}
    found = trials.averaged([row_of(name, seed=seed, iou=iou) for (name, seed), iou in ious.items()])
    assert found["as it is"]["gain"] == 0
    assert found["no momentum"]["gain"] == pytest.approx(-10)
    assert found["temperature 1"]["gain"] is None


def test_a_gain_over_another_device_is_marked() -> None:
    rows = [row_of("as it is", iou=0.6), row_of("no momentum"), row_of("temperature 1", device="another")]
    lines = trials.as_markdown(rows).splitlines()
    assert "| no momentum | 50.0 | 40.0 to 80.0 | -10.0 | 1 | 1 | 1 |" in lines
    assert "| temperature 1 | 50.0 | 40.0 to 80.0 | -10.0† | 1 | 1 | 1 |" in lines


def test_the_spread_over_seeds_is_that_of_a_sample() -> None:
    rows = [row_of("as it is", seed=seed, iou=iou) for seed, iou in enumerate((0.4, 0.6))]
    assert trials.averaged(rows)["as it is"]["std"] == pytest.approx(14.142, abs=1e-3)


def test_bars_reach_from_the_lower_to_the_upper_end_of_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[float], list[float]]] = []
    whole = Axes.errorbar

    def noting(self: Axes, x: Any, y: Any, *, yerr: Any, **rest: Any) -> Any:
        drawn.append((list(y - yerr[0]), list(y + yerr[1])))
        return whole(self, x, y, yerr=yerr, **rest)

    monkeypatch.setattr(Axes, "errorbar", noting)
    more = row_of("8 inference steps", inference_steps=8, iou=0.6, iou_low=0.55, iou_high=0.7)
    trials.as_png([row_of("as it is"), more])
    lows, highs = zip(*drawn, strict=True)
    assert lows == (pytest.approx([40]), pytest.approx([40, 55]), pytest.approx([40]))
    assert highs == (pytest.approx([80]), pytest.approx([80, 70]), pytest.approx([80]))


def test_a_point_of_a_curve_is_a_mean_over_the_seeds_that_all_points_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[list[float], list[float]]] = []
    whole = Axes.errorbar

    def noting(self: Axes, x: Any, y: Any, **rest: Any) -> Any:
        drawn.append((list(x), list(y)))
        return whole(self, x, y, **rest)

    monkeypatch.setattr(Axes, "errorbar", noting)
    rows = [row_of("as it is", seed=seed, iou=iou) for seed, iou in enumerate((0.4, 0.6, 0.9))]
    rows += [
        row_of("8 inference steps", seed=seed, inference_steps=8, iou=iou)
        for seed, iou in enumerate((0.5, 0.8))
    ]
    trials.as_png(rows)
    assert drawn[1] == (pytest.approx([4, 8]), pytest.approx([50, 65])), "seed 2 has only one of the two"


def test_what_kept_chains_took_before_counts_as_segmenting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(self: DRC, images: np.ndarray, *, progress: Any = None) -> np.ndarray:
        return np.full((len(images), 2, *images.shape[1:3]), 0.5, np.float32)

    monkeypatch.setattr(DRC, "fit", lambda self, images, **options: None)
    monkeypatch.setattr(DRC, "segment", segment)
    monkeypatch.setattr(DRC, "kept_seconds", 100.0)
    row = trials.run_trial("as it is", "smoke", 0, tmp_path / "data", tmp_path / "runs", "cpu")
    assert row is not None
    assert row["segment_seconds"] >= 100


@pytest.mark.usefixtures("earlier_peak")
def test_a_trial_tells_of_no_memory_that_an_earlier_one_took(tmp_path: Path) -> None:
    row = trials.run_trial("as it is", "smoke", 0, tmp_path / "data", tmp_path / "runs", "cpu")
    assert row is not None
    assert row["peak_memory_mb"] == 50


def test_a_trial_is_scored_by_the_foreground_of_the_method_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every second image is right, and in the others everything is background."""
    dataset = trials.trial_data(tmp_path / "data", "smoke")
    found = dataset.masks[dataset.rows("test")] > 0
    found[::2] = False

    def segment(self: DRC, images: np.ndarray, *, progress: Any = None) -> np.ndarray:
        return np.stack([found, ~found], axis=1).astype(np.float32)

    monkeypatch.setattr(DRC, "fit", lambda self, images, **options: None)
    monkeypatch.setattr(DRC, "segment", segment)
    row = trials.run_trial("as it is", "smoke", 0, tmp_path / "data", tmp_path / "runs", "cpu")
    assert row is not None
    assert (row["iou"], row["images"]) == (0.5, trials.SCORED)
    assert 0.35 < row["iou_low"] < 0.45 < 0.55 < row["iou_high"] < 0.65


def test_seconds_of_another_device_are_told_apart() -> None:
    rows = [{"trial": t, "device": d} for t, d in (("as it is", "a"), ("untuned", "b"), ("no momentum", "a"))]
    assert trials.devices_of(rows).startswith("a; b: `untuned`; another device moves IoU by itself")
    assert trials.devices_of(rows[::2]) == "a"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "as it was"), "as it is"),
        (("--preset", "quik"), "quick"),
        (("--seeds", "x"), "--seeds"),
    ],
)
def test_a_wrong_word_is_named_before_anything_is_made(
    tmp_path: Path, arguments: tuple[str, str], said: str
) -> None:
    done = call(tmp_path, *arguments)
    assert done.exit_code != 0
    assert said in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_words_are_taken_in_any_case(tmp_path: Path) -> None:
    done = call(tmp_path, "--only", "As It Is", "--preset", "Smoke", "--device", "CPU")
    assert done.exit_code == 0, done.output
    (row,) = trials.earlier_rows(tmp_path / "results", "smoke", tmp_path / "data")
    assert (row["trial"], row["preset"]) == ("as it is", "smoke")


def test_no_image_is_scored_that_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = note_images(DRC, monkeypatch)
    assert call(tmp_path, "--only", "as it is").exit_code == 0
    assert seen["fit"]
    assert seen["segment"]
    assert not seen["fit"] & seen["segment"]


def test_a_trial_is_trained_with_the_seed_of_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, fit = [], DRC.fit
    monkeypatch.setattr(
        DRC, "fit", lambda *words, **named: (seeds.append(named["seed"]), fit(*words, **named))
    )
    assert call(tmp_path, "--only", "as it is", "--seeds", "2").exit_code == 0
    (row,) = json.loads((tmp_path / "results" / "trials-smoke.json").read_text())
    assert seeds == [row["seed"]] == [2]
    assert row["command"].endswith(" --preset smoke --seeds 2")


def test_a_trial_that_changes_nothing_under_a_budget_says_so(tmp_path: Path) -> None:
    refused = call(tmp_path, "--only", "no momentum")
    assert refused.exit_code == 2, refused.output
    assert "the trial 'no momentum' changes nothing under smoke" in refused.output


def test_a_new_row_takes_the_place_of_an_earlier_one_of_its_key() -> None:
    earlier = [row_of("no momentum", key="a", iou=0.1), row_of("as it is", key="b")]
    found = trials.joined(earlier, [row_of("no momentum", key="a", iou=0.9)])
    assert [(row["trial"], row["iou"]) for row in found] == [("as it is", 0.5), ("no momentum", 0.9)]


def test_a_training_in_a_folder_that_another_works_at_is_refused(tmp_path: Path) -> None:
    config, images = trials.trial_settings("as it is", "smoke"), np.zeros((8, 16, 16, 3), np.uint8)
    with claim(tmp_path), pytest.raises(Busy):
        trials.train("DRC trains", "DRC", images, config, 0, "cpu", tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_trial_on_other_images_is_another_one() -> None:
    config = trials.trial_settings("as it is", "smoke")
    trainings = [trials.training_facts(config, "smoke", 0, letter * 64) for letter in "ab"]
    assert len({trials.trial_key(config, training) for training in trainings}) == 2
