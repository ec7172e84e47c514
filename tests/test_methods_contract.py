"""Every registered method on tiny images, under the budget `smoke`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_helpers import train_method

from baselines.matching import STRATEGIES
from benchmarks.data import object_boxes
from benchmarks.jobs import fit_config
from benchmarks.registry import METHODS, PRESETS
from benchmarks.scoring import check_masks
from benchmarks.stops import GentleStop

SIZE = PRESETS["smoke"].image_size
EACH = [(name, variant) for name, spec in METHODS.items() for variant in spec.variants]
TRAINED = [name for name, spec in METHODS.items() if spec.trained]
PAINTED: dict[str, set[str]] = {
    "DRC": {"reconstruction", "foreground", "background"},
    "ReDO": {"reconstruction"},
    "IODINE": {"reconstruction"},
    "Slot-Attention": {"reconstruction"},
    "GrabCut": set(),
    "all-foreground": set(),
    "centred-ellipse": set(),
}
"""The least that each of ours must show; nothing where it paints nothing."""


def load(name: str) -> Any:
    """The method's class; the test is skipped where the method itself says that it cannot run."""
    cls = METHODS[name].load()
    if why := cls.skip():
        pytest.skip(why)
    return cls


def images(count: int = 8) -> np.ndarray:
    """Bright squares on dark noise, (N, S, S, 3) uint8."""
    found = np.random.default_rng(0).integers(0, 90, (count, SIZE, SIZE, 3)).astype(np.uint8)
    found[:, 5:11, 5:11] = (250, 200, 30)
    found.flags.writeable = False  # as a data set's are
    return found


def fit(name: str, variant: str, folder: Path, **options: Any) -> Any:
    method = load(name)()
    config = method.configure(variant=variant, preset="smoke", dataset="tm-dsprites", image_size=SIZE)
    return train_method(method, images(), config, folder, **options)


