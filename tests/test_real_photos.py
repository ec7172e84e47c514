"""Every photo of the shared samples through the command a user would type; the figures are those of the samples.

No samples of dogs and cars come with masks, so a stand-in takes the place of Mask R-CNN.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner
from fake_annotator import CentralThing, ellipse
from PIL import Image

from data_prep import annotators, cars
from data_prep.__main__ import main
from data_prep.store import PreparedDataset, open_dataset


def run(*args: str | Path) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.output


def check_contents(dataset: PreparedDataset, count: int) -> None:
    """All images are there and are photos and not blanks, and all but a few have a mask."""
    dataset.verify()
    assert len(dataset) == count
    assert dataset.images[:].std(axis=(1, 2, 3)).min() > 3
    assert (dataset.masks[:] > 0).any(axis=(1, 2)).mean() > 0.98


@pytest.fixture(scope="module", autouse=True)
def central_things() -> Iterator[None]:
    """Annotators that find one dog, or one car, in the middle of every photo."""
    with pytest.MonkeyPatch.context() as patch:
        for category in ("dog", "car"):
            stand_in = CentralThing(category)
            patch.setitem(annotators.ANNOTATORS, f"central-{category}", lambda *_, it=stand_in, **__: it)
        yield


# --- dogs and cars ---------------------------------------------------------------------------------------------


def write_cars(root: Path, photos: list[Path], classes: dict[str, str]) -> None:
    """The publisher's layout: every second photo is a test image, and each box is the whole photo."""
    (root / "devkit").mkdir(parents=True)
    for number, split in enumerate(("train", "test")):
        part = photos[number::2]
        (root / f"cars_{split}").mkdir()
        rows = np.empty((1, len(part)), dtype=[(key, object) for key in (*cars.BOX, "class", "fname")])
        for row, photo in zip(rows[0], part, strict=True):
            (root / f"cars_{split}" / photo.name).symlink_to(photo)
            with Image.open(photo) as opened:
                corners = (1, 1, *opened.size)
            for key, value in zip(cars.BOX, corners, strict=True):
                row[key] = value
            row["class"], row["fname"] = int(classes[photo.name]), photo.name
        scipy.io.savemat(root / "devkit" / f"cars_{split}_annos.mat", {"annotations": rows})


@pytest.mark.parametrize("form", ["cars_train_bboxcrop_BGRswapped", "cars_train_128x96_uncropped"])
def test_all_cars(shared: Path, tmp_path: Path, form: str) -> None:
    data = shared / "data/stanford_cars"
    with (data / "subset_annos.csv").open(newline="") as stream:
        classes = {row["fname"]: row["class"] for row in csv.DictReader(stream)}
    photos = sorted((data / form).glob("*.jpg"))
    write_cars(tmp_path / "root", photos, classes)
    out = tmp_path / "cars"
    said = run(
        "cars", "--root", tmp_path / "root", "--out", out, "--annotator", "central-car", "--size", "32"
    )
    assert "cars-remade, 196 train + 196 test = 392" in said
    assert "kept       196  train; the paper's 6,218 (-6,022)" in said
    dataset = open_dataset(out)
    check_contents(dataset, 392)
    assert (
        dataset.index["class"].astype(str) == [classes[Path(name).name] for name in dataset.index["id"]]
    ).all()
    assert len(set(dataset.index["class"])) == 196


def test_the_whole_devkit_is_read(shared: Path) -> None:
    devkit = shared / "data/stanford_cars/devkit"
    train = cars.read_boxes(devkit / "cars_train_annos.mat")
    assert train[0] == ("00001.jpg", "14", (38, 115, 531, 260))
    assert (len(train), len(cars.read_boxes(devkit / "cars_test_annos.mat"))) == (8144, 8041)


def test_all_dogs(shared: Path, tmp_path: Path) -> None:
    """The photos stand in for the first image of their breed in the real list."""
    data = shared / "data"
    listed = [line.split()[1] for line in (data / "stanford_dogs_boxes/images.txt").read_text().splitlines()]
    first = {name.split("-")[0]: name for name in reversed(listed)}
    root, names = tmp_path / "root", []
    for photo in sorted((data / "imagenet_sample_dogs").glob("*.JPEG")):
        name = first[photo.name.split("_")[0]]
        names.append(name)
        for folder in ("Images", "Annotation"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "Images" / name).symlink_to(photo)
        with Image.open(photo) as opened:
            width, height = opened.size
        (root / "Annotation" / name).with_suffix("").write_text(
            f"<annotation><object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{width}</xmax>"
            f"<ymax>{height}</ymax></bndbox></object></annotation>"
        )
    for split, part in (("train", names[:54]), ("test", names[54:])):
        scipy.io.savemat(root / f"{split}_list.mat", {"file_list": np.array(part, dtype=object)[:, None]})
    out = tmp_path / "dogs"
    said = run("dogs", "--root", root, "--out", out, "--annotator", "central-dog", "--size", "32")
    assert "dogs-remade, 54 train + 27 test = 81" in said
    dataset = open_dataset(out)
    check_contents(dataset, 81)
    assert dataset.index["id"].tolist() == names
    run("preview", out, "--out", tmp_path / "sheet.png", "--count", "12")
    assert Image.open(tmp_path / "sheet.png").size[0] > 300


