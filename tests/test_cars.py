"""Cars: the devkit's own layout, its boxes, and what is wrong with either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from fake_annotator import BrightThings, picture

from data_prep import cars, pseudo
from data_prep.archives import Scratch
from data_prep.build import Options
from data_prep.errors import SourceError
from data_prep.selection import SelectionRules

QUIET = Options(size=32, progress=False, workers=2)


@pytest.fixture
def stanford_cars(tmp_path: Path) -> Path:
    """Three training and two test cars in the devkit's own layout."""
    root = tmp_path / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    for split, count in (("train", 3), ("test", 2)):
        (root / f"cars_{split}").mkdir()
        names = [f"{number:05d}.jpg" for number in range(1, count + 1)]
        for name in names:
            picture(0.97).save(root / f"cars_{split}" / name)
        fields: list[tuple[str, Any]] = [(key, object) for key in (*cars.BOX, "fname")]
        if split == "train":
            fields.insert(4, ("class", object))
        rows = np.empty((1, count), dtype=fields)
        for row, name in zip(rows[0], names, strict=True):
            for key, value in zip(cars.BOX, (46, 26, 75, 55), strict=True):
                row[key] = value
            row["fname"] = name
            if split == "train":
                row["class"] = 7
        scipy.io.savemat(root / "devkit" / f"cars_{split}_annos.mat", {"annotations": rows})
    return root


def test_a_car_with_words_for_a_box(stanford_cars: Path, tmp_path: Path) -> None:
    file = stanford_cars / "devkit" / "cars_test_annos.mat"
    rows = scipy.io.loadmat(file)["annotations"]
    rows[0, 0][cars.BOX[1]] = "wide"
    scipy.io.savemat(file, {"annotations": rows})
    with Scratch(tmp_path / "out") as scratch:
        source = cars.read(stanford_cars, scratch)
    rules, places = SelectionRules(categories=("dog",)), {"annotations": tmp_path / "a.jsonl", "batch": 2}
    message = r"cars_test_annos\.mat has a box that is not four numbers, that of 00001\.jpg; .*--keep-going"
    with pytest.raises(SourceError, match=message):
        pseudo.prepare(source, BrightThings(), rules, tmp_path / "out", QUIET, **places)
    carefree = replace(QUIET, keep_going=True)
    dataset = pseudo.prepare(source, BrightThings(), rules, tmp_path / "out", carefree, **places)
    assert dataset.manifest["counts"] == {"train": 3, "test": 1}
    assert [left_out["item"] for left_out in dataset.manifest["skipped"]] == ["00001.jpg"]


def test_a_car_that_is_named_twice(stanford_cars: Path, tmp_path: Path) -> None:
    file = stanford_cars / "devkit" / "cars_test_annos.mat"
    rows = scipy.io.loadmat(file)["annotations"]
    rows[0, 1]["fname"] = rows[0, 0]["fname"]
    scipy.io.savemat(file, {"annotations": rows})
    with (
        Scratch(tmp_path / "out") as scratch,
        pytest.raises(SourceError, match=r"cars_test_annos\.mat names 00001\.jpg twice"),
    ):
        cars.read(stanford_cars, scratch)


def test_a_car_that_is_named_and_not_there(stanford_cars: Path, tmp_path: Path) -> None:
    (stanford_cars / "cars_test" / "00002.jpg").unlink()
    with Scratch(tmp_path / "out") as scratch:
        source = cars.read(stanford_cars, scratch)
    (fault,) = source.faults
    assert fault.item == "00002.jpg"
    assert "cars_test_annos.mat names 00002.jpg, which" in fault.reason
    assert len(source.items) == 4


def test_boxes_of_cars_without_a_name(stanford_cars: Path) -> None:
    file = stanford_cars / "devkit" / "cars_test_annos.mat"
    rows = np.zeros((1, 2), dtype=[(key, object) for key in cars.BOX])
    scipy.io.savemat(file, {"annotations": rows})
    with pytest.raises(SourceError, match=r"cars_test_annos\.mat has no field fname"):
        cars.read_boxes(file)


def test_cars(stanford_cars: Path, tmp_path: Path) -> None:
    with Scratch(tmp_path / "out") as scratch:
        source = cars.read(stanford_cars, scratch)
    assert [item.box for item in source.items] == [(45, 25, 30, 30)] * 5
    assert [item.label for item in source.items] == ["7"] * 3 + [""] * 2
    rules = SelectionRules(categories=("dog",))
    dataset = pseudo.prepare(
        source, BrightThings(), rules, tmp_path / "out", QUIET, annotations=tmp_path / "a.jsonl", batch=2
    )
    assert dataset.name == "cars-remade"
    assert dataset.manifest["counts"] == {"train": 3, "test": 2}
    assert dataset.manifest["notes"]["kept_minus_paper"] == {"train": 3 - 6218, "test": 2 - 6104}
    assert cars.RULES.categories == ("car", "truck")


def test_the_index_tells_the_box_and_the_score_of_each_object(stanford_cars: Path, tmp_path: Path) -> None:
    with Scratch(tmp_path / "out") as scratch:
        source = cars.read(stanford_cars, scratch)
    source = replace(source, items=[replace(item, box=(40, 26, 36, 28)) for item in source.items])
    rules, places = SelectionRules(categories=("dog",)), {"annotations": tmp_path / "a.jsonl", "batch": 2}
    index = pseudo.prepare(source, BrightThings(), rules, tmp_path / "out", QUIET, **places).index
    assert index[["box_x", "box_y", "box_w", "box_h"]].to_numpy().tolist() == [[40, 26, 36, 28]] * 5
    assert index["score"].tolist() == pytest.approx([0.97] * 5, abs=0.02)