def segment(method: Any, pictures: np.ndarray) -> np.ndarray:
    options = {}
    if getattr(method, "needs_boxes", False):
        truth = np.zeros(pictures.shape[:3], np.uint8)
        truth[:, 5:11, 5:11] = 1
        options["boxes"] = object_boxes(truth)
    return method.segment(pictures, **options)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Each method and variant trained once, filled as tests ask."""
    return {}


def get(fitted: dict[tuple[str, str], Any], name: str, variant: str, folder: Path) -> Any:
    if (name, variant) not in fitted:
        fitted[name, variant] = fit(name, variant, folder)
    return fitted[name, variant]


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_says_what_the_class_says(name: str) -> None:
    cls, spec = load(name), METHODS[name]
    assert cls.name == name
    assert set(spec.variants) <= set(cls.variants)
    assert spec.variants[0] == cls.variants[0]
    assert spec.protocol in STRATEGIES
    assert cls.names_foreground == (spec.protocol == "unmatched")


@pytest.mark.parametrize("name", METHODS)
def test_fit_is_offered_no_labels(name: str) -> None:
    parameters = list(inspect.signature(load(name).fit).parameters)
    assert parameters == ["self", "images", "config", "seed", "device", "checkpoint_dir", "progress"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_training_is_taken_over_only_where_it_would_be_the_same(preset: str) -> None:
    same = {"preset": preset, "dataset": "tm-dsprites", "image_size": PRESETS[preset].image_size}
    taken = [(name, *pair) for name, spec in METHODS.items() for pair in spec.taken_over.items()]
    assert taken
    for name, variant, whose in taken:
        mine, theirs = (load(name).configure(variant=v, **same) for v in (variant, whose))
        assert fit_config(mine) == fit_config(theirs)
        assert mine != theirs


@pytest.mark.parametrize(("name", "variant"), EACH)
@pytest.mark.parametrize("preset", PRESETS)
def test_settings_are_frozen_and_plain(name: str, variant: str, preset: str) -> None:
    size = PRESETS[preset].image_size
    config = load(name).configure(variant=variant, preset=preset, dataset="tm-dsprites", image_size=size)
    json.dumps(dataclasses.asdict(config), allow_nan=False)
    field = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, None)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_variant_is_a_clear_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        load(name).configure(variant="nonsense", preset="smoke", dataset="tm-dsprites", image_size=SIZE)


@pytest.mark.parametrize(("name", "variant"), EACH)
def test_masks_are_a_partition(name: str, variant: str, fitted: dict[Any, Any], tmp_path: Path) -> None:
    method = get(fitted, name, variant, tmp_path)
    masks = check_masks(segment(method, images()), images(), name)
    assert masks.dtype == np.float32


@pytest.mark.parametrize(("name", "variant"), EACH)
def test_one_image_is_enough(name: str, variant: str, fitted: dict[Any, Any], tmp_path: Path) -> None:
    masks = segment(get(fitted, name, variant, tmp_path), images(1))
    assert masks.shape[0] == 1


@pytest.mark.parametrize(("name", "variant"), EACH)
def test_segmenting_changes_nothing_and_repeats(
    name: str, variant: str, fitted: dict[Any, Any], tmp_path: Path
) -> None:
    method, pictures = get(fitted, name, variant, tmp_path), images(3)
    first = segment(method, pictures)
    np.testing.assert_array_equal(pictures, images(3))
    np.testing.assert_array_equal(segment(method, pictures), first)


@pytest.mark.parametrize(("name", "variant"), EACH)
def test_panels_are_pictures_of_the_images_size(
    name: str, variant: str, fitted: dict[Any, Any], tmp_path: Path
) -> None:
    panels = get(fitted, name, variant, tmp_path).panels(images(2))
    painted = PAINTED.get(name, panels.keys())
    assert painted <= panels.keys() if painted else not panels
    assert panels.keys() <= {"reconstruction", "foreground", "background"}
    for picture in panels.values():
        assert picture.shape == (2, SIZE, SIZE, 3)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if not spec.floor])
def test_segmenting_tells_how_far_it_is(name: str, fitted: dict[Any, Any], tmp_path: Path) -> None:
    """Else it has no bar, and a live picture of it cannot be stopped."""
    told: list[tuple[int, int]] = []
    method = get(fitted, name, METHODS[name].variants[0], tmp_path)
    method.segment(images(3), progress=lambda step, total, **values: told.append((step, total)))
    assert told
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("name", TRAINED)
def test_one_seed_one_result_and_another_seed_another(
    name: str, fitted: dict[Any, Any], tmp_path: Path
) -> None:
    variant = METHODS[name].variants[0]
    first = segment(get(fitted, name, variant, tmp_path / "a"), images())
    again = segment(fit(name, variant, tmp_path / "b"), images())
    other = segment(fit(name, variant, tmp_path / "c", seed=1), images())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_trained_takes_steps_up_to_their_total_and_nothing_else_does(
    name: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    fit(
        name,
        METHODS[name].variants[0],
        tmp_path,
        progress=lambda step, total, **values: seen.append((step, total)),
    )
    assert bool(seen) == METHODS[name].trained
    assert [step for step, _ in seen] == sorted({step for step, _ in seen})
    assert all(step == total for step, total in seen[-1:])


@pytest.mark.parametrize("name", TRAINED)
def test_what_was_interrupted_goes_on_to_the_same_result(
    name: str, fitted: dict[Any, Any], tmp_path: Path
) -> None:
    variant = METHODS[name].variants[0]
    whole = segment(get(fitted, name, variant, tmp_path / "whole"), images())

    def interrupt(step: int, total: int, **values: float) -> None:
        if 2 * step >= total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(name, variant, tmp_path / "parts", progress=interrupt)
    steps: list[int] = []
    method = fit(name, variant, tmp_path / "parts", progress=lambda step, total, **values: steps.append(step))
    np.testing.assert_array_equal(segment(method, images()), whole)
    assert min(steps) > 1, "it began anew instead of going on"


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_who_drives_the_training(
    name: str, number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A method with handlers of its own leaves the suite's in place, which say what will happen."""
    steps: list[int] = []
    with GentleStop() as stop:

        def progress(step: int, total: int, **values: float) -> None:
            stop.check()
            steps.append(step)
            signal.raise_signal(number)

        with pytest.raises(KeyboardInterrupt):
            fit(name, METHODS[name].variants[0], tmp_path, progress=progress)
    assert len(steps) == 1
    assert "Stopping after this step" in capsys.readouterr().err


@pytest.mark.parametrize("name", TRAINED)
def test_it_trains_outside_of_the_main_thread_too(name: str, tmp_path: Path) -> None:
    """Where no signal can be handled."""
    with ThreadPoolExecutor(1) as pool:
        method = pool.submit(fit, name, METHODS[name].variants[0], tmp_path).result()
    check_masks(segment(method, images()), images(), name)


