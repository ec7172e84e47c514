"""python -m drc train on a folder of pictures, which has neither masks nor a manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from drc_helpers import call, make_data
from PIL import Image

from benchmarks.registry import PRESETS
from drc.config import IMAGE_SIZES
from drc.picture_folder import read_picture_folder
from drc.pictures import find_sources
from drc.prepared import DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine pictures of several sizes and formats, one of them deeper, and a text file that says it is one."""
    folder, draw = tmp_path / "photos", np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for i in range(9):
        pixels = draw.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        name = f"more/{i}.jpg" if i == 4 else f"{i}.png"
        Image.fromarray(pixels).save(folder / name)
    (folder / "text.png").write_text("no picture")
    return folder


def test_pictures_train_a_model_that_segments_them(photos: Path, tmp_path: Path) -> None:
    out = photos / "run"
    words = ("train", "--data", photos, "--out", out, "--preset", "smoke", "--device", "cpu")
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "text.png: is not a picture" in done.stderr
    assert f"{photos}: 9 pictures to train on\n" in done.stdout
    assert json.loads((out / "config.json").read_text())["settings"]["image_size"] == 16
    again = call(*words)  # the run lies among the pictures, and its samples are none of them
    assert again.exit_code == 0, again.output
    cut = call("segment", photos / "0.png", "--checkpoint", out, "--out", tmp_path / "cut")
    assert cut.exit_code == 0, cut.output
    assert Image.open(tmp_path / "cut" / "masks" / "0.png").size == (30, 20)


@pytest.mark.parametrize(
    ("size", "said"),
    [(4, "4 is not in the range 8<=x<=16384"), (20, "image_size cannot be 20; it is 8, 16, 32, ...,")],
)
def test_a_size_that_the_networks_cannot_have_is_refused_before_pictures_are_read(
    size: int, said: str, photos: Path, tmp_path: Path
) -> None:
    done = call("train", "--data", photos, "--out", tmp_path / "run", "--size", size)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "text.png" not in done.stderr


def test_what_was_made_of_pictures_is_no_picture(photos: Path, tmp_path: Path) -> None:
    train = ("train", "--data", photos, "--preset", "smoke", "--device", "cpu", "--out")
    assert call(*train, photos / "run").exit_code == 0
    cut = call("segment", photos / "more", "--checkpoint", photos / "run", "--out", photos / "cut")
    assert cut.exit_code == 0, cut.output
    assert len(read_picture_folder(photos, 8, tmp_path / "another").images) == 9


def test_a_folder_that_is_its_own_results_keeps_its_pictures_apart(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        call("train", "--data", photos, "--preset", "smoke", "--device", "cpu", "--out", run).exit_code == 0
    )
    call("segment", photos, "--checkpoint", run, "--out", photos)
    assert (photos / "masks" / "0.png").exists()
    assert len(read_picture_folder(photos, 8, None).images) == 9


def test_links_to_folders_are_followed_and_not_in_circles(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "here").symlink_to(photos)
    (photos / "more" / "back").symlink_to(tmp_path / "album")
    (photos / "twice").symlink_to(photos / "more")
    sources = find_sources([tmp_path / "album"], tmp_path / "out", {})
    assert sorted(source.name for source in sources) == [
        *(f"here/{i}" for i in range(9) if i != 4), "here/more/4", "here/text",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ['["0.png", "1.png"]', '{"name": "my photos"}', "no JSON"])
def test_a_manifest_of_another_program_is_no_data_set(photos: Path, tmp_path: Path, content: str) -> None:
    (photos / "manifest.json").write_text(content)
    done = call("train", "--data", photos, "--preset", "smoke", "--device", "cpu", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output


def test_pictures_are_taken_by_name_whatever_the_order_of_the_disk(photos: Path) -> None:
    refused: list[str] = []
    found = read_picture_folder(photos, 8, None, refused=refused.append)
    assert found.images.shape == (9, 8, 8, 3)
    assert found.images.dtype == np.uint8
    assert len(refused) == 1
    first = np.asarray(Image.open(photos / "0.png").resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found.images[0], first)
    assert found.sha256 == read_picture_folder(photos, 8, None).sha256
    (photos / "0.png").unlink()
    assert found.sha256 != read_picture_folder(photos, 8, None).sha256


@pytest.mark.parametrize("name", ["areas.csv", "progress.jsonl"])
def test_a_folder_that_is_passed_over_is_named(
    name: str, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = find_sources([photos], photos / "out", {})
    inner = photos / "measured"
    inner.mkdir()
    shutil.copy(before[0].file, inner / before[0].file.name)
    (inner / name).write_text("somebody's own table")
    assert find_sources([photos], photos / "out", {}) == before
    assert f"{inner} is passed over: it holds {name}" in caplog.text
    assert len(find_sources([photos], inner, {})) == len(before)
    assert len(find_sources([photos, inner], photos / "out", {})) == len(before) + 1
    assert caplog.text.count("passed over") == 1, "where results go, and what is named, needs no word"


def test_no_more_pictures_are_read_than_are_trained_on(photos: Path, tmp_path: Path) -> None:
    first = read_picture_folder(photos, 16, None, limit=4)
    np.testing.assert_array_equal(first.images, read_picture_folder(photos, 16, None).images[:4])
    words = ("train", "--data", photos, "--preset", "smoke", "--device", "cpu", "--out", tmp_path / "run")
    done = call(*words, "--set", "train_images=4")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "config.json").read_text())["images_sha256"] == first.sha256
    assert "refused" not in done.output  # text.png comes last by name
    assert f"{photos}: 4 pictures to train on, as many as the settings take" in done.stdout


