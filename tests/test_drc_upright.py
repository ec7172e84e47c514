"""Pictures are set upright as their EXIF says, where that can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, features

from drc.pictures import read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_followed(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(read_picture(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_an_orientation_that_cannot_be_read_is_none(ending: str, tmp_path: Path) -> None:
    if ending == "webp" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    Image.fromarray(PIXELS).save(tmp_path / f"a.{ending}", exif=b"garbage", lossless=True)
    assert np.array_equal(read_picture(tmp_path / f"a.{ending}"), PIXELS)


def test_a_profile_that_is_no_number_has_no_orientation(tmp_path: Path) -> None:
    profile = PngImagePlugin.PngInfo()
    profile.add_text("Raw profile type exif", "\nexif\n 4\nno numbers")
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=profile)
    assert np.array_equal(read_picture(tmp_path / "a.png"), PIXELS)