def test_the_stand_in_is_cut_out_where_it_was_found(shared: Path, tmp_path: Path) -> None:
    """The square around a box is clipped to the photo, so a box of the whole photo keeps the whole photo."""
    data = shared / "data/stanford_cars"
    photo = sorted((data / "cars_train_bboxcrop_BGRswapped").glob("*.jpg"))[0]
    write_cars(tmp_path / "root", [photo, photo], {photo.name: "1"})
    run("cars", "--root", tmp_path / "root", "--out", tmp_path / "set", "--annotator", "central-car")
    found = open_dataset(tmp_path / "set").masks[0]
    assert (found != ellipse(128, 128)).mean() < 0.02


# --- birds -----------------------------------------------------------------------------------------------------


def test_full_lists_of_birds_with_the_photos_at_hand(shared: Path, tmp_path: Path) -> None:
    """All 11,788 lines and ReDO's split, with the 340 photos at hand: the rest is left out, listed by name."""
    data = shared / "data"
    root = tmp_path / "CUB_200_2011"
    root.mkdir()
    (root / "images").symlink_to(data / "cub_images/CUB_200_2011/images")
    for name in ("images.txt", "bounding_boxes.txt"):
        (root / name).symlink_to(data / "cub_metadata_full/CUB_200_2011" / name)
    said = run(
        *("birds", "--root", root, "--segmentations", data / "cub_images/segmentations_isnet"),
        *("--split-file", data / "cub_metadata_full/redo/train_val_test_split.txt"),
        *("--name", "birds-340-pseudo", "--size", "32", "--keep-going", "--out", tmp_path / "birds"),
    )
    assert "birds-340-pseudo, 264 train + 29 val + 47 test = 340" in said
    assert "11448 items were left out" in said
    dataset = open_dataset(tmp_path / "birds")
    check_contents(dataset, 340)
    assert (dataset.masks[:] > 0).mean() == pytest.approx(0.207, abs=0.005)
    assert len({item["item"] for item in dataset.manifest["skipped"]}) == 11_448


# --- folders ---------------------------------------------------------------------------------------------------


def test_genuine_dsprites(shared: Path, tmp_path: Path) -> None:
    frames = np.load(shared / "data/dsprites_gif/frames.npz", allow_pickle=False)["imgs"]
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(255 * frame).save(tmp_path / "frames" / f"{number:03d}.png")
    source = ("folder", "--images", tmp_path / "frames", "--masks", tmp_path / "frames")
    run(*source, "--name", "dsprites", "--size", "64", "--out", tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    check_contents(dataset, 320)
    np.testing.assert_array_equal(dataset.masks[:], frames)


def test_clevr_renders_with_a_disc_for_each_object(shared: Path, tmp_path: Path) -> None:
    data = shared / "data/clevr_rendered"
    (tmp_path / "masks").mkdir()
    counts = []
    y, x = np.mgrid[:240, :320]
    for file in sorted((data / "scenes").glob("*.json")):
        objects = json.loads(file.read_text())["objects"]
        labels = np.zeros((240, 320), np.uint8)
        for number, found in enumerate(objects, start=1):
            column, row, _ = found["pixel_coords"]
            labels[(x - column) ** 2 + (y - row) ** 2 < 36] = number
        counts.append(int(labels.max()))
        Image.fromarray(labels).save(tmp_path / "masks" / f"{file.stem}.png")
    source = ("folder", "--images", data / "images", "--masks", tmp_path / "masks", "--mask-kind", "labels")
    run(*source, "--out", tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    check_contents(dataset, 10)
    assert dataset.index["objects"].tolist() == counts == [7, 3, 7, 5, 5, 6, 5, 3, 10, 5]


@pytest.mark.parametrize(
    ("images", "masks", "options", "count", "share"),
    [
        ("ecssd/images", "ecssd/ground_truth_mask", (), 334, 0.23),
        (
            "oxford_iiit_pet/images",
            "oxford_iiit_pet/annotations/trimaps",
            ("--mask-kind", "labels", "--foreground", "1", "--crop", "centre"),
            240,
            0.37,
        ),
        ("coco_mval/img", "coco_mval/gt", ("--crop", "box"), 39, 0.28),
    ],
)
def test_real_masks(
    shared: Path, tmp_path: Path, images: str, masks: str, options: tuple[str, ...], count: int, share: float
) -> None:
    data = shared / "data"
    source = ("folder", "--images", data / images, "--masks", data / masks, *options)
    run(*source, "--size", "32", "--out", tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    check_contents(dataset, count)
    assert dataset.manifest["skipped"] == []
    assert (dataset.masks[:] > 0).mean() == pytest.approx(share, abs=0.05)
