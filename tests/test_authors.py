"""The authors' processed archives: recognised by their files, complete or refused."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import authors, birds
from data_prep.build import Options
from data_prep.errors import SourceError

REAL_LAYOUTS = authors.LAYOUTS
QUIET = Options(size=32, progress=False, workers=2)
LISTS = {
    "dogs": {"train": "data_tr_sel.npy", "test": "data_te_sel.npy"},
    "cars": {"train": "data_mrcnn_train_select.npy", "test": "data_mrcnn_test_select.npy"},
}


def build(root: Path, kind: str) -> Path:
    """Six pictures a split, of which 0, 2, 5 (training) and 1, 4 (test) were kept."""
    for split, kept in (("train", [0, 2, 5]), ("test", [1, 4])):
        pictures = root / kind / "data_mrcnn" / split / "resized"
        pictures.mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (64, 64), (200, 10 * i, 0)).save(pictures / f"{i}_resized.png")
            mask = np.zeros((64, 64), np.uint8)
            mask[: 8 * (i + 1)] = 255
            Image.fromarray(mask).save(pictures / f"{i}_maskresized.png")
        np.save(root / kind / LISTS[kind][split], np.array(kept))
    return root / kind


@pytest.fixture(autouse=True)
def small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' lists with three and two entries in place of thousands."""
    small = tuple(replace(layout, counts={"train": 3, "test": 2}) for layout in authors.LAYOUTS)
    monkeypatch.setattr(authors, "LAYOUTS", small)


def build_birds(root: Path) -> Path:
    """Three birds in CUB's layout with ReDO's split file."""
    for folder in ("images/001.Bird", "segmentations/001.Bird"):
        (root / "birds" / folder).mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (40, 30), "blue").save(root / "birds" / "images" / "001.Bird" / f"{i}.jpg")
        Image.new("L", (40, 30), 100).save(root / "birds" / "segmentations" / "001.Bird" / f"{i}.png")
    for name, line in (
        ("images", "{} 001.Bird/{}.jpg"), ("bounding_boxes", "{} 5 5 20 20"), (birds.SPLIT_FILE[:-4], "{} {}"),
    ):  # fmt: skip
        text = "".join(line.format(i, i) + "\n" for i in range(3))
        (root / "birds" / f"{name}.txt").write_text(text)
    return root / "birds"


def test_birds_are_complete_with_their_split_and_dithered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build_birds(tmp_path)
    with pytest.raises(SourceError, match=r"names 3 birds where the authors had 11,788"):
        authors.prepare(root, tmp_path / "out", QUIET)
    monkeypatch.setattr(birds, "TOTAL", 3)
    monkeypatch.setattr(birds, "REDO_COUNTS", {"train": 1, "val": 1, "test": 1})
    dataset = authors.prepare(root, tmp_path / "out", QUIET)
    assert (dataset.name, dataset.manifest["counts"]) == ("birds-authors", {"train": 1, "val": 1, "test": 1})
    assert 0.2 < dataset.masks.mean() < 0.6  # grey 100 of 255: a threshold at 127 would leave nothing
    (root / birds.SPLIT_FILE).unlink()
    with pytest.raises(SourceError, match=f"{birds.SPLIT_FILE} is missing"):
        authors.prepare(root, tmp_path / "again", QUIET)


def test_the_authors_sets_are_whole_or_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = build_birds(tmp_path)
    monkeypatch.setattr(birds, "TOTAL", 3)
    monkeypatch.setattr(birds, "REDO_COUNTS", {"train": 1, "val": 1, "test": 1})
    (root / "images" / "001.Bird" / "1.jpg").rename(tmp_path / "1.jpg")
    for carefree in (False, True):
        with pytest.raises(SourceError):
            authors.prepare(root, tmp_path / "out", replace(QUIET, keep_going=carefree))
    (tmp_path / "1.jpg").rename(root / "images" / "001.Bird" / "1.jpg")
    archive = shutil.make_archive(str(tmp_path / "birds"), "zip", root)
    assert len(authors.prepare(Path(archive), tmp_path / "out", QUIET)) == 3
    assert "interrupted" not in caplog.text  # its own folder for what the archive holds


