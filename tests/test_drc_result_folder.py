"""A folder of results keeps what is in it: other people's files, other pictures' masks, and what was refused."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drc_helpers import call, make_data, make_run
from filelock import FileLock
from PIL import Image

from drc import DRC, segment
from drc.extraction import ResultFolder, segment_into
from drc.files import write_atomic, write_csv
from drc.kept import KeptChains
from drc.pictures import find_sources, known_as, open_picture


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("results") / "sprites")


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    return make_run(data, data.parent / "run")


def paint(file: Path, size: tuple[int, int] = (40, 30), shade: int = 90) -> Path:
    """A plain picture: squeezed to a square, it looks the same at any size."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 60, 30)).save(file)
    return file


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_masks_of_somebody_else_are_not_overwritten(run: Path, tmp_path: Path) -> None:
    picture, theirs = paint(tmp_path / "images" / "a.png"), paint(tmp_path / "masks" / "a.png")
    before = theirs.read_bytes()
    result = call("segment", picture.parent, "--checkpoint", run, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} holds masks that are not known" in result.output
    assert theirs.read_bytes() == before


def test_a_folder_without_a_result_takes_other_settings(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    options = ("--checkpoint", run, "--out", tmp_path / "out", "--steps")
    assert call("segment", tmp_path / "a.png", *options, 2).exit_code == 2
    assert call("segment", paint(tmp_path / "b.png"), *options, 3).exit_code == 0
    refused = call("segment", tmp_path / "b.png", *options, 4)
    assert "holds the results of another model, other settings" in refused.output


def test_a_folder_whose_name_ends_in_a_carriage_return_is_one_line_of_the_table(tmp_path: Path) -> None:
    rows = [{"file": "photos\r/a.jpg", "area": "0.5"}, {"file": "b.jpg", "area": "1"}]
    write_csv(tmp_path / "a.csv", rows[0], [row.values() for row in rows])
    assert lines(tmp_path / "a.csv") == rows


@pytest.mark.parametrize("name", ["areas.csv", "refused.csv", "contact-sheet-001.png"])
def test_files_of_somebody_else_called_like_ours_are_not_overwritten(
    name: str, run: Path, tmp_path: Path
) -> None:
    picture, theirs = paint(tmp_path / "a.png"), tmp_path / "out" / name
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    result = call("segment", picture, "--checkpoint", run, "--out", theirs.parent)
    assert result.exit_code == 2
    assert f"holds {name} that are not known to be results of this command" in " ".join(result.output.split())
    assert {file.name for file in theirs.parent.iterdir()} - {".lock"} == {name}
    assert theirs.read_text() == "theirs"


def test_a_contact_sheet_that_is_not_ours_stays(run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "out" / "contact-sheet-wedding.png"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    words = ("segment", paint(tmp_path / "a.png"), "--checkpoint", run, "--out", theirs.parent)
    assert call(*words).exit_code == 0
    assert theirs.read_text() == "theirs"


def test_one_name_in_two_working_folders_is_two_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shade, folder in enumerate(("one", "two")):
        paint(tmp_path / folder / "a.png", shade=100 * shade)
        monkeypatch.chdir(tmp_path / folder)
        assert call("segment", "a.png", "--checkpoint", run, "--out", tmp_path / "out").exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert call("segment", "one/a.png", "--checkpoint", run, "--out", "out").exit_code == 0
    table = lines(tmp_path / "out" / "areas.csv")
    assert [row["file"] for row in table] == [str(tmp_path / name / "a.png") for name in ("one", "two")]
    assert len({row["mask"] for row in table}) == 2


def test_two_at_once_in_one_folder_are_refused(run: Path, tmp_path: Path) -> None:
    picture, out = paint(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"):
        result = call("segment", picture, "--checkpoint", run, "--out", out)
    assert result.exit_code == 2
    assert f"{out} is being written by another process" in result.output


def test_a_picture_of_another_size_and_a_spoilt_result_are_done_again(run: Path, tmp_path: Path) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "out"
    for size in ((40, 30), (80, 50)):
        paint(picture, size)
        assert call("segment", picture, "--checkpoint", run, "--out", out).exit_code == 0
        with Image.open(out / "masks" / "a.png") as mask:
            assert mask.size == size
    (out / "panels" / "a.png").write_bytes(b"")
    assert call("segment", picture, "--checkpoint", run, "--out", out).exit_code == 0
    with Image.open(out / "panels" / "a.png") as panel:
        panel.verify()


def test_a_picture_that_was_edited_and_kept_its_size_is_done_again(run: Path, tmp_path: Path) -> None:
    keys = []
    for shade in (90, 200, 90):
        picture = paint(tmp_path / "a.png", shade=shade)
        assert call("segment", picture, "--checkpoint", run, "--out", tmp_path / "out").exit_code == 0
        (line,) = lines(tmp_path / "out" / "areas.csv")
        keys.append(line["key"])
    assert keys[0] == keys[2] != keys[1]


def test_a_file_that_cannot_be_written_anew_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = tmp_path / "areas.csv", Path.write_bytes
    write_atomic(file, "earlier")

    def half(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(file, "later")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("areas.csv", "earlier")]


@pytest.mark.parametrize("kind", ["masks", "overlays", "panels"])
def test_a_result_that_is_cut_short_is_done_again(kind: str, run: Path, tmp_path: Path) -> None:
    command = ("segment", paint(tmp_path / "a.png"), "--checkpoint", run, "--out", tmp_path / "out")
    assert call(*command).exit_code == 0
    result = tmp_path / "out" / kind / "a.png"
    whole = result.read_bytes()
    for length in (len(whole) // 2, len(whole) - 20):  # in the pixels, and in what ends them
        result.write_bytes(whole[:length])
        assert call(*command).exit_code == 0
        assert result.read_bytes() == whole


def test_what_was_refused_is_told_where_sheets_cannot_be_drawn(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: ResultFolder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ResultFolder, "write_sheets", fails)
    files, out = (paint(tmp_path / "a.png"), tmp_path / "b.png"), tmp_path / "out"
    assert call("segment", *files, "--checkpoint", run, "--out", out).exit_code == 2
    assert [row["file"] for row in lines(out / "refused.csv")] == [str(tmp_path / "b.png")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_and_not_waited_for(run: Path, tmp_path: Path) -> None:
    folder = paint(tmp_path / "photos" / "a.png").parent
    os.mkfifo(folder / "b.png")
    result = call("segment", folder, "--checkpoint", run, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{folder / 'b.png'}: is not a regular file" in result.output


def test_a_folder_that_cannot_be_listed_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = paint(tmp_path / "photos" / "closed" / "a.png").parent
    paint(tmp_path / "photos" / "b.png")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(os.fsdecode(path)) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    result = call("segment", tmp_path / "photos", "--checkpoint", run, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert [row["file"] for row in lines(tmp_path / "out" / "refused.csv")] == [str(closed)]
    assert len(lines(tmp_path / "out" / "areas.csv")) == 1


def test_paths_that_lead_nowhere_are_refused_and_the_rest_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paint(tmp_path / "photos" / "a.png").parent
    loop, long, closed = folder / "loop.png", tmp_path / ("x" * 300), tmp_path / "closed" / "b.png"
    loop.symlink_to(loop.name)
    stat = os.stat

    def refusing(path: Any, **options: Any) -> Any:
        if path in (closed, str(closed)):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refusing)
    result = call("segment", folder, long, closed, "--checkpoint", run, "--out", tmp_path / "out")
    assert result.exit_code == 1
    refused = [row["file"] for row in lines(tmp_path / "out" / "refused.csv")]
    assert refused == [str(loop), str(long), str(closed)]
    assert [row["file"] for row in lines(tmp_path / "out" / "areas.csv")] == [str(folder / "a.png")]


def test_a_line_with_a_file_that_cannot_be_is_no_line(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("segment", paint(tmp_path / "a.png"), "--checkpoint", run, "--out", out)
    assert call(*command).exit_code == 0
    whole = (out / "areas.csv").read_text()
    (out / "areas.csv").write_text(whole.replace("a.png", "a\0.png", 1))
    assert call(*command).exit_code == 0
    assert (out / "areas.csv").read_text() == whole


def test_names_that_are_not_unicode_are_known_again(run: Path, tmp_path: Path) -> None:
    long = tmp_path / os.fsdecode(b"\xfe" * 90)
    try:
        for shade, name in enumerate((b"\xff.png", b"\xff" * 60 + b".png")):
            paint(long / os.fsdecode(name), shade=shade)
    except OSError:
        pytest.skip("the file system takes no such names")
    command = ("segment", long, paint(tmp_path / "plain.png"), "--checkpoint", run, "--out", tmp_path / "out")
    assert call(*command).exit_code == 0
    table = lines(tmp_path / "out" / "areas.csv")
    masks = [tmp_path / "out" / row["mask"] for row in table]
    times = [mask.stat().st_mtime_ns for mask in masks]
    assert len(set(masks)) == 3
    assert call(*command).exit_code == 0
    assert lines(tmp_path / "out" / "areas.csv") == table
    assert [mask.stat().st_mtime_ns for mask in masks] == times


def test_files_that_a_table_cannot_tell_apart_do_not_share_a_name(tmp_path: Path) -> None:
    files = [tmp_path / os.fsdecode(name) for name in (b"\xff.png", rb"\udcff.png")]
    earlier = {known_as(files[0]): r"\udcff"}
    assert known_as(files[1]) in earlier
    assert {source.name for source in find_sources(files, tmp_path / "out", earlier)} == {
        r"\udcff",
        r"\udcff.png",
    }


def test_names_that_would_not_fit_get_others(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paint(folder / "x.jpg")
    paint(folder / "x.png" / "b.png")
    paint(folder / "plain.png").rename(folder / ("y" * 254))
    named = (folder, folder / ("y" * 254))
    assert call("segment", *named, "--checkpoint", run, "--out", tmp_path / "out").exit_code == 0
    table = lines(tmp_path / "out" / "areas.csv")
    assert len(table) == len({row["mask"] for row in table}) == 3
    assert all((tmp_path / "out" / row["mask"]).is_file() for row in table)


def test_the_command_and_the_class_take_the_seed_of_the_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--preset", "smoke", "--device", "cpu", "--seed", 3)
    assert call("train", "--data", data, "--out", out, *words).exit_code == 0
    rng = np.random.default_rng(0)
    picture = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(picture)
    masks = {}
    for name, seed in (("run", ()), ("own", ("--seed", 3)), ("other", ("--seed", 0))):
        call("segment", picture, "--checkpoint", out, "--out", tmp_path / name, *seed)
        with Image.open(tmp_path / name / "masks" / "a.png") as mask:
            masks[name] = np.asarray(mask) > 0
    (ours,) = DRC.load(out).segment_files([picture])
    assert np.array_equal(masks["run"], ours)
    assert np.array_equal(masks["run"], masks["own"])
    assert not np.array_equal(masks["run"], masks["other"])


def test_the_class_does_what_the_command_does(run: Path, tmp_path: Path) -> None:
    paint(tmp_path / "photos" / "deep" / "a.png")
    (tmp_path / "photos" / "b.png").write_text("no picture")
    assert call("segment", tmp_path / "photos", "--checkpoint", run, "--out", tmp_path / "cut").exit_code == 1
    assert DRC.load(run).segment_into([str(tmp_path / "photos")], tmp_path / "ours") == 1
    made = {
        folder: {
            file.relative_to(tmp_path / folder): file.read_bytes()
            for file in (tmp_path / folder).rglob("*")
            if file.is_file()
        }
        for folder in ("cut", "ours")
    }
    assert made["ours"] == made["cut"]
    assert Path("masks/deep/a.png") in made["ours"]


def test_a_batch_that_was_stopped_goes_on_with_the_chains_that_had_ended(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = find_sources([paint(tmp_path / "photos" / f"{i}.png") for i in range(3)], tmp_path / "out", {})
    method = DRC.load(run)
    method.config = replace(method.config, inference_chains=3)

    def stop(step: int, total: int) -> None:
        if 3 * step > 2 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_into(method, sources, tmp_path / "out", progress=stop)
    sampled: list[int] = []
    whole = segment.infer
    monkeypatch.setattr(segment, "infer", lambda *words: sampled.append(1) or whole(*words))
    assert segment_into(method, sources, tmp_path / "out") == 0
    assert len(sampled) == 1
    assert segment_into(method, sources, tmp_path / "new") == 0
    for i in range(3):
        mask = f"masks/{i}.png"
        assert (tmp_path / "out" / mask).read_bytes() == (tmp_path / "new" / mask).read_bytes()
    assert not (tmp_path / "out" / ".chains").exists()
    assert method.chains_dir is None


def test_a_chain_that_leaves_the_numbers_is_no_result(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(KeptChains, "_write", lambda self, path, *what: written.append(path))
    words = ("--preset", "smoke", "--device", "cpu", "--set", "inference_step_size=1e6")
    assert call("train", "--data", data, "--out", tmp_path / "run", *words).exit_code == 0
    picture = paint(tmp_path / "a.png")
    result = call("segment", picture, "--checkpoint", tmp_path / "run", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "inference diverged on 1 of the 1 images of a batch, the first at position 0" in result.output
    assert not (tmp_path / "out" / "masks").exists()
    assert not written, "nor are its ends kept"


def test_a_picture_whose_chain_diverges_is_refused_by_name_and_the_others_are_done(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [paint(tmp_path / f"{name}.png", shade=50 * i) for i, name in enumerate("abc", 1)]
    method, whole = DRC.load(run), segment.infer
    spoilt = open_picture(files[1], method.config.image_size).key

    def infer(sampler: Any, images: Any, keys: list[int], *more: Any) -> Any:
        z = whole(sampler, images, keys, *more)
        z[[key == spoilt for key in keys]] = float("nan")
        return z

    monkeypatch.setattr(segment, "infer", infer)
    assert segment_into(method, find_sources(files, tmp_path / "out", {}), tmp_path / "out") == 1
    assert sorted(file.name for file in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "c.png"]
    with (tmp_path / "out" / "refused.csv").open(newline="") as file:
        (line,) = list(csv.reader(file))[1:]
    assert line[0] == str(files[1])
    assert "inference diverged" in line[1]


def test_encoders_take_no_steps(data: Path, tmp_path: Path) -> None:
    words = ("--preset", "smoke", "--device", "cpu", "--variant", "amortised-inference")
    assert call("train", "--data", data, "--out", tmp_path / "run", *words).exit_code == 0
    for option in ("--steps", "--chains"):
        places = (paint(tmp_path / "a.png"), "--checkpoint", tmp_path / "run", "--out", tmp_path / "out")
        result = call("segment", *places, option, 2)
        assert result.exit_code == 2
        assert "neither --steps nor --chains" in result.output


def test_a_path_that_is_empty_is_not_the_current_folder(run: Path, tmp_path: Path) -> None:
    for words in (("", "--out", tmp_path / "out"), (paint(tmp_path / "a.png"), "--out", "")):
        result = call("segment", *words, "--checkpoint", run)
        assert result.exit_code == 2
        assert "the path is empty" in result.output