@pytest.mark.parametrize("words", [(), ("--out", "run", "--device", "tpu")])
def test_what_is_asked_for_wrongly_is_told_before_pictures_are_read(
    words: tuple[str, ...], photos: Path
) -> None:
    done = call("train", "--data", photos, *words)
    assert done.exit_code == 2
    assert "--out" in done.output or "'tpu' is not usable here" in done.output
    assert "text.png" not in done.stderr


def test_results_among_the_pictures_are_warned_of_once(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = ("train", "--data", photos, "--preset", "smoke", "--device", "cpu", "--out", tmp_path / "run")
    assert call(*train).exit_code == 0
    for _ in range(2):
        call("segment", photos, "--checkpoint", tmp_path / "run", "--out", photos)
    assert caplog.text.count("the results will lie among them") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--split", "test"), "has no split 'test'"),
        (("--size", "20"), "20"),
    ],
)
def test_what_a_folder_of_pictures_cannot_have_is_said(
    photos: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = call("train", "--data", photos, "--out", tmp_path / "run", "--preset", "smoke", *words)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "run").exists()


def test_the_size_can_be_chosen(photos: Path, tmp_path: Path) -> None:
    words = ("train", "--data", photos, "--preset", "smoke", "--size", "8", "--device", "cpu", "--dry-run")
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "image_size = 8" in done.output


def test_a_folder_without_any_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="neither a prepared data set nor a picture"):
        read_picture_folder(tmp_path, 8, None)


def test_a_prepared_data_set_keeps_its_size(tmp_path: Path) -> None:
    words = (
        "train",
        "--data",
        make_data(tmp_path / "sprites"),
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--dry-run",
    )
    assert "prepared at 16 pixels" in call(*words, "--size", "8").output
    assert call(*words, "--size", "16").exit_code == 0


def test_budgets_are_of_one_size_here_and_in_the_tables() -> None:
    assert {name: budget.image_size for name, budget in PRESETS.items()} == IMAGE_SIZES


def test_the_count_of_pictures_never_passes_its_total(photos: Path) -> None:
    (photos / "text.png").rename(photos / "-first.png")
    counts: list[tuple[int, int]] = []
    read_picture_folder(photos, 8, None, limit=2, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(0, 2), (1, 2), (2, 2)]


def test_files_whose_names_have_no_ending_or_are_long_are_told_apart(tmp_path: Path) -> None:
    places = [
        *(Path(folder) / "a" for folder in "xyz"),
        *(Path("x") / f"{'n' * 210}{i}.png" for i in range(3)),
    ]
    for place in places:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    sources = find_sources([tmp_path / place for place in places], tmp_path / "out", {})
    assert [source.name for source in sources[:3]] == ["a", "a-2", "a-3"]
    assert len({source.name for source in sources}) == len(places)


def test_a_folder_that_is_not_there_is_named(photos: Path, tmp_path: Path) -> None:
    for data, why in ((tmp_path / "nope", "is not there"), (photos / "0.png", "is a file")):
        refused = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke")
        assert refused.exit_code == 2, refused.output
        assert f"{data.name} {why}: name a folder of pictures" in refused.output


def test_the_pictures_own_folder_is_no_place_for_a_run(photos: Path) -> None:
    before = sorted(photos.rglob("*"))
    done = call("train", "--data", photos, "--out", photos / "more" / "..", "--preset", "smoke")
    assert done.exit_code == 2
    assert "is the folder of the images themselves" in done.output
    assert sorted(photos.rglob("*")) == before
