"""The TM-dSprites generator: its mathematics, its statistics and its repeatability."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_prep import tm_dsprites as tm
from data_prep.errors import DataPrepError
from data_prep.store import StoreError, open_dataset

TINY = {"count": 12, "heldout": 4, "size": 32}


def test_gratings_are_inverse_fourier_transforms_of_one_coefficient() -> None:
    assert len(tm.TEXTURES) == len(set(tm.TEXTURES)) == 20
    assert tm.TEXTURES[0] == (4, 0)
    assert tm.TEXTURES[-1] == (37, 16)
    for number, (f1, f2) in enumerate(tm.TEXTURES):
        spectrum = np.zeros((38, 38), dtype=complex)
        spectrum[f1, f2] = np.exp(2j * np.pi * 0.3)
        wave = np.fft.ifft2(spectrum).real
        expected = (wave - wave.min()) / (wave.max() - wave.min())
        np.testing.assert_allclose(tm.texture_tile(number, 0.3), expected, atol=1e-5)


@pytest.mark.parametrize("shape", tm.SHAPES)
def test_shapes_have_unit_area_and_stay_within_reach(shape: str) -> None:
    grid = (np.arange(-500, 500) + 0.5) / 500
    distance = tm.SHAPES[shape](grid[None, :], grid[:, None])
    inside = distance < 0
    assert inside.mean() * 4 == pytest.approx(1, abs=0.005)
    assert np.hypot(grid[None, :], grid[:, None])[inside].max() <= tm.REACH


def test_mean_foreground_share_is_the_papers() -> None:
    config = tm.TMDspritesConfig(size=64)
    shares = [
        np.count_nonzero(tm.render(tm.draw_scene(config, "train", i), 64)[1]) / 64**2 for i in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(0.073, abs=0.003)


def test_one_to_three_sprites_wholly_inside() -> None:
    config = tm.TMDspritesConfig()
    scenes = [tm.draw_scene(config, "train", i) for i in range(200)]
    assert {len(scene.sprites) for scene in scenes} == {1, 2, 3}
    assert {sprite.shape for scene in scenes for sprite in scene.sprites} == set(tm.SHAPES)
    for scene in scenes[:50]:
        mask = tm.render(scene, 64)[1]
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not border.any()


def still(shape: str, side: float, centre: tuple[float, float], colour: float) -> tm.Sprite:
    return tm.Sprite(shape, side, centre, 0.0, np.full(3, colour))


def test_later_sprites_lie_over_earlier_ones() -> None:
    texture = tm.Texture(0, 0.0, (0, 0))
    scene = tm.Scene(texture, (still("square", 0.5, (0.5, 0.5), 0.2), still("square", 0.25, (0.5, 0.5), 0.8)))
    image, mask = tm.render(scene, 64)
    assert mask[32, 32] == 2
    assert mask[32, 18] == 1
    assert mask[2, 2] == 0
    assert image[32, 32].tolist() == [204, 204, 204]
    assert image[32, 18].tolist() == [51, 51, 51]
    assert np.count_nonzero(mask) == 32 * 32
    assert np.count_nonzero(mask == 2) == 16 * 16


def test_edges_are_anti_aliased_and_the_mask_is_majority_coverage() -> None:
    sprite = still("square", 0.5, (0.5, 0.5 + 0.25 / 64), 1.0)  # shifted down by a quarter of a pixel
    (rows, columns), coverage = tm.sprite_coverage(sprite, 64)
    whole = np.zeros((64, 64))
    whole[rows, columns] = coverage
    np.testing.assert_allclose(whole[15:18, 32], [0.0, 0.75, 1.0], atol=1e-5)
    np.testing.assert_allclose(whole[47:50, 32], [1.0, 0.25, 0.0], atol=1e-5)
    assert whole.sum() == pytest.approx(32 * 32, rel=0.01)
    mask = tm.render(tm.Scene(tm.Texture(0, 0.0, (0, 0)), (sprite,)), 64)[1]
    assert mask[16, 32] == 1
    assert mask[48, 32] == 0


def test_heart_points_down_and_rotates() -> None:
    upright = tm.render(tm.Scene(tm.Texture(0, 0.0, (0, 0)), (still("heart", 0.4, (0.5, 0.5), 1.0),)), 64)[1]
    rows = np.flatnonzero(upright.any(axis=1))
    assert np.count_nonzero(upright[rows[2]]) > np.count_nonzero(upright[rows[-3]])
    np.testing.assert_array_equal(upright, upright[:, ::-1])
    turned = tm.Sprite("heart", 0.4, (0.5, 0.5), np.pi, np.ones(3))
    mask = tm.render(tm.Scene(tm.Texture(0, 0.0, (0, 0)), (turned,)), 64)[1]
    np.testing.assert_array_equal(mask, upright[::-1, ::-1])


def test_colours_by_variant() -> None:
    for variant in tm.VARIANTS:
        images, _ = tm.sample(tm.TMDspritesConfig(variant=variant, size=32), 20)
        coloured = (images.max(axis=-1) != images.min(axis=-1)).any()
        assert coloured == (variant == "tm-dsprites")
    masks = [tm.sample(tm.TMDspritesConfig(variant=v, size=32), 5)[1] for v in tm.VARIANTS]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_backgrounds_are_grey_and_use_the_whole_range() -> None:
    images, masks = tm.sample(tm.TMDspritesConfig(size=64), 20)
    background = images[masks == 0]
    assert background.min() < 10
    assert background.max() > 245
    near_edge = (background.max(axis=-1) != background.min(axis=-1)).mean()
    assert near_edge < 0.05  # only half-covered edge pixels may take on colour


def test_same_whatever_the_workers_and_different_with_the_seed(tmp_path: Path) -> None:
    config = tm.TMDspritesConfig(**TINY)
    one = tm.generate(tmp_path / "one", config, workers=1, progress=False)
    three = tm.generate(tmp_path / "three", config, workers=3, progress=False)
    other = tm.generate(tmp_path / "other", tm.TMDspritesConfig(**TINY, seed=1), progress=False)
    assert one.sha256 == three.sha256 != other.sha256
    assert not np.array_equal(one.images, other.images)


def test_an_image_depends_on_neither_the_count_nor_the_size(tmp_path: Path) -> None:
    few = tm.generate(tmp_path / "few", tm.TMDspritesConfig(count=3, heldout=2, size=32), progress=False)
    many = tm.generate(tmp_path / "many", tm.TMDspritesConfig(count=9, heldout=2, size=32), progress=False)
    np.testing.assert_array_equal(few.images[few.rows("train")], many.images[many.rows("train", limit=3)])
    np.testing.assert_array_equal(few.images[few.rows("test")], many.images[many.rows("test")])
    assert not np.array_equal(few.images[0], few.images[few.rows("test")[0]])
    small = tm.sample(tm.TMDspritesConfig(size=64), 5)[1]
    large = tm.sample(tm.TMDspritesConfig(size=128), 5)[1]
    assert np.mean(large[:, ::2, ::2] == small) > 0.98


def test_textured_sprites_carry_other_textures_than_their_background() -> None:
    config = tm.TMDspritesConfig(variant="tm-dsprites-textured")
    for number in range(20):
        scene = tm.draw_scene(config, "train", number)
        paints = [sprite.paint for sprite in scene.sprites]
        assert all(isinstance(paint, tm.Texture) for paint in paints)
        numbers = [scene.background.number, *(paint.number for paint in paints)]
        assert len(set(numbers)) == len(numbers)


def test_store_contents(tmp_path: Path) -> None:
    tm.generate(tmp_path / "set", tm.TMDspritesConfig(**TINY, shapes=("heart",)), progress=False)
    dataset = open_dataset(tmp_path / "set", verify=True)
    assert dataset.name == "tm-dsprites-hearts"
    assert dataset.manifest["counts"] == {"train": 12, "test": 4}
    assert dataset.manifest["settings"]["seed"] == 0
    assert set(" ".join(dataset.index["shapes"]).split()) == {"heart"}
    assert dataset.images.shape == (16, 32, 32, 3)


@pytest.mark.parametrize("size", [16, 17, 100, 256])
def test_any_size(size: int) -> None:
    images, masks = tm.sample(tm.TMDspritesConfig(size=size), 3)
    assert images.shape == (3, size, size, 3)
    assert masks.shape == (3, size, size)
    assert all(mask.any() for mask in masks)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": 15}, "choose 16 to 256"),
        ({"size": 257}, "choose 16 to 256"),
        ({"variant": "tm-dsprites-gold"}, "no variant 'tm-dsprites-gold'"),
        ({"shapes": ("star",)}, "no shape star; choose from square, ellipse, heart"),
        ({"shapes": ()}, "choose from square"),
        ({"shapes": ("heart", "heart")}, "twice"),
        ({"count": 0}, "At least 1 training image"),
        ({"seed": -1}, "negative"),
    ],
)
def test_settings_out_of_range(bad: dict[str, object], message: str) -> None:
    with pytest.raises(DataPrepError, match=message):
        tm.TMDspritesConfig(**bad)  # type: ignore[arg-type]


def test_a_set_that_does_not_fit_the_disk_is_refused_before_anything_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    tracemalloc.start()
    with pytest.raises(StoreError, match=r"needs 1\.23 GB and only 1\.00 GB are free"):
        tm.generate(tmp_path / "set", tm.TMDspritesConfig(count=300_000, heldout=0, size=32), progress=False)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 2**20
