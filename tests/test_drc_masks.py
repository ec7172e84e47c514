"""Masks by responsibilities, what all chains of an image together say of its pixels (Eq. 7), and at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drc_helpers import call, make_data, make_run
from PIL import Image
from test_drc_segment import write_pictures
from torch import Tensor

from drc import DRC, extraction
from drc.extraction import OUTLINE, Extraction, extract
from drc.model import Regions
from drc.pictures import Picture, open_picture
from drc.segment import pooled_responsibilities
from drc.sheets import GAP, HEAD, MARGIN, ROWS, TILE, column, sheet
from drc.tensors import to_signed


def chain(content_fg: Tensor, content_bg: Tensor, pi_fg: Tensor) -> Regions:
    """What one chain of a batch generates: contents (B, 3, H, W), π_f (B, 1, H, W)."""
    pi = torch.cat([pi_fg, 1 - pi_fg], dim=1)
    return Regions(*[None] * len(Regions._fields))._replace(
        content_fg=content_fg, content_bg=content_bg, pi=pi
    )


@pytest.fixture
def drawn() -> tuple[list[Regions], Tensor]:
    """Three chains of two images, all at random."""
    generator = torch.Generator().manual_seed(0)

    def signed() -> Tensor:
        return torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1

    chains = [chain(signed(), signed(), torch.rand(2, 1, 8, 8, generator=generator)) for _ in range(3)]
    return chains, signed()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_they_are_shares_and_regions_may_change_places(
    norm: str, drawn: tuple[list[Regions], Tensor]
) -> None:
    chains, images = drawn
    gamma = pooled_responsibilities(chains, images, norm)
    assert gamma.shape == (2, 2, 8, 8)
    assert gamma.min() >= 0
    torch.testing.assert_close(gamma.sum(dim=1), torch.ones(2, 8, 8))
    swapped = [chain(r.content_bg, r.content_fg, r.pi[:, 1:]) for r in chains]
    torch.testing.assert_close(pooled_responsibilities(swapped, images, norm), gamma.flip(1))


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_they_are_eq_7_under_the_mixture_of_the_chains(
    norm: str, power: int, drawn: tuple[list[Regions], Tensor]
) -> None:
    """Each region's π times exp(-miss / mean miss), summed over the chains; a miss is the mean over channels."""
    chains, images = drawn
    weights, misses = [], []
    for r in chains:
        contents = torch.stack([r.content_fg, r.content_bg], dim=1)
        missed = (contents - images[:, None]).abs().pow(power).mean(dim=2)
        misses.append((r.pi * missed).sum(dim=1))
        weights.append((r.pi, missed))
    scale = torch.stack(misses).mean(dim=(0, 2, 3)).view(2, 1, 1, 1)
    shares = sum(pi * (-missed / scale).exp() for pi, missed in weights)
    expected = shares / shares.sum(dim=1, keepdim=True)
    torch.testing.assert_close(pooled_responsibilities(chains, images, norm), expected, rtol=0, atol=1e-5)


def test_neither_the_order_of_chains_nor_another_image_matters(drawn: tuple[list[Regions], Tensor]) -> None:
    chains, images = drawn
    gamma = pooled_responsibilities(chains, images, "l1")
    torch.testing.assert_close(pooled_responsibilities(chains[::-1], images, "l1"), gamma)
    torch.testing.assert_close(pooled_responsibilities(chains * 2, images, "l1"), gamma)
    alone = [Regions._make(None if part is None else part[1:] for part in r) for r in chains]
    torch.testing.assert_close(pooled_responsibilities(alone, images[1:], "l1"), gamma[1:])


def test_where_all_contents_fit_alike_they_are_the_mean_of_pi(drawn: tuple[list[Regions], Tensor]) -> None:
    chains, images = drawn
    alike = [r._replace(content_fg=images, content_bg=images) for r in chains]
    expected = torch.stack([r.pi for r in chains]).mean(dim=0)
    torch.testing.assert_close(pooled_responsibilities(alike, images, "l1"), expected)


def test_one_chain_that_explains_the_image_outweighs_three_that_do_not() -> None:
    images = torch.zeros(1, 3, 4, 4)
    left = torch.zeros(1, 1, 4, 4)
    left[..., :2] = 1
    far = torch.ones(1, 3, 4, 4)
    good = chain(0.9 * (1 - left) * far, 0.9 * left * far, 0.1 + 0.8 * left)  # each right on its own side
    lost = chain(far, far, torch.full((1, 1, 4, 4), 0.05))  # all is background, and nothing fits
    gamma = pooled_responsibilities([good, lost, lost, lost], images, "l1")
    assert torch.equal(gamma[:, :1] > 0.5, left > 0.5)
    assert not torch.stack([r.pi for r in (good, lost, lost, lost)]).mean(dim=0)[:, 0].gt(0.5).any()


def test_certain_masks_and_contents_far_off_stay_finite() -> None:
    images = torch.ones(1, 3, 4, 4)
    certain = torch.zeros(1, 1, 4, 4)
    certain[..., 0] = 1
    lost = chain(-images, images, certain)
    gamma = pooled_responsibilities([lost], images, "l1")
    assert gamma.isfinite().all()
    assert pooled_responsibilities([chain(images, -images, certain)], images, "l1").isfinite().all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    return make_run(make_data(folder / "sprites"), folder / "run")


