"""Anybody's own images: every crop and split, and every way two folders can disagree."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from folder_helpers import CAREFREE, LABELS, QUIET, SHARE, make_pairs, only, prepare, save_mask
from PIL import Image

from data_prep import folder
from data_prep.errors import DataPrepError, SourceError


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """See `make_pairs`."""
    return make_pairs(tmp_path)


def test_crops(pairs: Path) -> None:
    pair = folder.Pair("a", Path("a.jpg"), Path("a.png"), "train", None)
    boxed = folder.Pair("a", Path("a.jpg"), Path("a.png"), "train", (20, 10, 30, 20))
    assert folder.find_crop(pair, LABELS, folder.FolderConfig()) is None
    assert folder.find_crop(pair, LABELS, folder.FolderConfig(crop="centre")) == (20, 0, 80, 60)
    box = folder.FolderConfig(crop="box")
    assert folder.find_crop(pair, LABELS, box) == (3, 0, 100, 60)  # around both objects, clipped
    assert folder.find_crop(boxed, LABELS, box) == (13, 0, 57, 42)
    with pytest.raises(SourceError, match=r"a\.png is empty"):
        folder.find_crop(pair, np.zeros_like(LABELS), box)


def test_random_split_by_ratio_and_seed(pairs: Path) -> None:
    dataset = prepare(pairs, ratios=(80, 10, 10))
    assert dataset.manifest["counts"] == {"train": 8, "val": 1, "test": 1}
    assert dataset.manifest["settings"]["split"] == "random"
    stems = [f"{i}" for i in range(100)]
    one, other = (folder.random_split(stems, folder.FolderConfig(ratios=(1, 0, 1), seed=s)) for s in (0, 1))
    assert one != other
    assert sorted(one.values()) == ["test"] * 50 + ["train"] * 50


def test_split_lists(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a01.jpg 1 1\na03\n")
    (tmp_path / "test.txt").write_text("a05.png\n\n")
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    dataset = folder.prepare(pairs / "images", pairs / "masks", pairs / "out", options=QUIET, lists=lists)
    assert dataset.index["id"].tolist() == ["a01", "a03", "a05"]
    assert dataset.index["split"].tolist() == ["train", "train", "test"]
    assert dataset.manifest["settings"]["split"] == "lists"
    assert dataset.index["source"].tolist() == ["a01.jpg", "a03.jpg", "a05.jpg"]
    assert dataset.index["mask_file"].tolist() == ["a01.png", "a03.png", "a05.png"]
    assert dataset.index["objects"].tolist() == [int(mask.max()) for mask in dataset.masks]
    (tmp_path / "test.txt").write_text("a01\n")
    with pytest.raises(SourceError, match="a01, which is in split train already"):
        folder.read_split_lists(lists, ())


def test_a_split_that_gets_no_image_is_told(pairs: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert prepare(pairs, ratios=(98, 2, 0)).manifest["counts"] == {"train": 10}
    assert "split val is empty, though --ratios asks for it" in caplog.text
    assert "split test" not in caplog.text


@pytest.mark.parametrize("config", [{"ratios": (80, 0, 20)}, {"seed": 1}])
def test_what_makes_a_random_split_is_refused_beside_lists(pairs: Path, config: dict[str, object]) -> None:
    (pairs / "train.txt").write_text("a01")
    settings, lists = folder.FolderConfig(**config), {"train": pairs / "train.txt"}  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"--ratios and --seed .* are of no use beside lists"):
        folder.prepare(pairs / "images", pairs / "masks", pairs / "out", settings, QUIET, lists=lists)


def test_split_lists_name_any_picture(tmp_path: Path) -> None:
    names = {"a 1.bmp": "a 1", "b.TIFF": "b", "sub/c 2": "sub/c 2", "d.e 1 1": "d.e", "a 2 1": "a"}
    (tmp_path / "train.txt").write_text("\n".join(names))
    found = folder.read_split_lists({"train": tmp_path / "train.txt"}, {"a", "a 1", "b", "sub/c 2", "d.e"})
    assert list(found) == list(names.values())


def test_boxes_file(pairs: Path, tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("stem,x,y,width,height\na00,20,10,30,20\n")
    assert folder.read_boxes(file) == {"a00": (20, 10, 30, 20)}
    config = folder.FolderConfig(crop="box")
    with pytest.raises(SourceError, match="no line for a01"):
        folder.prepare(pairs / "images", pairs / "masks", pairs / "out", config, QUIET, boxes_file=file)
    for text, message in [
        ("a,b\n", "must begin with"),
        ("stem,x,y,width,height\na,1,2\n", "line 2 is not a name"),
        ("stem,x,y,width,height\n" + "a" * 200_000, r"boxes\.csv is not a CSV file"),
        ("stem,x,y,width,height\na,1,2,3,4\na,1,2,3,5\n", "line 3 is a second box of a"),
    ]:
        file.write_text(text)
        with pytest.raises(SourceError, match=message):
            folder.read_boxes(file)
    with pytest.raises(SourceError, match="add --crop box"):
        folder.prepare(pairs / "images", pairs / "masks", pairs / "out", options=QUIET, boxes_file=file)


def test_letters_with_accents_are_the_same_however_they_are_written(pairs: Path, tmp_path: Path) -> None:
    composed, apart = "café", "café"
    (pairs / "images" / "a00.jpg").rename(pairs / "images" / f"{apart}.jpg")
    (pairs / "masks" / "a00.png").rename(pairs / "masks" / f"{composed}.png")
    file = tmp_path / "only.txt"
    file.write_text(f"{apart}.jpg\n", encoding="utf-8")
    dataset = folder.prepare(pairs / "images", pairs / "masks", pairs / "out", options=QUIET, only=file)
    assert dataset.index["id"].tolist() == [composed]


def test_images_are_cut_out_around_the_boxes_that_a_file_gives(pairs: Path, tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("stem,x,y,width,height\n" + "".join(f"a{i:02d},20,10,30,20\n" for i in range(10)))
    config = folder.FolderConfig(crop="box")
    dataset = folder.prepare(pairs / "images", pairs / "masks", pairs / "out", config, QUIET, boxes_file=file)
    assert (dataset.masks > 0).mean() == pytest.approx(20 * 30 / (44 * 42), abs=0.03)


def no_mask(root: Path) -> None:
    (root / "masks/a03.png").unlink()


def no_image(root: Path) -> None:
    (root / "images/a03.jpg").unlink()


def other_size(root: Path) -> None:
    save_mask(root, Image.new("L", (60, 100)), "a03")


def broken_image(root: Path) -> None:
    file = root / "images/a03.jpg"
    file.write_bytes(file.read_bytes()[:-100])


def odd_name(root: Path) -> None:
    (root / "images/a03.jpg").rename(os.fsdecode(os.fsencode(root / "images") + b"/caf\xe9.jpg"))
    (root / "masks/a03.png").unlink()


def text_for_mask(root: Path) -> None:
    (root / "masks/a03.png").write_text("not a picture")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_mask, r"masks has no mask called a03"),
        (no_image, r"images has no image called a03"),
        (other_size, r"a03\.png is 60 x 100 pixels and its image .*a03\.jpg 100 x 60"),
        (broken_image, r"a03\.jpg is not a whole picture"),
        (odd_name, r"images has a file whose name is not UTF-8, 'caf\\udce9\.jpg'"),
        (text_for_mask, r"a03\.png is not a whole picture"),
    ],
)
def test_faulty_pairs_stop_or_are_left_out(pairs: Path, spoil, message: str) -> None:
    spoil(pairs)
    with pytest.raises(SourceError, match=message):
        prepare(pairs)
    assert not (pairs / "out").exists()
    dataset = prepare(pairs, CAREFREE)
    assert len(dataset) == 9
    assert len(dataset.manifest["skipped"]) == 1


def test_of_several_faults_the_first_are_named_and_the_others_counted(pairs: Path) -> None:
    for name in ("a01", "a02", "a03", "a04", "a05"):
        (pairs / "masks" / f"{name}.png").unlink()
    with pytest.raises(
        SourceError, match=r"called a01; .* called a02; .* called a03 \(and 2 more\); mend them"
    ):
        prepare(pairs)


def test_two_images_of_one_name(pairs: Path) -> None:
    Image.new("RGB", (4, 4)).save(pairs / "images" / "a00.png")
    with pytest.raises(SourceError, match="share a name"):
        prepare(pairs)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"mask_kind": "green"}, "no mask kind 'green'"),
        ({"crop": "oval"}, "no crop 'oval'"),
        ({"threshold": 300}, "choose 0 to 254"),
        ({"mask_kind": "labels", "invert": True}, "Only grey and alpha"),
        ({"mask_kind": "colours", "threshold": 5}, "Only grey and alpha masks have a threshold"),
        ({"foreground": (1,)}, "need label masks"),
        ({"mask_kind": "labels", "foreground": (-1,)}, "value -1 is in no mask"),
        ({"mask_kind": "labels", "foreground": (1, 0)}, "value 0 is in no mask"),
        ({"mask_kind": "labels", "foreground": (2**31,)}, "value 2147483648 is in no mask"),
        ({"ratios": (0, 0, 0)}, "not three shares"),
        ({"ratios": (float("nan"), 1, 1)}, "not three shares"),
        ({"ratios": (1, float("inf"), 1)}, "not three shares"),
        ({"name": "a/b"}, "holds a slash"),
    ],
)
def test_settings_out_of_range(bad: dict[str, object], message: str) -> None:
    with pytest.raises(DataPrepError, match=message):
        folder.FolderConfig(**bad)  # type: ignore[arg-type]


def test_16_bits_keep_their_range(pairs: Path) -> None:
    only(pairs, Image.fromarray((LABELS > 0).astype(np.uint16) * 40_000))
    ramp = np.tile(np.linspace(0, 65_535, 100).astype(np.uint16), (60, 1))
    (pairs / "images" / "a00.jpg").unlink()
    Image.fromarray(ramp).save(pairs / "images" / "a00.png")
    made = prepare(pairs)
    assert made.images[0].mean() == pytest.approx(127.5, abs=2)
    assert (made.masks[0] > 0).mean() == pytest.approx(SHARE[1] + SHARE[2], abs=0.02)


def test_pictures_that_would_be_misread_are_refused(pairs: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    for mode in ("RGB", "L"):
        Image.new(mode, (100, 60)).save(pairs / "images" / "a00.jpg", exif=turned)
        with pytest.raises(SourceError, match=r"a00\.jpg is stored turned"):
            prepare(pairs)
    (pairs / "images" / "a00.jpg").unlink()
    turned[0x0112] = 6
    Image.new("RGB", (100, 60)).save(pairs / "images" / "a00.tiff", exif=turned)
    with pytest.raises(SourceError, match=r"a00\.tiff is stored turned"):
        prepare(pairs)
    Image.fromarray(np.ones((60, 100), np.float32)).save(pairs / "images" / "a00.tiff")
    with pytest.raises(SourceError, match=r"a00\.tiff .* 32 bits a pixel"):
        prepare(pairs)


def test_a_picture_with_damaged_exif_is_named_and_can_be_left_out(pairs: Path) -> None:
    (pairs / "images" / "a00.jpg").unlink()
    Image.new("RGB", (100, 60)).save(pairs / "images" / "a00.webp", exif=b"Exif\0\0no TIFF header")
    with pytest.raises(SourceError, match=r"a00\.webp has damaged EXIF"):
        prepare(pairs)
    assert len(prepare(pairs, CAREFREE)) == 9


def test_16_bits_that_would_all_be_black_are_refused(pairs: Path) -> None:
    only(pairs, Image.fromarray((LABELS > 0).astype(np.uint16) * 255))
    with pytest.raises(SourceError, match=r"a00\.png .* no value above 256"):
        prepare(pairs)
    assert prepare(pairs, mask_kind="labels").masks[0].max() == 1


def test_black_of_16_bits_is_a_picture_where_it_was_stored_so(pairs: Path) -> None:
    file = pairs / "images" / "a00.png"
    file.with_suffix(".jpg").unlink()
    silhouette = np.zeros((60, 100, 4), np.uint16)
    silhouette[:, :50, 3] = 65535  # black on nothing, which is laid over white
    for pixels, seen in ((silhouette, {0, 255}), (silhouette[..., :3], {0})):
        assert cv2.imwrite(str(file), pixels)
        made = prepare(pairs, replace(QUIET, force=True))
        assert {0, 255} & set(np.unique(made.images[0]).tolist()) == seen


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_that_would_all_be_black_are_refused(pairs: Path, channels: int) -> None:
    file = pairs / "images" / "a00.png"
    file.with_suffix(".jpg").unlink()
    for brightest, seen in ((65535, 255), (255, None)):
        pixels = np.full((60, 100, channels), brightest, np.uint16)
        assert cv2.imwrite(str(file), pixels)
        if seen is None:
            with pytest.raises(SourceError, match=r"a00\.png .* no value above 255"):
                prepare(pairs, replace(QUIET, force=True))
        else:
            assert prepare(pairs).images[0].min() == seen


def test_a_name_that_breaks_a_line_is_refused_and_can_be_left_out(pairs: Path) -> None:
    for name, ending in (("images", "jpg"), ("masks", "png")):
        (pairs / name / f"a00.{ending}").rename(pairs / name / f"a\r00.{ending}")
    with pytest.raises(SourceError, match="name holds a control character"):
        prepare(pairs)
    dataset = prepare(pairs, CAREFREE)
    assert len(dataset.index) == len(dataset) == 9


def test_what_is_left_out_of_an_archive_is_told_by_it(pairs: Path) -> None:
    (pairs / "images" / "a00.jpg").write_bytes(b"no picture")
    shutil.make_archive(str(pairs / "images"), "zip", pairs, "images")
    made = folder.prepare(pairs / "images.zip", pairs / "masks", pairs / "zipped", None, CAREFREE)
    (skipped,) = made.manifest["skipped"]
    assert skipped["reason"].startswith(f"{pairs / 'images.zip'}: images/a00.jpg is not a whole picture")


def test_archives_as_they_are_made_of_folders(pairs: Path) -> None:
    for name in ("images", "masks"):
        shutil.make_archive(str(pairs / name), "zip", pairs, name)
    with zipfile.ZipFile(pairs / "images.zip", "a") as opened:
        opened.writestr("__MACOSX/images/._a00.jpg", b"as macOS packs them")
    made = folder.prepare(pairs / "images.zip", pairs / "masks.zip", pairs / "zipped", None, QUIET)
    assert made.index["id"].tolist() == prepare(pairs).index["id"].tolist()


def test_hidden_folders_hold_no_pictures(pairs: Path) -> None:
    shutil.copytree(pairs / "images", pairs / "images" / ".checkpoints")
    assert len(prepare(pairs)) == 10


def test_masks_of_other_names_than_the_images(pairs: Path) -> None:
    for file in (pairs / "masks").iterdir():
        file.rename(file.with_stem(f"{file.stem}_mask"))
    with pytest.raises(
        SourceError, match=r"the first image is a00\.jpg, the first mask a00_mask\.png; rename"
    ):
        prepare(pairs, CAREFREE)


def test_a_pipe_among_the_pictures_is_named_and_not_waited_for(tmp_path: Path) -> None:
    root = make_pairs(tmp_path)
    (root / "images" / "a03.jpg").unlink()
    os.mkfifo(root / "images" / "a03.jpg")
    with pytest.raises(SourceError, match=r"a03\.jpg is not a regular file"):
        prepare(root)
    assert len(prepare(root, CAREFREE).index) == 9
