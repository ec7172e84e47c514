"""The commands that measure: both sides do the same work, and what cannot be compared is said."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clevr_records import scene, write
from click.testing import CliRunner, Result
from PIL import Image

from data_prep import speed
from data_prep.__main__ import main
from data_prep.speed import Lap, Turn, median_ratio, take_turns


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["speed", *(str(arg) for arg in args)])


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """Five photos of noise in CUB's layout, boxes at the border and inside."""
    root, rng = tmp_path / "CUB_200_2011", np.random.default_rng(0)
    names = [f"00{number}.Bird/a_{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        pixels = rng.integers(256, size=(90, 70 + 20 * number, 3), dtype=np.uint8)
        for folder, picture in (("images", pixels), ("segmentations", pixels[..., 0])):
            file = (root / folder / name).with_suffix(".jpg" if folder == "images" else ".png")
            file.parent.mkdir(parents=True)
            Image.fromarray(picture).save(file)
    (root / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names)))
    (root / "bounding_boxes.txt").write_text(
        "".join(f"{i} {i * 9}.0 {i * 5}.0 50.0 60.0\n" for i in range(5))
    )
    return root


def test_birds_beside_a_plain_loop(cub: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    args = ("birds", "--root", cub, "--segmentations", cub / "segmentations", "--rounds", "3", "--size", "32")
    result = call(*args, "--work", work)
    assert result.exit_code == 0, result.output
    ratios = [float(found) for found in re.findall(r"round \d: .* ratio (\d+\.\d+)", result.output)]
    assert len(ratios) == 3
    assert f"median ratio {sorted(ratios)[1]:.2f}; the same pixels in every round" in result.output
    assert list(work.iterdir()) == []


def test_other_pixels_are_no_comparison(cub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = speed.plain_birds

    def brighter(root: Path, segmentations: Path, out: Path, size: int) -> None:
        same(root, segmentations, out, size)
        images = np.load(out / "images.npy")
        images[0, 0, 0, 0] ^= 1
        np.save(out / "images.npy", images)

    monkeypatch.setattr(speed, "plain_birds", brighter)
    result = call("birds", "--root", cub, "--segmentations", cub / "segmentations", "--size", "32")
    assert result.exit_code == 2
    assert "The plain loop's images differ" in result.output


def test_faulty_birds_are_told(cub: Path, tmp_path: Path) -> None:
    result = call("birds", "--root", tmp_path / "none", "--segmentations", cub / "segmentations")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 3), result.output
    assert "images.txt" in result.output
    assert call("birds", "--root", cub, "--segmentations", tmp_path / "none").exit_code == 2


def test_turns_alternate_and_the_first_is_not_counted() -> None:
    calls: list[str] = []

    def spend(name: str, seconds: float) -> Lap:
        calls.append(name)
        return lap(seconds)

    turns = list(take_turns(lambda: spend("a", 1.0), lambda: spend("b", 3.0), 3))
    assert calls == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [turn.ratio for turn in turns] == [3, 3, 3]
    assert median_ratio([Turn(lap(1), lap(seconds)) for seconds in (1, 5, 2)]) == 2


def test_waiting_is_no_work() -> None:
    with Lap() as waiting:
        time.sleep(0.05)
    assert waiting.seconds >= 0.05
    assert waiting.cores < 0.5


def lap(seconds: float) -> Lap:
    made = Lap()
    made.seconds = seconds
    return made


def test_records_beside_the_tfrecord_package(tmp_path: Path) -> None:
    pytest.importorskip("tfrecord", reason="the tfrecord package is not installed")
    file = write(tmp_path / "clevr.tfrecords", *(scene(number) for number in range(2)))
    result = call("clevr6", "--tfrecords", file, "--records", "1", "--rounds", "1")
    assert result.exit_code == 0, result.output
    assert re.search(r"round 1: .* ms a record on .* tfrecord .* ratio", result.output)
    result = call("clevr6", "--tfrecords", file, "--records", "2", "--rounds", "1")
    assert (result.exit_code, "has fewer than 3 records; ask for fewer" in result.output) == (2, True)


def test_without_the_package_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [key for key in sys.modules if key.split(".")[0] == "tfrecord"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tfrecord", None)
    file = write(tmp_path / "clevr.tfrecords", scene(1))
    result = call("clevr6", "--tfrecords", file)
    assert result.exit_code == 2
    assert "pip install tfrecord" in result.output


def test_damaged_records_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "clevr.tfrecords", scene(1), scene(2))
    file.write_bytes(file.read_bytes()[:2000])
    result = call("clevr6", "--tfrecords", file, "--records", "1")
    assert result.exit_code == 2
    assert "clevr.tfrecords record 0: the file is cut short" in result.output
    assert "Traceback" not in result.output


def test_store_of_any_size(tmp_path: Path) -> None:
    result = call("store", "--count", "300", "--size", "16", "--work", tmp_path / "work")
    assert result.exit_code == 0, result.output
    found = re.search(r"opened +in ([\d.]+) ms", result.output)
    assert found is not None
    assert float(found[1]) > 0
    assert "images/s in random batches of 48" in result.output
    assert list((tmp_path / "work").iterdir()) == []
