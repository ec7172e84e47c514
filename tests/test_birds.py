"""CUB-200-2011: crops, masks, splits and every fault of its files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import birds
from data_prep.build import Options
from data_prep.errors import DataPrepError, ItemError, SourceError
from data_prep.pictures import square_around

QUIET = Options(size=32, progress=False, workers=2)
CAREFREE = Options(size=32, progress=False, workers=2, keep_going=True)


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """Six birds, white discs on blue, in CUB's own layout."""
    root = tmp_path / "CUB_200_2011"
    lines: dict[str, list[str]] = {"images": [], "bounding_boxes": [], "train_val_test_split": []}
    for number in range(1, 7):
        name = f"00{1 + number // 4}.Bird/bird_{number}.jpg"
        for folder in ("images", "segmentations"):
            (tmp_path / "CUB_200_2011" / folder / name).parent.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[:80, :120]
        disc = (x - 60) ** 2 + (y - 40) ** 2 < 20**2
        pixels = np.where(disc[:, :, None], 255, np.array([0, 0, 200])).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / name, quality=95)
        grey = np.where(disc, 204, 51).astype(np.uint8)
        Image.fromarray(grey).save((root / "segmentations" / name).with_suffix(".png"))
        lines["images"].append(f"{number} {name}")
        lines["bounding_boxes"].append(f"{number} 40.0 20.0 40.0 40.0")
        lines["train_val_test_split"].append(f"{number} {[0, 0, 0, 0, 1, 2][number - 1]}")
    for name, text in lines.items():
        (root / f"{name}.txt").write_text("\n".join(text) + "\n")
    return root


def prepare(cub: Path, options: Options = QUIET, **kwargs: object):
    return birds.prepare(cub, cub / "segmentations", cub.parent / "out", options=options, **kwargs)


def test_square_crop_is_clipped_to_the_image() -> None:
    assert square_around((40, 20, 40, 40), (120, 80), file=Path("a.jpg")) == (30, 10, 90, 70)
    assert square_around((0, 0, 100, 50), (120, 80), file=Path("a.jpg")) == (0, 0, 120, 80)
    assert square_around((10, 20, 11, 20), (120, 80), file=Path("a.jpg")) == (0, 15, 30, 45)


def test_the_bird_whose_box_passes_the_edge(cub: Path) -> None:
    """Image 1218 of the publisher's files: centre (312, 202), half-side 330, so the whole image is kept."""
    size = (500, 410)
    assert square_around((92, 51, 440, 303), size, file=Path("a.jpg")) == (0, 0, *size)
    set_box(cub, "92.0 51.0 440.0 303.0")
    Image.new("RGB", size).save(cub / "images/001.Bird/bird_2.jpg")
    mask = np.zeros((410, 500), np.uint8)
    mask[:, 375:] = 255
    Image.fromarray(mask).save(cub / "segmentations/001.Bird/bird_2.png")
    dataset = prepare(cub)
    assert len(dataset) == 6
    assert dataset.masks[1].any(axis=0).tolist() == [False] * 24 + [True] * 8


def test_every_box_of_the_publisher_is_taken(shared: Path) -> None:
    """None of CUB's photos is wider or higher than 500 pixels; a box may begin at 1 and so pass the edge by one."""
    boxes = birds.read_boxes(shared / "data/cub_metadata_full/CUB_200_2011/bounding_boxes.txt")
    assert len(boxes) == birds.TOTAL
    beyond = []
    for key, box in boxes.items():
        assert box is not None
        left, top, right, bottom = square_around(box, (500, 500), file=Path(key))
        assert 0 <= left < right <= 500
        assert 0 <= top < bottom <= 500
        if max(box[0] + box[2], box[1] + box[3]) > 501:
            beyond.append(key)
    assert beyond == ["1218"]


@pytest.mark.parametrize("place", range(4))
def test_a_box_that_is_no_number_is_a_fault(place: int) -> None:
    box = [10.0, 10.0, 20.0, 20.0]
    for value in (float("nan"), float("inf")):
        box[place] = value
        with pytest.raises(ItemError, match=r"a\.jpg"):
            square_around(tuple(box), (120, 80), file=Path("a.jpg"))  # type: ignore[arg-type]


