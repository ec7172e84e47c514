"""The prepared data sets that python -m drc train reads: their splits, and their faults by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drc_helpers import call, make_data

from drc.checkpoint import load_newest
from drc.prepared import DataError, open_training_images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("prepared") / "sprites")


def damage_pickle(folder: Path) -> None:
    np.save(folder / "images.npy", np.array([{}], dtype=object), allow_pickle=True)


def damage_dtype(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((32, 16, 16, 3), np.float32))


def damage_shape(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((32, 16, 12, 3), np.uint8))


def damage_length(folder: Path) -> None:
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(content[: len(content) // 2])


def damage_text(folder: Path) -> None:
    (folder / "images.npy").write_text("no array")


def damage_header(folder: Path) -> None:
    content = bytearray((folder / "images.npy").read_bytes())
    content[8] ^= 0x40
    (folder / "images.npy").write_bytes(content)


def damage_size(folder: Path) -> None:
    content = (folder / "images.npy").read_bytes()
    sizes = b"(32, 16, 16, 3), }" + b" " * 20
    assert sizes in content
    (folder / "images.npy").write_bytes(content.replace(sizes, b"(32" + b"0" * 20 + b", 16, 16, 3), }"))


def damage_pixel(folder: Path) -> None:
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)


def damage_archive(folder: Path) -> None:
    (folder / "images.npy").write_bytes(b"PK\x03\x04" + bytes(100))


def damage_count(folder: Path) -> None:
    lines = (folder / "index.csv").read_text().splitlines()
    (folder / "index.csv").write_text("\n".join(lines[:-1]) + "\n")


def damage_columns(folder: Path) -> None:
    (folder / "index.csv").write_text("id,part\n" + "a,train\n" * 32)


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"name": 3}')


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_pickle, "images.npy"),
        (damage_dtype, "images.npy"),
        (damage_shape, "images.npy"),
        (damage_length, "images.npy"),
        (damage_text, "images.npy"),
        (damage_header, "images.npy is not a whole array"),
        (damage_size, "images.npy is not a whole array"),
        (damage_pixel, "images.npy changed since it was written"),
        (damage_archive, "images.npy is not a whole array"),
        (lambda folder: (folder / "images.npy").unlink(), "images.npy"),
        (damage_count, "index.csv"),
        (damage_columns, "index.csv"),
        (lambda folder: (folder / "index.csv").write_bytes(b"\xff\xfe\x00"), "index.csv"),
        (lambda folder: (folder / "index.csv").unlink(), "index.csv"),
        (damage_manifest, "manifest.json"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
        (shutil.rmtree, "data is not there"),
    ],
)
def test_a_damaged_data_set_is_named(data: Path, tmp_path: Path, damage: Callable, named: str) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    damage(folder)
    result = call("train", "--data", folder, "--out", tmp_path / "run", "--preset", "smoke")
    assert result.exit_code == 2
    assert named in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


def test_splits_are_told_apart_and_an_unknown_one_is_named(data: Path) -> None:
    train, test, everything = (open_training_images(data, split).images for split in ("train", "test", "all"))
    assert np.array_equal(np.concatenate([train, test]), everything)
    with pytest.raises(DataError, match="test, train, all"):
        open_training_images(data, "val")


def test_a_data_set_of_a_newer_format_is_refused(data: Path, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(data, tmp_path / "newer"))
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(DataError, match="has format version 99 and this program reads version 1"):
        open_training_images(newer, "train")


def test_rows_of_a_split_that_lie_apart_are_found(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    names = ["train", "test"] * 16
    (folder / "index.csv").write_text("id,split\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names)))
    images = np.load(folder / "images.npy", allow_pickle=False)
    assert np.array_equal(open_training_images(folder, "test").images, images[1::2])


@pytest.mark.parametrize(("split", "count"), [("train", 24), ("test", 8), ("all", 32)])
def test_a_run_is_of_the_images_of_the_split_that_was_asked_for(
    split: str, count: int, data: Path, tmp_path: Path
) -> None:
    words = ("train", "--data", data, "--out", tmp_path, "--preset", "smoke", "--device", "cpu")
    assert call(*words, "--split", split).exit_code == 0
    state = load_newest(tmp_path / "checkpoints")
    assert state is not None
    assert len(state["posterior_chains"]) == count
    images = open_training_images(data, split).images
    assert state["images_sha256"] == hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    identity = json.loads((tmp_path / "config.json").read_text())
    whole = hashlib.sha256((data / "images.npy").read_bytes()).hexdigest()
    assert (identity["split"], identity["images_sha256"]) == (split, whole)
