"""python -m data_prep: what a user sees, mistakes included."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.registry import dataset_path
from data_prep import preview
from data_prep.__main__ import main
from data_prep.catalogue import CATALOGUE
from data_prep.store import open_dataset


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "set"
    result = call(
        "tm-dsprites", "--out", out, "--count", "10", "--heldout", "3", "--size", "32", "--workers", "2"
    )
    assert result.exit_code == 0, result.output
    return out


def test_generate_verify_info_preview(prepared: Path, tmp_path: Path) -> None:
    result = call("verify", prepared)
    assert result.exit_code == 0
    assert "Every file is as it was written." in result.output
    result = call("info", prepared)
    assert result.exit_code == 0
    assert "10 train + 3 test = 13" in result.output
    assert "the paper's: 20,000 train" in result.output
    assert "32 x 32 pixels" in result.output
    assert "% of an image on average" in result.output
    result = call("preview", prepared, "--out", tmp_path / "deep" / "sheet.png", "--count", "5")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "deep" / "sheet.png").size[0] > 300
    assert result.stdout == f"Written: {tmp_path / 'deep' / 'sheet.png'}\n"
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("named", ["here/set", "here/set/.", "."])
def test_a_preview_is_written_beside_the_folder(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    shutil.copytree(prepared, tmp_path / "here" / "set")
    monkeypatch.chdir(tmp_path / "here" / "set" if named == "." else tmp_path)
    result = call("preview", named, "--count", "2")
    assert result.exit_code == 0, result.output
    written = Path(result.stdout.removeprefix("Written: ").rstrip())
    assert written.resolve() == tmp_path / "here" / "set-preview.png"
    assert Image.open(written).size[0] > 300
    assert open_dataset(tmp_path / "here" / "set", verify=True).name == "tm-dsprites"


def test_preview_without_a_data_set(tmp_path: Path) -> None:
    result = call("tm-dsprites", "--preview", tmp_path / "sheet.png", "--size", "32", "--shapes", "heart")
    assert result.exit_code == 0, result.output
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


def test_outline_follows_the_objects() -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[16:80, 16:48] = 1
    mask[16:80, 48:80] = 2
    image, labels = np.split(preview.tile(np.full((96, 96, 3), 9, np.uint8), mask), 2, axis=1)
    drawn = (image == labels).all(axis=2)
    assert drawn[16:80, 47:49].all(), "where the objects meet"
    assert not drawn[20:76, 20:44].any(), "inside of one"
    assert (image[mask == 0] == 9).all()
    assert (preview.tile(np.full((96, 96, 3), 9, np.uint8), np.ones_like(mask))[:, :96] == 9).all()


def test_a_sheet_has_a_place_for_every_image() -> None:
    images = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((96, 96, 3), np.uint8)
    sheet = preview.contact_sheet(images, np.zeros((8, 96, 96), np.uint8))
    height, width = (side // n for side, n in zip(sheet.shape, (2, 6), strict=False))
    centres = sheet[height // 2 :: height, width // 4 :: width, 0]
    np.testing.assert_array_equal(centres, [[0, 1, 2, 3, 4, 5], [6, 7, 255, 255, 255, 255]])


def test_a_mistake_is_one_sentence_and_exit_code_2(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for args, words in [
        (("tm-dsprites",), "Say where to write"),
        (("tm-dsprites", "--out", prepared), "already holds a prepared data set (tm-dsprites)"),
        (("tm-dsprites", "--out", tmp_path / "file" / "x", "--size", "16"), "cannot be written"),
        (("tm-dsprites", "--out", tmp_path / "x", "--shapes", "square,star"), "There is no shape star"),
        (("tm-dsprites", "--out", tmp_path / "x", "--size", "8"), "choose 16 to 256"),
        (("tm-dsprites", "--out", tmp_path / "x", "--preview", tmp_path / "x.foo"), "no picture format"),
        (("tm-dsprites", "--out", tmp_path / "x", "--preview", tmp_path), "name it like sheet.png"),
        (("verify", tmp_path / "nothing"), "is not a folder"),
        (("info", tmp_path), "is not a prepared data set"),
        (("tm-dsprites", "--out", "."), "has no name of its own"),
        (("preview", prepared, "--out", "."), "name it like sheet.png"),
        (("preview", prepared, "--out", tmp_path / "sheet.xyz"), "no picture format"),
        (("preview", prepared, "--out", tmp_path / "file" / "sheet.png"), "cannot be written"),
    ]:
        result = call(*args)
        assert result.exit_code == 2, result.output
        assert result.output.startswith("Error: ")
        assert len(result.output.splitlines()) == 1
        assert words in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_damage_is_named_by_verify(prepared: Path, tmp_path: Path) -> None:
    for file in prepared.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray((tmp_path / "images.npy").read_bytes())
    data[5000] ^= 255
    (tmp_path / "images.npy").write_bytes(data)
    result = call("verify", tmp_path)
    assert result.exit_code == 2
    assert "images.npy changed since it was written" in result.output


def write_pairs(root: Path, count: int = 4) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for i in range(count):
        Image.new("RGB", (40, 30), (i, 0, 0)).save(root / "images" / f"{i}.png")
        mask = np.zeros((30, 40), np.uint8)
        mask[:15] = 255
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")


def test_folder_command(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    source = ["folder", "--images", tmp_path / "images", "--masks", tmp_path / "masks", "--size", "32"]
    result = call(*source, "--name", "mine", "--ratios", "50,25,25", "--out", tmp_path / "data" / "mine")
    assert result.exit_code == 0, result.output
    assert "mine, 2 train + 1 val + 1 test = 4" in result.output
    (tmp_path / "masks" / "2.png").unlink()
    result = call(*source, "--out", tmp_path / "b")
    assert result.exit_code == 2
    assert "has no mask called 2; mend it, or leave such items out with --keep-going." in result.output
    result = call(*source, "--out", tmp_path / "b", "--keep-going")
    assert result.exit_code == 0
    assert "1 item was left out; the first:" in result.output
    assert "has no mask called 2" in call("info", tmp_path / "b").output
    result = call(*source, "--out", tmp_path / "c", "--ratios", "a,b")
    assert (result.exit_code, "is not a list of numbers" in result.output) == (2, True)


def test_commands_for_raw_data_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = ("--root", tmp_path / "empty", "--out", tmp_path / "out")
    for args, words in [
        (("birds", *root, "--segmentations", tmp_path / "empty"), "has no images.txt"),
        (
            ("birds", "--root", tmp_path / "x.tgz", "--segmentations", "y", "--out", tmp_path / "o"),
            "does not exist",
        ),
        (("authors", *root), "holds none of the authors' sets"),
        (("clevr6", "--tfrecords", tmp_path / "none", "--out", tmp_path / "out"), "does not exist"),
        (("birds", *root, "--segmentations", tmp_path, "--size", "4"), "choose 16 to 1024"),
    ]:
        result = call(*args)
        assert result.exit_code == 2, result.output
        assert words in result.output
        assert len(result.output.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_status_lists_the_five_and_ones_own(prepared: Path, tmp_path: Path) -> None:
    result = call("status", "--data", tmp_path / "nothing")
    assert result.exit_code == 0
    for name in ("tm-dsprites", "birds", "dogs", "cars", "clevr6"):
        assert f"python -m data_prep {name}" in result.output
    write_pairs(tmp_path)
    own = (
        "folder",
        "--images",
        tmp_path / "images",
        "--masks",
        tmp_path / "masks",
        "--out",
        prepared.parent / "own",
    )
    assert call(*own, "--size", "16", "--name", "mine").exit_code == 0
    other = call(*own[:-1], prepared.parent / "birds-of-mine", "--size", "16")
    assert "the paper's" not in other.output
    (prepared.parent / "broken").mkdir()
    (prepared.parent / "broken" / "manifest.json").write_text("{")
    lines = call("status", "--data", prepared.parent).output.splitlines()
    assert any("prepared" in line and "10 train + 3 test = 13" in line for line in lines)
    assert not any("python -m data_prep tm-dsprites" in line for line in lines)
    assert any(line.startswith("mine") for line in lines)
    assert any(line.startswith("birds-of-mine") for line in lines)
    assert any("python -m data_prep birds" in line for line in lines)
    assert any(line.startswith("damaged") and "manifest.json" in line for line in lines)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_command_that_status_names_exists(name: str) -> None:
    words = shlex.split(CATALOGUE[name].command.format(out="somewhere"))
    assert words[:4] == ["python", "-m", "data_prep", name]
    main.commands[name].make_context(name, words[4:])


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_status_prepares_is_where_the_tables_look(name: str, tmp_path: Path) -> None:
    assert str(dataset_path(tmp_path, name, "paper")) in call("status", "--data", tmp_path).output


def test_every_help_page_shows_an_example() -> None:
    for command in [[], *([name] for name in main.commands)]:
        result = call(*command, "--help")
        assert result.exit_code == 0
        assert "python -m data_prep" in result.output.split("Example", 1)[1]


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "data_prep", "tm-dsprites", "--out", str(tmp_path / "set")]
    done = subprocess.run(
        [*command, "--count", "40", "--heldout", "0", "--size", "16"],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "image/s" in done.stderr
    assert "40 train" in done.stdout
    assert (
        open_dataset(tmp_path / "set", verify=True)
        .manifest["command"]
        .startswith("python -m data_prep tm-dsprites")
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process at once")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_leaves_nothing_half_made(tmp_path: Path, number: int) -> None:
    # A shell's background job ignores SIGINT, and so would what it starts.
    code = (
        f"import signal; signal.signal({int(number)}, signal.default_int_handler)\n"
        "from data_prep.__main__ import main; main()"
    )
    words = ["tm-dsprites", "--out", str(tmp_path / "set"), "--size", "16", "--count", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while running.poll() is None and not list(tmp_path.glob(".set.partial-*/index.csv")):
            time.sleep(0.05)
        running.send_signal(number)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert said.endswith("\nStopped; nothing half-made is left: run the same command again.\n")
    assert list(tmp_path.iterdir()) == []


def test_the_commands_of_status_can_be_pasted(tmp_path: Path) -> None:
    lines = call("status", "--data", tmp_path / "my data").output.splitlines()
    (birds,) = (line.partition("   (")[0] for line in lines if "data_prep birds" in line)
    assert shlex.split(birds)[-2:] == ["--out", str(tmp_path / "my data" / "birds")]


def test_a_path_that_the_system_refuses_is_one_sentence() -> None:
    result = call("info", "x" * 300)
    assert result.exit_code == 2
    assert "cannot be used: File name too long." in result.output
    assert "Traceback" not in result.output


def test_a_name_that_looks_like_mathematics_is_a_title(prepared: Path, tmp_path: Path) -> None:
    made = open_dataset(prepared)
    preview.write_sheet(tmp_path / "a.png", made.images[:2], made.masks[:2], np.full(2, 0.5), "cash $\\foo$")
    assert (tmp_path / "a.png").is_file()


def test_a_path_is_not_empty_and_may_begin_at_the_home(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(prepared.parent))
    assert call("verify", f"~/{prepared.name}").exit_code == 0
    assert "the path is empty" in call("verify", "").output
