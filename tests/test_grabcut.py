from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from baselines.floors import AllForeground, CentredEllipse
from baselines.grabcut import RECTANGLES, GrabCut
from benchmarks.metrics import iou
from data_prep.tm_dsprites import TMDspritesConfig, sample


def picture(size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A red square on noisy green: image (1, S, S, 3), truth (1, S, S)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 40, (1, size, size, 3)).astype(np.uint8)
    image[..., 1] += 150
    truth = np.zeros((1, size, size), bool)
    truth[:, size // 3 : 2 * size // 3, size // 3 : 2 * size // 3] = True
    image[truth] = image[truth] % 40 + np.array([180, 0, 0], np.uint8)
    return image, truth


def fitted(variant: str, size: int = 32) -> GrabCut:
    method = GrabCut()
    config = GrabCut.configure(variant=variant, preset="quick", dataset="any", image_size=size)
    method.fit(
        np.empty((0, size, size, 3), np.uint8),
        config=config,
        seed=0,
        device="cpu",
        checkpoint_dir=Path(),
        progress=None,
    )
    return method


@pytest.mark.parametrize("variant", GrabCut.variants)
def test_finds_a_plain_object(variant: str) -> None:
    image, truth = picture()
    boxes = np.array([[9, 9, 14, 14]]) if variant == "bbox" else None
    masks = fitted(variant).segment(image, boxes=boxes)
    assert iou(masks[:, 0] > 0.5, truth)[0] > 0.9
    np.testing.assert_array_equal(masks.sum(axis=1), 1)


def test_boxes_are_of_the_variant_that_starts_from_them_alone() -> None:
    image, _ = picture()
    boxes = np.array([[0, 0, 9, 9]])
    plain = fitted("border")
    np.testing.assert_array_equal(plain.segment(image, boxes=boxes), plain.segment(image))


def test_a_failing_image_is_counted_and_empty_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, truth = picture()
    images = np.concatenate([image, image, image])
    real, calls = cv2.grabCut, []

    def fails_on_the_second(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise cv2.error("!bgdSamples.empty()")
        return real(*arguments)

    monkeypatch.setattr(cv2, "grabCut", fails_on_the_second)
    method = fitted("border")
    masks = method.segment(images)
    assert method.failures == 1
    assert masks.shape == (3, 2, 32, 32)
    assert masks[1, 0].sum() == 0
    assert iou(masks[[0, 2], 0] > 0.5, truth[[0, 0]]).min() > 0.9
    monkeypatch.undo()
    method.segment(images)
    assert method.failures == 0


def test_an_image_that_opencv_cannot_cut_is_a_failure_not_an_error() -> None:
    image, _ = picture()
    method = fitted("bbox")
    masks = method.segment(image, boxes=np.array([[5, 5, 0, 0]]))
    assert (method.failures, masks[:, 0].sum()) == (1, 0)


def test_a_box_that_fills_the_image_leaves_a_certain_background() -> None:
    image, truth = picture()
    method = fitted("bbox")
    masks = method.segment(image, boxes=np.array([[0, 0, 32, 32]]))
    assert method.failures == 0
    assert iou(masks[:, 0] > 0.5, truth)[0] > 0.9


def test_boxes_end_a_pixel_inside_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(cv2, "grabCut", lambda image, labels, box, *rest: seen.append(box))
    boxes = np.array([[0, 0, 32, 32], [20, 0, 12, 5], [0, 20, 5, 12], [3, 4, 5, 6]])
    fitted("bbox").segment(np.zeros((4, 32, 32, 3), np.uint8), boxes=boxes)
    assert seen == [(1, 1, 30, 30), (20, 1, 11, 4), (1, 20, 4, 11), (3, 4, 5, 6)]


def test_constant_images_do_not_stop_it() -> None:
    images = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    assert fitted("border").segment(images).shape == (2, 2, 16, 16)


def test_the_mask_of_an_image_does_not_depend_on_the_others() -> None:
    """On sprites: OpenCV draws numbers for its colour models, and one mask in five there depends on them."""
    images = sample(TMDspritesConfig(size=32), 60)[0]
    method = fitted("border")
    together = method.segment(images)
    np.testing.assert_array_equal(method.segment(images[::-1])[::-1], together)
    np.testing.assert_array_equal(method.segment(images[7:8])[0], together[7])


def test_rectangles_as_named() -> None:
    assert RECTANGLES["border"](128, 64) == (1, 1, 62, 126)
    assert RECTANGLES["center60"](100, 100) == (20, 20, 60, 60)


def test_the_annotated_variant_asks_for_its_boxes() -> None:
    method = fitted("bbox")
    assert method.needs_boxes
    assert not fitted("border").needs_boxes
    images = picture()[0]
    for boxes in ({}, {"boxes": np.ones((len(images) + 1, 4), int)}, {"boxes": np.ones(4, int)}):
        with pytest.raises(ValueError, match="box of each image"):
            method.segment(images, **boxes)


@pytest.mark.parametrize(
    "other", [picture()[0] / 255, picture()[0][..., 0], picture()[0][:0], picture()[0].tolist()]
)
def test_what_are_no_pictures_are_no_failures_of_opencv(other: Any) -> None:
    method = fitted("border")
    with pytest.raises(ValueError, match=r"give (uint8|a NumPy array of uint8|one or more)"):
        method.segment(other)


def test_opencv_is_given_the_rectangle_and_the_iterations_that_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("baselines.grabcut.cv2.grabCut", lambda *told: given.append((told[2], told[5])))
    method = fitted("border")
    method.config = replace(method.config, iterations=3)
    method.segment(np.zeros((1, 20, 40, 3), np.uint8))
    assert given == [((1, 1, 38, 18), 3)]  # x, y, width, height


def test_an_unknown_variant_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="border, center60, bbox"):
        fitted("circle")


def test_floors_cover_what_they_say() -> None:
    images = np.zeros((3, 64, 64, 3), np.uint8)
    assert AllForeground().segment(images)[:, 0].mean() == 1
    ellipse = CentredEllipse().segment(images)
    assert ellipse[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert ellipse[0, 0, 32, 32] == 1
    assert ellipse[0, 0, 0, 0] == 0
    np.testing.assert_array_equal(ellipse[0, 0], ellipse[0, 0, ::-1, ::-1])
    np.testing.assert_array_equal(ellipse.sum(axis=1), 1)
    wide = CentredEllipse.mask(40, 80)
    assert wide.mean() == pytest.approx(0.5, abs=0.01)
    assert [np.ptp(np.flatnonzero(wide.any(axis=axis))) for axis in (0, 1)] == [
        63,
        31,
    ]  # of the image's aspect


def test_the_measurement_that_chose_the_rectangle_can_be_made_again(
    smoke_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code of docs/protocols.md, as it stands there."""
    page = (Path(__file__).parents[1] / "docs/protocols.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder,) = smoke_data.iterdir()
    monkeypatch.setattr("sys.argv", ["measure.py", str(folder)])
    exec(compile(code, "docs/protocols.md", "exec"), {"__name__": "__main__"})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[2] for line in lines] == [*GrabCut.variants, "fixed", "fixed"]
    assert all(0 <= float(line[3]) <= float(line[4]) <= 1 for line in lines)