def test_the_setting_changes_masks_and_nothing_that_was_painted(run: Path) -> None:
    method = DRC.load(run)
    images = np.random.default_rng(5).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    method.config = replace(method.config, inference_chains=2)
    (mixing,) = method.regions(images)
    method.config = replace(method.config, inference_masks="responsibilities")
    (pooled,) = method.regions(images)
    assert not torch.equal(pooled.pi, mixing.pi)
    assert torch.equal(pooled.content_fg, mixing.content_fg)
    assert torch.equal(pooled.content_bg, mixing.content_bg)
    method.config = replace(method.config, inference_batch_size=1)
    one_by_one = torch.cat([regions.pi for regions in method.regions(images)])
    torch.testing.assert_close(one_by_one, pooled.pi)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_they_go_by_the_likelihood_of_the_training(norm: str, run: Path) -> None:
    method = DRC.load(run)
    images = np.random.default_rng(5).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    method.config = replace(method.config, likelihood=norm)
    (plain,) = method.regions(images)
    method.config = replace(method.config, inference_masks="responsibilities")
    (pooled,) = method.regions(images)
    expected = pooled_responsibilities([plain], to_signed(images, "cpu"), norm)
    torch.testing.assert_close(pooled.pi, expected)


def test_a_sheet_has_each_picture_under_its_own_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[bytes, str]] = []
    draw = extraction.sheet

    def noting(columns: Sequence[Image.Image], names: Sequence[str]) -> Image.Image:
        drawn.extend((column.tobytes(), name) for column, name in zip(columns, names, strict=True))
        return draw(columns, names)

    monkeypatch.setattr(extraction, "sheet", noting)
    photos = write_pictures(tmp_path / "photos", 3)
    assert call("segment", photos, "--checkpoint", run, "--out", tmp_path / "out").exit_code == 0
    assert len(drawn) == 3
    for pixels, name in drawn:
        with Image.open(tmp_path / "out" / "panels" / f"{name}.png") as panels:
            assert panels.tobytes() == pixels


def test_segment_takes_them_by_name(run: Path, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", 2)
    words = ("segment", photos, "--checkpoint", run, "--out")
    assert call(*words, tmp_path / "pi").exit_code == 0
    assert call(*words, tmp_path / "gamma", "--masks", "responsibilities").exit_code == 0
    panels = [sorted((tmp_path / out / "panels").iterdir()) for out in ("pi", "gamma")]
    assert [file.name for file in panels[0]] == [file.name for file in panels[1]]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(*panels, strict=True))
    mixed = call(*words, tmp_path / "pi", "--masks", "responsibilities")
    assert mixed.exit_code == 2
    assert str(tmp_path / "pi") in mixed.output


def test_a_mask_of_a_larger_size_has_its_edge_where_pi_crosses_one_half() -> None:
    square, preview = np.zeros((2, 2, 3), np.uint8), Image.new("RGB", (120, 10))
    pi = np.array([[0.1, 0.7], [0.1, 0.7]], np.float32)  # at a quarter and three quarters of the width
    found = Extraction(Picture(square, (120, 10), preview), pi, {}, 0.0)
    np.testing.assert_array_equal(found.mask(), np.broadcast_to(np.arange(120) >= 70, (10, 120)))


def test_an_overlay_outlines_the_foreground_and_darkens_the_rest() -> None:
    square, preview = np.zeros((2, 2, 3), np.uint8), Image.new("RGB", (100, 100), (200, 100, 40))
    pi = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
    shown = Extraction(Picture(square, (100, 100), preview), pi, {}, 0.0).overlay()
    assert [shown.getpixel(place) for place in ((10, 50), (90, 50))] == [(200, 100, 40), (50, 25, 10)]
    assert [shown.getpixel((x, 50)) for x in (49, 50, 51)] == [(200, 100, 40), OUTLINE, (50, 25, 10)]


def test_the_error_of_a_picture_is_its_mean_distance_from_what_was_generated(
    run: Path, tmp_path: Path
) -> None:
    method, files = DRC.load(run), sorted(write_pictures(tmp_path).iterdir())
    pictures = [open_picture(file, 16) for file in files]
    squares = np.stack([picture.square for picture in pictures])
    (regions,) = method.regions(squares, keys=[picture.key for picture in pictures])
    distance = np.abs(regions.image.permute(0, 2, 3, 1).numpy() - (squares / 127.5 - 1))
    errors = [found.error for found in extract(method, pictures)]
    np.testing.assert_allclose(errors, distance.mean(axis=(1, 2, 3)), rtol=1e-4)


def test_a_sheet_has_rows_in_their_order_and_pictures_in_their_columns() -> None:
    shades = {name: 50 * row for row, name in enumerate(ROWS)}
    columns = [
        column({name: np.full((4, 4, 3), shade + 10 * at, np.uint8) for name, shade in shades.items()})
        for at in range(2)
    ]
    page = np.asarray(sheet(columns, ["a", "b"]))[HEAD + TILE // 2 :, MARGIN + TILE // 2 :, 0]
    assert page[:: TILE + GAP, :: TILE + GAP].tolist() == [[50 * row, 50 * row + 10] for row in range(5)]


def test_every_pixel_has_a_say_in_what_the_noise_is_keyed_by() -> None:
    square = np.zeros((4, 4, 3), np.uint8)
    other = square.copy()
    other[-1, -1, -1] = 1
    preview = Image.new("RGB", (1, 1))
    assert Picture(square, (4, 4), preview).key != Picture(other, (4, 4), preview).key