@pytest.mark.parametrize("name", TRAINED)
def test_looking_on_during_training_does_not_change_it(
    name: str, fitted: dict[Any, Any], tmp_path: Path
) -> None:
    """The live picture segments in the middle of fit."""
    variant = METHODS[name].variants[0]
    whole = segment(get(fitted, name, variant, tmp_path / "whole"), images())
    method = load(name)()
    config = method.configure(variant=variant, preset="smoke", dataset="tm-dsprites", image_size=SIZE)

    def look(step: int, total: int, **values: float) -> None:
        if step == total // 2:
            method.segment(images(2))
            method.panels(images(2))

    method.fit(
        images(), config=config, seed=0, device="cpu", checkpoint_dir=tmp_path / "looked", progress=look
    )
    np.testing.assert_array_equal(segment(method, images()), whole)


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_finished_is_only_loaded(name: str, tmp_path: Path) -> None:
    variant, steps = METHODS[name].variants[0], []
    first = segment(fit(name, variant, tmp_path), images())
    again = fit(name, variant, tmp_path, progress=lambda step, total, **values: steps.append(step))
    assert len(steps) <= 1
    np.testing.assert_array_equal(segment(again, images()), first)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_cannot_run_says_why(name: str) -> None:
    why = METHODS[name].load().skip()
    assert why is None or (isinstance(why, str) and why.strip())


@pytest.mark.parametrize("name", TRAINED)
def test_every_budget_has_settings_and_no_other_has(name: str) -> None:
    variant = METHODS[name].variants[0]
    for preset, budget in PRESETS.items():
        load(name).configure(
            variant=variant, preset=preset, dataset="someone's own", image_size=budget.image_size
        )
    with pytest.raises(ValueError, match="nonsense"):
        load(name).configure(variant=variant, preset="nonsense", dataset="tm-dsprites", image_size=SIZE)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("shape", [(2 * SIZE, 2 * SIZE), (SIZE, 2 * SIZE)])
def test_images_of_another_size_are_refused(
    name: str, shape: tuple[int, int], fitted: dict[Any, Any], tmp_path: Path
) -> None:
    method = get(fitted, name, METHODS[name].variants[0], tmp_path)
    with pytest.raises(ValueError, match=rf"{SIZE}.*{2 * SIZE}|{2 * SIZE}.*{SIZE}"):
        method.segment(np.zeros((1, *shape, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"{SIZE}.*{2 * SIZE}|{2 * SIZE}.*{SIZE}"):
        train_method(load(name)(), np.zeros((8, *shape, 3), np.uint8), method.config, tmp_path / "other")


@pytest.mark.parametrize("name", TRAINED)
def test_what_has_not_been_trained_says_so(name: str) -> None:
    with pytest.raises(RuntimeError, match="call fit"):
        load(name)().segment(images())


@pytest.mark.parametrize("name", TRAINED)
def test_a_checkpoint_of_another_run_is_refused(name: str, tmp_path: Path) -> None:
    """Neither taken up nor overwritten."""
    variant = METHODS[name].variants[0]
    fit(name, variant, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before
    with pytest.raises(Exception, match="another seed"):
        fit(name, variant, tmp_path, seed=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", TRAINED)
def test_damaged_checkpoints_are_named_and_not_trained_over(name: str, tmp_path: Path) -> None:
    variant = METHODS[name].variants[0]
    fit(name, variant, tmp_path)
    checkpoints = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert checkpoints
    for path in checkpoints:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Exception, match=r"(?s)read.*delete"):
        fit(name, variant, tmp_path)
    assert all(path.stat().st_size == 100 for path in checkpoints)


@pytest.mark.parametrize("name", [name for name in TRAINED if name in PAINTED])
@pytest.mark.parametrize(
    "other",
    [images() / 255, images()[..., :1], images().transpose(0, 3, 1, 2), images()[0]],
    ids=["float", "grey", "channels first", "one image"],
)
def test_arrays_of_another_kind_are_refused(name: str, other: np.ndarray, tmp_path: Path) -> None:
    """Floats in [0, 1] would be taken for nearly black pictures."""
    method = fit(name, METHODS[name].variants[0], tmp_path)
    with pytest.raises(ValueError, match=r"give uint8 from 0 to 255 of shape \(N, H, W, 3\)"):
        method.segment(other)
    with pytest.raises(ValueError, match=r"give uint8 from 0 to 255 of shape \(N, H, W, 3\)"):
        train_method(load(name)(), other, method.config, tmp_path / "other")


@pytest.mark.parametrize("name", TRAINED)
def test_settings_go_by_whole_names_of_data_sets(name: str) -> None:
    def of(dataset: str) -> Any:
        return load(name).configure(
            variant=METHODS[name].variants[0], preset="paper", dataset=dataset, image_size=128
        )

    for known in ("clevr6", "tm-dsprites"):
        assert of(f"{known}-of-mine") == of(known)
        assert of(f"{known}2") == of("mine")