def test_whole_preparation(cub: Path) -> None:
    dataset = prepare(cub)
    assert dataset.name == "birds"
    assert dataset.manifest["counts"] == {"train": 4, "val": 1, "test": 1}
    assert dataset.index["split"].tolist() == [*["train"] * 4, "val", "test"]
    assert dataset.index["source"].iloc[5] == "002.Bird/bird_6.jpg"
    share = (dataset.masks[0] > 0).mean()
    assert share == pytest.approx(np.pi * 20**2 / 60**2, abs=0.03)
    assert dataset.images[0, 16, 16].min() > 240
    assert dataset.images[0, 2, 2].tolist()[2] > 150 > dataset.images[0, 2, 2].tolist()[0]
    assert [file.name for file in cub.parent.iterdir() if file.name.startswith(".")] == []


def test_from_the_archives(cub: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "CUB_200_2011.tgz", "w:gz") as tar:
        tar.add(cub, "CUB_200_2011", filter=lambda info: None if "segmentations" in info.name else info)
    with tarfile.open(tmp_path / "segmentations.tgz", "w:gz") as tar:
        tar.add(cub / "segmentations", "segmentations")
    archives = tmp_path / "CUB_200_2011.tgz", tmp_path / "segmentations.tgz"
    packed = birds.prepare(*archives, tmp_path / "packed", options=QUIET)
    assert packed.sha256 == prepare(cub).sha256
    assert not list(tmp_path.glob(".*"))


def test_dithered_masks_are_noisy_and_named_so(cub: Path) -> None:
    dataset = prepare(cub, config=birds.BirdsConfig("dithered"))
    assert dataset.name == "birds-dithered"
    assert dataset.manifest["settings"]["mask_rule"] == "dithered"
    centre, corner = dataset.masks[0, 12:20, 12:20], dataset.masks[:, :4, :4]
    assert 0.5 < centre.mean() < 1  # grey 204 comes out about 80 % foreground
    assert 0 < corner.mean() < 0.5  # grey 51 about 20 %


def test_segmentations_without_a_bird_are_refused(cub: Path) -> None:
    for file in (cub / "segmentations").glob("*/*.png"):
        Image.new("L", (120, 80)).save(file)
    with pytest.raises(SourceError, match=r"6 of 6 masks hold no foreground.* which the command expects"):
        prepare(cub)


def test_split_made_here_has_redos_proportions() -> None:
    ids = [str(i) for i in range(1, 11_789)]
    split = birds.make_split(ids, seed=0)
    counts = {part: list(split.values()).count(part) for part in birds.REDO_COUNTS}
    assert counts == birds.REDO_COUNTS
    assert split == birds.make_split(ids, seed=0) != birds.make_split(ids, seed=1)


