"""The example of docs/add_a_dataset.md, taken from the page itself, becomes a data set like any other."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.__main__ import main as benchmarks
from benchmarks.errors import BenchmarkError
from benchmarks.own import resolve_dataset
from benchmarks.registry import DATASETS, DatasetSpec, Subset
from data_prep.__main__ import main as data_prep
from data_prep.store import DatasetWriter, PreparedDataset, open_dataset

PAGE = (Path(__file__).parents[1] / "docs" / "add_a_dataset.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PREPARE, SWEEP, NAMED = (block.splitlines() for language, block in FENCES if not language)
(ENTRY,) = (block for language, block in FENCES if language == "python")


def call(line: str, code: int = 0) -> Result:
    """Run a line of the page in this process; `code` is what it must exit with."""
    python, m, program, *words = shlex.split(line)
    assert (python, m) == ("python", "-m")
    done = CliRunner().invoke({"benchmarks": benchmarks, "data_prep": data_prep}[program], words)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Twenty photos with masks in an empty working folder: a bright square on dark noise."""
    rng = np.random.default_rng(0)
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for i in range(20):
        image, mask = rng.integers(0, 60, (80, 80, 3), np.uint8), np.zeros((80, 80), np.uint8)
        x, y = rng.integers(10, 40, 2)
        image[y : y + 30, x : x + 30] = 255, 200, 0
        mask[y : y + 30, x : x + 30] = 255
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    before = dict(DATASETS)
    yield tmp_path
    DATASETS.clear()  # what was registered meanwhile is forgotten
    DATASETS.update(before)


def test_the_pages_commands_prepare_it_and_score_it_by_its_path(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in PREPARE:
        call(line)
    prepared = open_dataset(photos / "data" / "mine")
    assert prepared.images.shape == (20, 128, 128, 3)
    assert prepared.manifest["name"] == "mine"
    assert [len(prepared.rows(split)) for split in ("train", "val", "test")] == [12, 4, 4]
    assert (photos / "mine.png").stat().st_size
    (sweep,) = SWEEP
    assert "4 computed" in call(sweep).output
    by_home = sweep.replace(" data/mine", " ~/data/mine").replace("--results mine", "--results=~/elsewhere")
    assert by_home != sweep
    monkeypatch.setenv("HOME", str(photos))  # as a shell leaves it behind a comma or a =
    assert "4 kept" in call(by_home).output
    assert (photos / "elsewhere" / "mine.csv").exists()
    scores = pd.read_csv(photos / "mine" / "mine.csv").groupby("method")["iou"].mean()
    assert scores["GrabCut"] > 90
    assert scores["all-foreground"] == pytest.approx(100 * 30**2 / 80**2, abs=1.5)


def test_the_pages_entry_gives_it_a_name(photos: Path) -> None:
    DATASETS.update(eval(f"{{{ENTRY}}}", {"DatasetSpec": DatasetSpec, "Subset": Subset}))
    (sweep,) = NAMED
    missing = call(sweep, code=1).output
    assert f"not prepared: {PREPARE[0]}" in " ".join(missing.split())
    call(PREPARE[0])
    assert "1 computed" in call(sweep).output
    assert "1 computed" in call(f"{sweep}-val".replace("--test mine", "--test mine:val")).output


@pytest.mark.usefixtures("photos")
def test_pictures_that_are_not_prepared_are_told_how() -> None:
    refused = call("python -m benchmarks sweep --methods GrabCut --test photos", code=2).output
    told = "prepare one from it with python -m data_prep folder --images photos --masks DIR --out data/photos"
    assert told in " ".join(refused.split())


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("braces", ["{x}", "{0}", "{", "{out.name}"])
def test_braces_of_its_command_are_named(braces: str) -> None:
    words = f"tool {braces} --out {{out}}"
    DATASETS["mine"] = DatasetSpec("Mine", "mine", words, None, {"test": Subset("test", "held out")})
    refused = call("python -m benchmarks sweep --methods GrabCut --test mine", code=2).output
    told = f"has prepare={words!r}, whose braces may hold out, size, count, heldout alone; others are written twice"
    assert told in " ".join(refused.split())


@pytest.mark.usefixtures("own_data_sets")
def test_images_that_are_all_trained_on_are_not_called_held_out(tmp_path: Path) -> None:
    for splits, label in ((("test",), "test, trained on at least in part"), (("train", "test"), "held out")):
        folder = tmp_path / "-".join(splits)
        with DatasetWriter(
            folder, name="mine", size=(8, 8), settings={}, licence="mine", expected=2
        ) as writer:
            for number in range(2):
                image, mask = np.full((8, 8, 3), number, np.uint8), np.eye(8, dtype=np.uint8)
                writer.add(image, mask, id=str(number), split=splits[-number], source="-")
        spec = DATASETS[resolve_dataset(str(folder), tmp_path)]
        assert spec.splits["test"].label == label
        assert spec.train == ("train" if label == "held out" else None)


@pytest.mark.usefixtures("own_data_sets")
def test_a_folder_that_no_row_can_name_is_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    folder = dataset.path.rename(tmp_path / os.fsdecode(b"mine-\xff"))
    with pytest.raises(BenchmarkError, match=r"mine-.udcff' has characters that no row can hold"):
        resolve_dataset(str(folder), tmp_path)


def test_raw_pictures_below_the_data_folder_are_not_told_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "data" / "photos").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    for raw, out in (("data/photos", "data/photos-prepared"), ("photos", "data/photos")):
        with pytest.raises(BenchmarkError, match=rf"--out {tmp_path / out}, and name that$"):
            resolve_dataset(str(tmp_path / raw), tmp_path / "data")
