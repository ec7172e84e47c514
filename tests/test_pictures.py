"""Decoding, cropping and resizing: damaged pictures are never silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import ItemError, SourceError
from data_prep.folder import by_stem
from data_prep.parallel import ordered_map
from data_prep.pictures import (
    Crop,
    centre_square,
    list_pictures,
    read_picture,
    resize_image,
    resize_labels,
    square_around,
)
from drc.pictures import read_picture as seen_by_drc

CROP: Crop = (50, 40, 350, 330)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG of 400 x 360 pixels with smooth shapes."""
    y, x = np.mgrid[:360, :400]
    pixels = np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 13), (x + y) / 3], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=92)
    return tmp_path / "photo.jpg"


@pytest.mark.parametrize("size", [32, 200, 350])
def test_a_crop_is_resized_as_if_nothing_were_around_it(photo: Path, size: int) -> None:
    with Image.open(photo) as opened:
        alone = opened.convert("RGB").crop(CROP).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize_image(read_picture(photo, "RGB"), CROP, size), np.asarray(alone))


def test_truncation_is_noticed(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-2000])
    with pytest.raises(ItemError, match=r"photo\.jpg is not a whole picture"):
        read_picture(photo, "RGB")


def test_picture_that_would_fill_the_memory(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ItemError, match=r"photo\.jpg is not a whole picture .*pixels"):
        read_picture(photo)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (40, 40), (255, 255, 255)).convert(mode).save(file)
    assert resize_image(read_picture(file, "RGB"), None, 16).min() > 250


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_is_seen_over_white_as_drc_does(tmp_path: Path, mode: str) -> None:
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    picture = colours.convert(mode)
    if picture.mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L").resize((20, 20)))
        picture.save(tmp_path / "a.png")
    else:
        picture.save(tmp_path / "a.png", transparency=picture.getpixel((0, 0)))
    found = np.asarray(read_picture(tmp_path / "a.png", "RGB"))
    np.testing.assert_array_equal(found, np.asarray(seen_by_drc(tmp_path / "a.png")))
    assert (found != np.asarray(picture.convert("RGB"))).any()


def test_labels_are_never_mixed() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 7, 200], np.uint8), (90, 70))
    assert set(np.unique(resize_labels(Image.fromarray(labels), (3, 5, 60, 80), 32))) <= {0, 7, 200}


def test_centre_square() -> None:
    assert centre_square((100, 60)) == (20, 0, 80, 60)
    assert centre_square((60, 101)) == (0, 20, 60, 80)


@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize(
    ("x", "y", "to_x", "to_y"),
    [(-10, 10, -1, 0), (10, -10, 0, -1), (90, 10, 1, 0), (10, 50, 0, 1)],
    ids=["left", "top", "right", "bottom"],
)
def test_a_box_whose_centre_is_on_an_edge_or_past_it_is_refused(
    x: int, y: int, to_x: int, to_y: int, past: int
) -> None:
    box = (x + past * to_x, y + past * to_y, 20, 20)
    with pytest.raises(ItemError, match=r"a\.jpg: the box .* leads outside the image of 100 x 60"):
        square_around(box, (100, 60), file=Path("a.jpg"))


@pytest.mark.parametrize(
    ("box", "crop"),
    [
        ((-5, 10, 20, 20), (0, 5, 20, 35)),
        ((10, -5, 20, 20), (5, 0, 35, 20)),
        ((85, 10, 20, 20), (80, 5, 100, 35)),
        ((10, 45, 20, 20), (5, 40, 35, 60)),
    ],
    ids=["left", "top", "right", "bottom"],
)
def test_centre_and_side_are_of_the_box_as_annotated(box: tuple[int, int, int, int], crop: Crop) -> None:
    """A box may pass an edge; were it clipped first, the square would lie elsewhere."""
    assert square_around(box, (100, 60), file=Path("a.jpg")) == crop


def test_a_box_may_pass_all_edges() -> None:
    assert square_around((-1, -1, 102, 62), (100, 60), file=Path("a.jpg")) == (0, 0, 100, 60)


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.jpg", "._a.jpg", "b.txt", "deep/c.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(list_pictures(tmp_path)[0]) == ["a.jpg", "deep/c.PNG"]


def test_a_folder_without_a_picture_that_is_read_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no file at all"):
        by_stem(tmp_path)
    for name in ("a.HEIC", "deep/b.heic", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"only files that end in \.heic, \.txt .* read end in \.jpg, "):
        by_stem(tmp_path)


def test_links_to_folders_are_followed_and_not_in_circles(tmp_path: Path) -> None:
    for place in ("album", "disk/a", "disk/b"):
        (tmp_path / place).mkdir(parents=True)
    for place, to in (
        ("album/here", "disk"),
        ("disk/a/x", "disk/b"),
        ("disk/b/y", "disk/a"),
        ("disk/z", "."),
    ):
        (tmp_path / place).symlink_to(tmp_path / to)
    for place in ("disk/a/1.png", "disk/b/2.png"):
        (tmp_path / place).touch()
    found, faults = list_pictures(tmp_path / "album")
    assert list(found) == [f"here/{place}" for place in ("a/1.png", "a/x/2.png", "b/2.png", "b/y/1.png")]
    assert not faults


def test_results_come_in_order_and_few_are_under_way() -> None:
    taken: list[int] = []

    def numbers():
        for number in range(200):
            taken.append(number)
            yield number

    results = ordered_map(lambda number: number * 2, numbers(), workers=3)
    first = [next(results) for _ in range(5)]
    assert first == [0, 2, 4, 6, 8]
    assert len(taken) <= 5 + 12
    assert [*first, *results] == [2 * number for number in range(200)]


def test_a_fault_is_raised_at_its_turn() -> None:
    results = ordered_map(lambda number: 1 // (3 - number), range(100), workers=2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
