"""What several test files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_methods import SPEC, RandomWalk
from store_helpers import fill, new_writer

from benchmarks import registry
from data_prep.store import PreparedDataset


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real samples beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of shared samples is not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def smoke_data_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with TM-dSprites as the smoke budget makes it."""
    from benchmarks.data import Library

    folder = tmp_path_factory.mktemp("data")
    Library(folder, "smoke").dataset("tm-dsprites")
    return folder


@pytest.fixture
def smoke_data(smoke_data_once: Path, tmp_path: Path) -> Path:
    """A copy of that folder which a test may damage."""
    return Path(shutil.copytree(smoke_data_once, tmp_path / "data"))


@pytest.fixture
def random_walk(monkeypatch: pytest.MonkeyPatch) -> type[RandomWalk]:
    """A quick trainable method in the place of DRC, which can be told to crash or to be interrupted."""
    monkeypatch.setitem(registry.METHODS, "DRC", SPEC)
    for name in ("crash_at", "interrupt_at"):
        monkeypatch.setattr(RandomWalk, name, None)
    monkeypatch.setattr(RandomWalk, "steps_taken", 0)
    return RandomWalk


@pytest.fixture
def earlier_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran in this process before took 900 MiB, and what is measured anew takes 50."""
    peak = [900.0]
    monkeypatch.setattr("benchmarks.provenance.peak_memory_mb", lambda: peak[0])
    monkeypatch.setattr("benchmarks.provenance.forget_peak_memory", lambda device: peak.__setitem__(0, 50.0))


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The files that were written through to the disk, by inode; only such ones may be given another name.

    A machine that loses its power may else keep the name alone.
    """
    found, replace = list[int](), Path.replace

    def naming(self: Path, target: Path) -> Path:
        assert self.stat().st_ino in found
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", lambda number: found.append(os.fstat(number).st_ino))
    monkeypatch.setattr(Path, "replace", naming)
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    """A tiny prepared data set: four training images and two held out."""
    with new_writer(tmp_path / "set", licence="free", command="make it") as writer:
        fill(writer)
    assert writer.dataset is not None
    return writer.dataset


@pytest.fixture
def own_data_sets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw no tables, and forget folders that a test names as data sets."""
    monkeypatch.setattr("benchmarks.table_files.to_png", lambda layout: b"\x89PNG")
    before = dict(registry.DATASETS)
    yield
    registry.DATASETS.clear()
    registry.DATASETS.update(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on a single thread: with two, sums may be taken in another order from one process to the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