@pytest.mark.parametrize("kind", ["dogs", "cars"])
def test_kept_pictures_under_a_name_of_their_own(tmp_path: Path, kind: str) -> None:
    dataset = authors.prepare(build(tmp_path, kind), tmp_path / "out", QUIET)
    assert dataset.name == f"{kind}-authors"
    assert dataset.manifest["counts"] == {"train": 3, "test": 2}
    assert dataset.index["id"].tolist() == [
        "train-00000",
        "train-00002",
        "train-00005",
        "test-00001",
        "test-00004",
    ]
    assert dataset.images[1, 0, 0].tolist() == [200, 20, 0]
    assert (dataset.masks[2] == 1).mean() == pytest.approx(6 / 8)


def test_a_grey_of_a_mask_counts_from_the_middle_on(tmp_path: Path) -> None:
    root = build(tmp_path, "dogs")
    mask = np.repeat(np.array([[127], [128]], np.uint8), 32, axis=0).repeat(64, axis=1)
    Image.fromarray(mask).save(root / "data_mrcnn" / "train" / "resized" / "0_maskresized.png")
    dataset = authors.prepare(root, tmp_path / "out", QUIET)
    assert dataset.masks[0].mean(axis=1).tolist() == [0] * 16 + [1] * 16


def test_from_an_archive_and_from_the_folder_above(tmp_path: Path) -> None:
    root = build(tmp_path / "in", "dogs")
    with zipfile.ZipFile(tmp_path / "dogs.zip", "w") as opened:
        for file in root.rglob("*.*"):
            opened.write(file, Path("dogs") / file.relative_to(root))
    packed = authors.prepare(tmp_path / "dogs.zip", tmp_path / "packed", QUIET)
    assert packed.sha256 == authors.prepare(tmp_path / "in", tmp_path / "plain", QUIET).sha256


def test_a_folder_of_several_sets_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for kind in LISTS:
        build(root, kind)
    build_birds(root)
    names = ", ".join(rf"{kind}-authors in \S+/in/{kind}" for kind in ("birds", "cars", "dogs"))
    with pytest.raises(
        SourceError, match=rf"several of the authors' sets \({names}\); give the folder of one"
    ):
        authors.prepare(root, tmp_path / "out", QUIET)
    assert authors.prepare(root / "cars", tmp_path / "out", QUIET).name == "cars-authors"


def test_two_sets_unpacked_into_one_folder_are_refused(tmp_path: Path) -> None:
    root = build(tmp_path, "dogs")
    for file in LISTS["cars"].values():
        np.save(root / file, np.array([0, 1]))
    with pytest.raises(SourceError, match=r"dogs-authors in \S+/dogs, cars-authors in \S+/dogs"):
        authors.prepare(root, tmp_path / "out", QUIET)


def test_the_real_lists_are_long() -> None:
    dogs, cars = (layout.counts for layout in REAL_LAYOUTS)
    assert (dogs, cars) == ({"train": 3286, "test": 1738}, {"train": 6218, "test": 6104})


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([0, 2], "keeps 2 different pictures in 2 entries where the authors' list has 3"),
        ([0, 2, 2], "keeps 2 different pictures in 3 entries"),
        ([0.0, 2.0, 5.0], "not a list of whole numbers"),
        ([0, 2, 77], r"77_resized\.png is missing, and 1 more files"),
    ],
)
def test_wrong_lists(tmp_path: Path, kept: list[float], message: str) -> None:
    root = build(tmp_path, "dogs")
    np.save(root / "data_tr_sel.npy", np.array(kept))
    with pytest.raises(SourceError, match=message):
        authors.prepare(root, tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()


def test_damaged_and_missing_lists(tmp_path: Path) -> None:
    root = build(tmp_path, "dogs")
    (root / "data_te_sel.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match=r"data_te_sel\.npy is not a plain NumPy list"):
        authors.prepare(root, tmp_path / "out", QUIET)
    (root / "data_te_sel.npy").unlink()
    with pytest.raises(SourceError, match=r"data_te_sel\.npy is missing"):
        authors.prepare(root, tmp_path / "out", QUIET)
    with pytest.raises(SourceError, match="holds none of the authors' sets"):
        authors.prepare(root / "data_mrcnn", tmp_path / "out", QUIET)


def test_pickled_list_is_refused(tmp_path: Path) -> None:
    root = build(tmp_path, "cars")
    np.save(root / "data_mrcnn_test_select.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match="not a plain NumPy list"):
        authors.prepare(root, tmp_path / "out", QUIET)