def test_split_file_is_checked(cub: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.txt"
    file.write_text("1 0\n2 7\n")
    with pytest.raises(SourceError, match="split code '7'"):
        birds.read_split(file, ["1", "2"])
    file.write_text("1 0\n2 1\n")
    with pytest.raises(SourceError, match="no line for image 3"):
        birds.read_split(file, ["1", "2", "3"])
    file.write_text("".join(f"{i} 0\n" for i in range(11_788)))
    with pytest.raises(SourceError, match="where ReDO's split has"):
        birds.read_split(file, ["1"])


def test_the_split_of_cub_itself_is_not_redos(cub: Path, tmp_path: Path) -> None:
    file = tmp_path / "train_test_split.txt"
    file.write_text("".join(f"{number} {number % 2}\n" for number in range(1, 7)))
    with pytest.raises(
        SourceError, match=r"train_test_split\.txt is CUB's own split.*give ReDO's train_val_test_split\.txt"
    ):
        prepare(cub, split_file=file)


def break_images_line(cub: Path) -> None:
    with (cub / "images.txt").open("a") as stream:
        stream.write("7 001.Bird/absent.jpg\n")
    with (cub / "train_val_test_split.txt").open("a") as stream:
        stream.write("7 0\n")


def break_extra_image(cub: Path) -> None:
    (cub / "images/001.Bird/stray.jpg").write_bytes((cub / "images/001.Bird/bird_1.jpg").read_bytes())


def break_stray_mask(cub: Path) -> None:
    (cub / "segmentations/001.Bird/stray.png").write_bytes(
        (cub / "segmentations/001.Bird/bird_1.png").read_bytes()
    )


def break_no_box(cub: Path) -> None:
    file = cub / "bounding_boxes.txt"
    file.write_text("".join(line for line in file.open() if not line.startswith("2 ")))


def break_missing_mask(cub: Path) -> None:
    (cub / "segmentations/001.Bird/bird_2.png").unlink()


def break_truncated(cub: Path) -> None:
    file = cub / "images/001.Bird/bird_2.jpg"
    file.write_bytes(file.read_bytes()[:-300])


def break_mask_size(cub: Path) -> None:
    Image.new("L", (10, 10)).save(cub / "segmentations/001.Bird/bird_2.png")


def set_box(cub: Path, box: str) -> None:
    file = cub / "bounding_boxes.txt"
    file.write_text(file.read_text().replace("2 40.0 20.0 40.0 40.0", f"2 {box}"))


def break_box_outside(cub: Path) -> None:
    set_box(cub, "100.0 20.0 40.0 40.0")


def break_box_empty(cub: Path) -> None:
    set_box(cub, "40.0 20.0 0.0 40.0")


def break_box_words(cub: Path) -> None:
    set_box(cub, "wide 20.0 40.0 40.0")


def break_box_of_three(cub: Path) -> None:
    set_box(cub, "40.0 20.0 40.0")


def break_box_of_five(cub: Path) -> None:
    set_box(cub, "40.0 20.0 40.0 40.0 40.0")


NO_BOX = r"bounding_boxes\.txt has no four numbers for image 2 \(001\.Bird/bird_2\.jpg\)"


@pytest.mark.parametrize(
    ("spoil", "message", "left"),
    [
        (break_images_line, r"images\.txt names 001\.Bird/absent\.jpg, which .*images does not hold", 6),
        (break_extra_image, r"stray\.jpg is not listed", 6),
        (break_stray_mask, r"stray\.png is the mask of no image", 6),
        (break_no_box, r"bounding_boxes\.txt has no line for image 2 \(001\.Bird/bird_2\.jpg\)", 5),
        (break_missing_mask, r"has no 001\.Bird/bird_2\.png", 5),
        (break_truncated, r"bird_2\.jpg is not a whole picture \(image file is truncated", 5),
        (break_mask_size, r"bird_2\.png is 10 x 10 pixels and its image .*bird_2\.jpg 120 x 80", 5),
        (break_box_outside, r"bird_2\.jpg: the box \(100\.0, .* leads outside the image", 5),
        (break_box_empty, r"bird_2\.jpg: the box .* has no area", 5),
        (break_box_words, NO_BOX, 5),
        (break_box_of_three, NO_BOX, 5),
        (break_box_of_five, NO_BOX, 5),
    ],
)
def test_faulty_items_stop_or_are_left_out(cub: Path, spoil, message: str, left: int) -> None:
    spoil(cub)
    with pytest.raises(SourceError, match=message) as caught:
        prepare(cub)
    assert "--keep-going" in str(caught.value)
    assert not (cub.parent / "out").exists()
    dataset = prepare(cub, CAREFREE)
    assert len(dataset) == left
    assert len(dataset.manifest["skipped"]) == 1
    dataset.verify()


def test_damaged_text_files(cub: Path) -> None:
    file = cub / "images.txt"
    good = file.read_bytes()
    for data, message in [
        (good + b"8 caf\xe9.jpg\n", "not UTF-8"),
        (good + b"8\n", "line 7 has 1 values where 2"),
        (good + b"1 again.jpg\n", "names 1 a second time"),
    ]:
        file.write_bytes(data)
        with pytest.raises(SourceError, match=message):
            prepare(cub)
    file.write_bytes(good)
    boxes = cub / "bounding_boxes.txt"
    boxes.write_text(boxes.read_text().replace("2 40.0", "2 wide"))
    with pytest.raises(SourceError, match="no four numbers for image 2"):
        prepare(cub)
    boxes.unlink()
    with pytest.raises(SourceError, match=r"bounding_boxes\.txt is missing"):
        prepare(cub)


def test_unknown_rule_and_wrong_folder(cub: Path, tmp_path: Path) -> None:
    with pytest.raises(DataPrepError, match="no mask rule 'fuzzy'"):
        birds.BirdsConfig("fuzzy")
    with pytest.raises(SourceError, match=r"has no images\.txt"):
        birds.prepare(cub / "images", cub / "segmentations", tmp_path / "x", options=QUIET)


def test_content_does_not_depend_on_workers(cub: Path, tmp_path: Path) -> None:
    one = birds.prepare(
        cub, cub / "segmentations", tmp_path / "one", options=Options(size=32, workers=1, progress=False)
    )
    assert one.sha256 == prepare(cub).sha256


def test_redos_split_in_full(shared: Path) -> None:
    meta = shared / "data/cub_metadata_full"
    ids = [line.split()[0] for line in (meta / "CUB_200_2011/images.txt").read_text().splitlines()]
    split = birds.read_split(meta / "redo/train_val_test_split.txt", ids)
    assert {part: list(split.values()).count(part) for part in birds.REDO_COUNTS} == birds.REDO_COUNTS


def test_item_errors_are_source_errors() -> None:
    assert issubclass(ItemError, SourceError)
