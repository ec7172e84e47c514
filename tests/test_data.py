"""Data sets as a budget uses them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cell_helpers import cell, runner
from fake_methods import RandomWalk
from store_helpers import fill, new_writer

from benchmarks.cells import make_cell
from benchmarks.data import Library, object_boxes, resize_images, resize_objects
from benchmarks.errors import BenchmarkError
from benchmarks.registry import DATASETS, METHODS, PRESETS
from data_prep.target import SoleWriter


def test_a_damaged_data_set_is_refused_before_anything_is_computed(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    images = smoke_data / "tm-dsprites-16" / "images.npy"
    content = bytearray(images.read_bytes())
    content[-100] ^= 255
    images.write_bytes(content)
    outcome = runner(smoke_data, tmp_path / "runs").run(cell())
    assert outcome.status == "failed"
    assert "images.npy changed since it was written" in outcome.reason
    assert random_walk.steps_taken == 0


def test_what_is_not_prepared_is_named_with_its_command(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"python -m data_prep birds .* --out .*birds"):
        Library(tmp_path, "quick").dataset("birds")


@pytest.mark.parametrize(
    ("count", "heldout", "said"),
    [(8, 4, "8 train images and this preset uses 64"), (64, 4, "4 test images and this preset uses ")],
)
def test_a_smaller_data_set_than_the_budget_uses_is_refused(
    count: int, heldout: int, said: str, tmp_path: Path
) -> None:
    from data_prep.tm_dsprites import TMDspritesConfig, generate

    config = TMDspritesConfig(count=count, heldout=heldout, size=16)
    generate(tmp_path / "tm-dsprites-16", config, workers=1, progress=False)
    with pytest.raises(BenchmarkError, match=said):
        Library(tmp_path, "smoke").dataset("tm-dsprites")


def test_scored_images_are_spread_over_the_subset(smoke_data: Path) -> None:
    library = Library(smoke_data, "smoke")
    rows = library.evaluation_rows("tm-dsprites", "test")
    held_out = library.dataset("tm-dsprites").rows("test")
    assert len(rows) == len(set(rows)) == 16
    assert (rows[0], rows[-1]) == (held_out[0], held_out[-1])
    assert set(rows) <= set(held_out)


def test_a_scored_image_has_its_own_masks_and_its_own_name(smoke_data: Path) -> None:
    library = Library(smoke_data, "smoke")
    rows, dataset = library.evaluation_rows("tm-dsprites", "test"), library.dataset("tm-dsprites")
    scored = library.evaluation("tm-dsprites", "test")
    np.testing.assert_array_equal(scored.images, dataset.images[rows])
    np.testing.assert_array_equal(scored.objects, dataset.masks[rows])
    assert scored.ids == [str(dataset.index["id"].tolist()[row]) for row in rows]


def test_scored_training_images_were_trained_on_in_a_larger_data_set_too(tmp_path: Path) -> None:
    from data_prep.tm_dsprites import TMDspritesConfig, generate

    config = TMDspritesConfig(count=200, heldout=64, size=16)
    generate(tmp_path / "tm-dsprites-16", config, workers=1, progress=False)
    library = Library(tmp_path, "smoke")
    trained_on = library.training_rows("tm-dsprites")
    assert len(trained_on) == 64
    assert set(library.evaluation_rows("tm-dsprites", "eval")) <= set(trained_on)


@pytest.mark.parametrize("preset", [name for name, budget in PRESETS.items() if budget.scored_of])
def test_every_method_trains_on_the_images_among_which_training_images_are_scored(preset: str) -> None:
    budget = PRESETS[preset]
    limits = []
    for spec in METHODS.values():
        for variant in spec.variants if spec.trained else ():
            config = spec.load().configure(
                variant=variant, preset=preset, dataset="birds", image_size=budget.image_size
            )
            limits.append(getattr(config, "train_images", None))
    limited = [limit for limit in limits if limit is not None]
    assert limited, "DRC trains on the first images only"
    assert min(limited) >= budget.scored_of


def test_photographs_that_are_trained_on_and_scored_are_the_first_ones_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_writer(tmp_path / "birds") as writer:
        fill(writer, 20)
    monkeypatch.setitem(PRESETS, "smoke", replace(PRESETS["smoke"], scored_of=10, eval_images=4))
    library = Library(tmp_path, "smoke")
    assert list(library.evaluation_rows("birds", "all")) == [0, 3, 6, 9]


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


def test_images_are_interpolated_when_made_larger() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[:, :, 1] = 100
    assert resize_images(images, 4)[0, :, :, 0].tolist() == [[0, 25, 75, 100]] * 4


def test_boxes_around_all_objects() -> None:
    objects = np.zeros((2, 9, 9), np.uint8)
    objects[0, 2:4, 3:8], objects[0, 6, 1] = 1, 2
    np.testing.assert_array_equal(object_boxes(objects), [[1, 2, 7, 5], [0, 0, 0, 0]])


@pytest.mark.parametrize("name", DATASETS)
def test_the_rows_that_are_scored_and_trained_on_are_those_that_the_label_promises(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the registry says: no training is shown an image that is called held out."""
    monkeypatch.setitem(PRESETS, "smoke", replace(PRESETS["smoke"], train_images=8, heldout_images=2))
    library = Library(tmp_path, "smoke")
    with new_writer(library.path(name)) as writer:
        fill(writer, 10)  # eight to train on and two to test
        image, mask = np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=np.uint8)
        writer.add(image, mask, id="010", split="val", source="", label=0)
    trained_on = set(library.training_rows(name))
    scored = {
        s.label: set(library.evaluation_rows(name, split)) for split, s in DATASETS[name].splits.items()
    }
    expected = {"held out": {8, 9}, "training images": set(range(8)), "validation images": {10}}
    expected["all"] = set(range(11))
    assert scored == {label: expected[label] for label in scored}
    assert trained_on == (set(range(11)) if "all" in scored else set(range(8)))


