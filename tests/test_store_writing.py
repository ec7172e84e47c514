"""A prepared data set is written whole or not at all, and what was there before is kept until then."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from store_helpers import fill, new_writer

from data_prep.store import PreparedDataset, StoreError, open_dataset


def test_an_interrupt_while_a_set_is_replaced_brings_the_old_one_back(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if Path(target) == dataset.path and not self.name.endswith("-old"):
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), new_writer(dataset.path, force=True) as writer:
        fill(writer, count=3)
    assert len(open_dataset(dataset.path)) == 6


def test_taken_folder_is_refused_before_any_work(dataset: PreparedDataset) -> None:
    with (
        pytest.raises(StoreError, match=r"already holds a prepared data set \(toy\)"),
        new_writer(dataset.path),
    ):
        pytest.fail("the block must not be entered")
    dataset.verify()


def test_force_replaces_only_a_prepared_data_set(dataset: PreparedDataset, tmp_path: Path) -> None:
    with new_writer(dataset.path, force=True) as writer:
        fill(writer, 3)
    assert len(open_dataset(dataset.path, verify=True)) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="no prepared data set"), new_writer(tmp_path / "mine", force=True):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "set"]


def test_force_never_deletes_anybody_elses_files(dataset: PreparedDataset, tmp_path: Path) -> None:
    (dataset.path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match=r"holds thesis\.txt beside"), new_writer(dataset.path, force=True):
        pytest.fail("the block must not be entered")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "a web page"}')
    for force in (False, True):
        with (
            pytest.raises(StoreError, match="no prepared data set"),
            new_writer(tmp_path / "web", force=force),
        ):
            pytest.fail("the block must not be entered")
    assert (dataset.path / "thesis.txt").read_text() == "precious"


def test_force_follows_a_link(dataset: PreparedDataset, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(dataset.path)
    with new_writer(link, force=True) as writer:
        fill(writer, count=3)
    assert link.is_symlink()
    assert len(open_dataset(dataset.path)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["link", dataset.path.name])


def test_a_replacement_that_fails_at_the_last_puts_the_old_one_back(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if ".partial-" in self.name and not self.name.endswith("-old"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(self, target)

    def write() -> None:
        with new_writer(dataset.path, force=True) as writer:
            fill(writer, count=3)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        write()
    assert open_dataset(dataset.path, verify=True).sha256 == dataset.sha256


def test_force_replaces_a_damaged_one(dataset: PreparedDataset) -> None:
    (dataset.path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="a damaged one"), new_writer(dataset.path):
        pytest.fail("the block must not be entered")
    with new_writer(dataset.path, force=True) as writer:
        fill(writer, 3)
    assert len(open_dataset(dataset.path, verify=True)) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with new_writer(tmp_path / "set") as writer:
            fill(writer)
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_interrupted_replacement_keeps_the_old_one(dataset: PreparedDataset) -> None:
    def write() -> None:
        with new_writer(dataset.path, force=True) as writer:
            fill(writer, 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    open_dataset(dataset.path, verify=True)
    assert [p.name for p in dataset.path.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("free", [1000, 100 * 8 * 8 * (3 + 1) - 1])
def test_no_space_is_said_before_writing(free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    with (
        pytest.raises(StoreError, match="are free; free some space"),
        new_writer(tmp_path / "set", expected=100),
    ):
        pytest.fail("the block must not be entered")
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A stream whose device is full."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_that_fills_up(tmp_path: Path) -> None:
    def write() -> None:
        with new_writer(tmp_path / "set") as writer:
            writer._masks = FullDisk()  # type: ignore[assignment]
            fill(writer)

    with pytest.raises(StoreError, match="no space left on the disk"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_the_last_block(tmp_path: Path) -> None:
    def write() -> None:
        with new_writer(tmp_path / "set") as writer:
            fill(writer)
            writer._index_file = FullDisk()  # type: ignore[assignment]

    with pytest.raises(StoreError, match="no space left on the disk"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), new_writer(tmp_path / "file" / "set"):
        pytest.fail("the block must not be entered")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(StoreError, match="cannot be written \\(Permission denied\\)"),
        new_writer(tmp_path / "set"),
    ):
        pytest.fail("the block must not be entered")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder that takes no file")
def test_a_place_that_takes_no_file_is_not_called_taken() -> None:
    with pytest.raises(StoreError, match=r"^/proc/set cannot be written"), new_writer(Path("/proc/set")):
        pytest.fail("the block must not be entered")


def test_two_processes_cannot_write_one_data_set(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "data_prep",
        "tm-dsprites",
        "--out",
        str(tmp_path / "set"),
        "--count",
        "4",
    ]
    root = Path(__file__).parents[1]
    with new_writer(tmp_path / "set") as writer:
        fill(writer)
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "set is being written by another process; wait until that is done" in done.stderr
        assert "Traceback" not in done.stderr
    assert len(open_dataset(tmp_path / "set", verify=True)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from data_prep.store import DatasetWriter; "
        "DatasetWriter(sys.argv[1], name='toy', size=(8, 8), settings={}).__enter__(); os._exit(9)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "set")], cwd=root, check=False)
    assert done.returncode == 9
    with new_writer(tmp_path / "set") as writer:
        fill(writer)
    open_dataset(tmp_path / "set", verify=True)


def test_what_an_interrupted_run_left_is_told_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = {".set.partial-0": "delete it if that run is over", ".set.partial-0-old": "move it back"}
    for name in left:
        (tmp_path / name).mkdir()
    with new_writer(tmp_path / "set") as writer:
        fill(writer)
    for name, remedy in left.items():
        assert any(str(tmp_path / name) + " " in said and remedy in said for said in caplog.messages)
        assert (tmp_path / name).is_dir()


def test_an_image_that_is_in_two_splits_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    mask = np.eye(8, dtype=np.uint8)
    places = ((0, "train"), (0, "train"), (1, "train"), (2, "test"), (1, "test"))
    with new_writer(tmp_path / "set", licence="free", command="make it") as writer:
        for number, (which, split) in enumerate(places):
            writer.add(noise[which], mask, id=f"a{number}", split=split, source="-")
    (said,) = [record.message for record in caplog.records if "another split" in record.message]
    assert (
        "1 images have the pixels of one in another split, the first a4 of test those of a2 of train" in said
    )


@pytest.mark.parametrize("name", ["a**b", "a[b]", "a?b"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / f".{name}.partial-1").mkdir()
    (tmp_path / ".a-b.partial-2").mkdir()
    with new_writer(tmp_path / name) as writer:
        fill(writer)
    assert len(open_dataset(tmp_path / name)) == 6
    assert f".{name}.partial-1 was left by an interrupted run" in caplog.text
    assert "partial-2" not in caplog.text
