"""Every kind of mask that anybody draws, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_helpers import LABELS, SHARE, make_pairs, only, prepare, save_mask
from PIL import ExifTags, Image

from data_prep.errors import ItemError, SourceError
from data_prep.pictures import check_upright


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """See `make_pairs`."""
    return make_pairs(tmp_path)


def palette_picture() -> Image.Image:
    picture = Image.fromarray(LABELS)
    picture.putpalette([0, 0, 0, 250, 10, 10, 10, 250, 10])
    return picture


def with_alpha() -> Image.Image:
    picture = Image.new("RGBA", (100, 60), (255, 255, 255, 255))
    picture.putalpha(Image.fromarray((LABELS > 0).astype(np.uint8) * 255))
    return picture


def transparent_number() -> Image.Image:
    """A palette all white, of which number 0 is transparent."""
    picture = Image.fromarray(LABELS)
    picture.putpalette([255] * 9)
    picture.info["transparency"] = 0
    return picture


def coloured() -> Image.Image:
    return Image.fromarray(np.array([(0, 0, 0), (9, 200, 0), (200, 0, 9)], np.uint8)[LABELS])


def in_one_channel(channel: int) -> Image.Image:
    """Two shades of red, green or blue on black."""
    shades = np.array([0, 9, 200], np.uint8)[LABELS]
    return Image.fromarray(shades[..., None] * np.eye(3, dtype=np.uint8)[channel])


def coloured_where_opaque() -> Image.Image:
    """Two colours, and under what is transparent a third."""
    picture = Image.fromarray(np.array([(9, 9, 200), (9, 200, 0), (200, 0, 9)], np.uint8)[LABELS])
    picture.putalpha(Image.fromarray(np.array([0, 255, 255], np.uint8)[LABELS]))
    return picture


@pytest.mark.parametrize(
    ("mask", "config", "objects"),
    [
        (Image.fromarray((LABELS > 0).astype(np.uint8) * 200), {}, 1),
        (Image.fromarray((LABELS > 0).astype(np.uint8) * 200).convert("RGBA"), {}, 1),  # opaque all over
        (Image.fromarray((LABELS == 0).astype(np.uint8) * 200), {"invert": True}, 1),
        (Image.fromarray(LABELS * 100), {"threshold": 50}, 1),
        (Image.fromarray(np.where(LABELS > 0, 128, 127).astype(np.uint8)), {}, 1),
        (Image.fromarray(LABELS > 0), {}, 1),
        (with_alpha(), {"mask_kind": "alpha"}, 1),
        (transparent_number(), {"mask_kind": "alpha"}, 1),
        (Image.fromarray(LABELS), {"mask_kind": "labels"}, 2),
        (palette_picture(), {"mask_kind": "labels"}, 2),
        (Image.fromarray(LABELS.astype(np.uint16) * 20_000), {"mask_kind": "labels"}, 2),
        (coloured(), {"mask_kind": "colours"}, 2),
        (coloured_where_opaque(), {"mask_kind": "colours"}, 2),
        *((in_one_channel(channel), {"mask_kind": "colours"}, 2) for channel in range(3)),
    ],
)
def test_kinds_of_mask(pairs: Path, mask: Image.Image, config: dict[str, object], objects: int) -> None:
    dataset = prepare(only(pairs, mask), **config)
    assert np.unique(dataset.masks[0]).tolist() == list(range(objects + 1))
    share = (dataset.masks[0] > 0).mean()
    assert share == pytest.approx(SHARE[1] + SHARE[2], abs=0.03)


def test_chosen_label_values_are_the_foreground(pairs: Path) -> None:
    trimap = Image.fromarray(np.choose(LABELS, [2, 1, 3]).astype(np.uint8))
    dataset = prepare(only(pairs, trimap), mask_kind="labels", foreground=(1,))
    assert (dataset.masks[0] > 0).mean() == pytest.approx(SHARE[1], abs=0.03)
    assert dataset.masks[0].max() == 1


def test_masks_of_another_kind_than_said(pairs: Path) -> None:
    with pytest.raises(SourceError, match="has no alpha channel"):
        prepare(pairs, mask_kind="alpha")
    with pytest.raises(SourceError, match="has colours"):
        prepare(only(pairs, coloured()), mask_kind="labels")
    cut_out = Image.merge(
        "LA", (Image.new("L", (100, 60), 255), Image.fromarray((LABELS > 0).astype(np.uint8) * 255))
    )
    with pytest.raises(SourceError, match="is transparent in places; use --mask-kind alpha"):
        prepare(only(pairs, cut_out))
    with pytest.raises(SourceError, match="is transparent in places; use --mask-kind alpha"):
        prepare(only(pairs, transparent_number()))
    for mask in (coloured(), palette_picture(), in_one_channel(1)):
        with pytest.raises(SourceError, match=r"a00\.png has colours; use --mask-kind colours or labels"):
            prepare(only(pairs, mask))
    shapes = [Image.fromarray((number == LABELS).astype(np.uint8) * 255) for number in (1, 2)]
    (only(pairs, shapes[0]) / "masks" / "a00.png").unlink()
    shapes[0].save(pairs / "masks" / "a00.tif", save_all=True, append_images=shapes[1:])
    with pytest.raises(
        SourceError, match=r"a00\.tif is not a whole picture \(it holds 2 pictures; save the one"
    ):
        prepare(pairs)
    whole = (pairs / "masks" / "a00.tif").read_bytes()
    for length in range(len(whole) // 2, len(whole), 99):  # of which some end in the second picture
        (pairs / "masks" / "a00.tif").write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"a00\.tif (is not a whole picture|holds no foreground|has)"):
            prepare(pairs)
    (pairs / "masks" / "a00.tif").unlink()
    many = Image.fromarray(np.arange(6000, dtype=np.uint16).reshape(60, 100))
    with pytest.raises(SourceError, match="5999 labels and at most 255"):
        prepare(only(pairs, many), mask_kind="labels")
    with pytest.raises(SourceError, match=r"has no colours \(its mode is I;16\); use --mask-kind labels"):
        prepare(only(pairs, many), mask_kind="colours")


@pytest.mark.parametrize("kind", ["labels", "colours"])
def test_masks_that_lost_their_values_are_refused(pairs: Path, kind: str) -> None:
    (only(pairs, coloured()) / "masks" / "a00.png").unlink()
    coloured().convert("L" if kind == "labels" else "RGB").save(pairs / "masks" / "a00.jpg")
    with pytest.raises(SourceError, match=f"a00.jpg is a JPEG, which holds no exact {kind}"):
        prepare(pairs, mask_kind=kind)


def test_masks_of_0_and_1_are_not_taken_for_empty(pairs: Path) -> None:
    save_mask(pairs, Image.fromarray((LABELS > 0).astype(np.uint8)))
    for invert in (False, True):
        with pytest.raises(
            SourceError, match=r"a00\.png has no value above the threshold 127, its largest is 1"
        ):
            prepare(pairs, invert=invert)


@pytest.mark.parametrize(
    ("mask", "config", "message"),
    [
        (LABELS, {"mask_kind": "labels", "foreground": (7,)}, "foreground.* 0, 1, 2: say .* --foreground"),
        (LABELS * 0, {}, "foreground.* 0: say .* --threshold or --invert"),
        (
            np.stack(3 * [LABELS * 0], axis=2),
            {"mask_kind": "colours"},
            "foreground.* #000000: say .* --mask-kind,",
        ),
    ],
)
def test_masks_without_any_foreground_are_refused_with_their_values(
    pairs: Path, mask: np.ndarray, config: dict[str, object], message: str
) -> None:
    with pytest.raises(SourceError, match=f"1 of 1 masks hold no {message}"):
        prepare(only(pairs, Image.fromarray(mask)), **config)
    assert not (pairs / "out").exists()


def test_masks_without_foreground_or_background_are_counted(
    pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for stem, shade in (("a03", 0), ("a07", 0), ("a08", 255)):
        save_mask(pairs, Image.fromarray(LABELS * 0 + shade), stem)
    assert len(prepare(pairs)) == 10
    out = pairs / "out"
    assert caplog.messages == [
        f"{out}: 2 of 10 masks hold no foreground, the first that of a03",
        f"{out}: 1 of 10 masks hold no background, the first that of a08",
    ]


def test_a_mask_that_is_stored_turned_is_refused(pairs: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    with Image.open(pairs / "masks" / "a00.png") as mask:
        mask.save(pairs / "masks" / "a00.png", exif=turned)
    with pytest.raises(SourceError, match=r"a00\.png is stored turned"):
        prepare(pairs)


@pytest.mark.parametrize("values", [LABELS.astype(np.int32) - 1, LABELS.astype(np.float32)])
def test_labels_that_are_no_whole_numbers_from_0_are_refused(pairs: Path, values: np.ndarray) -> None:
    (only(pairs, palette_picture()) / "masks" / "a00.png").unlink()
    Image.fromarray(values).save(pairs / "masks" / "a00.tif")
    with pytest.raises(SourceError, match=r"a00\.tif has labels that are not whole numbers from 0"):
        prepare(pairs, mask_kind="labels")


@pytest.mark.parametrize("orientation", range(10))
def test_every_picture_that_is_stored_turned_is_refused(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png", exif=exif)
    if 2 <= orientation <= 8:
        with pytest.raises(ItemError, match="is stored turned"):
            check_upright(tmp_path / "a.png")
    else:
        check_upright(tmp_path / "a.png")