@pytest.mark.parametrize("name", [name for name, spec in DATASETS.items() if "eval" in spec.splits])
def test_of_more_than_a_thousand_training_images_the_first_thousand_are_scored(
    name: str, tmp_path: Path
) -> None:
    library = Library(tmp_path, "paper")
    library.budget = replace(library.budget, train_images=1002, heldout_images=1)
    image, mask = np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=np.uint8)
    with new_writer(library.path(name)) as writer:
        for number in range(1003):
            split = "train" if number < 1002 else "test"
            writer.add(image, mask, id=str(number), split=split, source="-")
    assert list(library.evaluation_rows(name, "eval")) == list(range(1000))


def test_damage_of_what_is_only_trained_on_is_found_before_it_is(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    Library(smoke_data, "smoke").dataset("tm-dsprites-grey")
    images = smoke_data / "tm-dsprites-grey-16" / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"\x07")
    which = make_cell("DRC", "full", "tm-dsprites-grey", "tm-dsprites", "test", "smoke", 0)
    outcome = runner(smoke_data, tmp_path / "runs").run(which)
    assert outcome.status == "failed"
    assert "images.npy changed since it was written" in outcome.reason
    assert random_walk.steps_taken == 0


def test_images_are_trained_on_at_the_budgets_size(tmp_path: Path) -> None:
    library = Library(tmp_path, "smoke")
    with new_writer(library.path("birds")) as writer:
        fill(writer, 4)  # of 8 pixels a side
    images = library.training_images("birds", np.array([1, 3]))
    np.testing.assert_array_equal(images, np.full((2, 16, 16, 3), [[[[10]]], [[[30]]]]))


def test_no_method_can_change_what_is_trained_on_or_scored(tmp_path: Path) -> None:
    library = Library(tmp_path, "smoke")
    with new_writer(library.path("birds")) as writer:
        fill(writer, 4)  # of 8 pixels a side, and so in memory once they have 16
    data = library.evaluation("birds", "all")
    for array in (library.training_images("birds", np.arange(4)), data.images, data.objects):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0


def test_a_data_set_that_another_process_is_making_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = Library(tmp_path, "smoke")
    path = library.path("tm-dsprites")
    path.parent.mkdir(parents=True, exist_ok=True)
    theirs = SoleWriter(path)
    with ThreadPoolExecutor() as pool:
        found = pool.submit(library.dataset, "tm-dsprites")
        while "which is waited for" not in caplog.text:
            assert not found.done()
            time.sleep(0.01)
        theirs.release()
        assert len(found.result(timeout=60).index) > 0


def test_pictures_that_are_made_smaller_are_means_over_areas() -> None:
    """A pixel in the corner of a block counts; reading between the middle pixels would miss it."""
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, 0, 0] = 160
    smaller = resize_images(images, 2)
    assert smaller[0, :, :, 0].tolist() == [[10, 0], [0, 0]]
    objects = np.zeros((1, 8, 8), np.uint8)
    objects[0, :4, :4] = 7
    objects[0, 1:4, 1:3] = 0  # which leaves 10 of 16, around the middle
    assert resize_objects(objects, 2)[0].tolist() == [[7, 0], [0, 0]]
