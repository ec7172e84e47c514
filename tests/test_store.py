"""A prepared data set: opened fast, read by split, and refused by name when damaged."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path

import numpy as np
import pytest
from store_helpers import fill, new_writer

from data_prep import writer as writer_module
from data_prep.reader import manifest_digest, sha256_of
from data_prep.store import DatasetWriter, PreparedDataset, StoreError, open_dataset

RNG = np.random.default_rng(0)


def test_what_was_written_is_read(dataset: PreparedDataset) -> None:
    assert dataset.images.shape == (6, 8, 8, 3)
    assert dataset.images[4, 0, 0, 0] == 40
    assert dataset.masks[2].max() == 2
    assert list(dataset.index.columns) == ["id", "split", "source", "label"]
    assert dataset.index["id"].tolist() == ["000", "001", "002", "003", "004", "005"]
    assert dataset.manifest["counts"] == {"train": 4, "test": 2}
    assert dataset.name == "toy"
    assert np.array_equal(np.load(dataset.path / "images.npy", allow_pickle=False), dataset.images)
    dataset.verify()


def test_names_that_read_like_missing_values_stay_what_they_are(tmp_path: Path) -> None:
    with new_writer(tmp_path / "set") as writer:
        fill(writer, count=3)
        image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
        writer.add(image, mask, id="NA", split="train", source="null", label=1)
    index = open_dataset(tmp_path / "set").index
    assert index.loc[3, ["id", "source"]].tolist() == ["NA", "null"]


def test_rows_by_split(dataset: PreparedDataset) -> None:
    assert dataset.rows().tolist() == [0, 1, 2, 3, 4, 5]
    assert dataset.rows("test").tolist() == [4, 5]
    assert dataset.rows("train", limit=3).tolist() == [0, 1, 2]
    assert dataset.rows("test").dtype == np.int64
    with pytest.raises(StoreError, match="no split 'val'; it has test, train"):
        dataset.rows("val")


def test_same_content_same_digest(dataset: PreparedDataset, tmp_path: Path) -> None:
    with new_writer(tmp_path / "again", command="another command") as writer:
        fill(writer)
    with new_writer(tmp_path / "more") as other:
        fill(other, 7)
    assert writer.dataset is not None
    assert other.dataset is not None
    assert writer.dataset.sha256 == dataset.sha256 != other.dataset.sha256


@pytest.mark.parametrize("member", ["images.npy", "masks.npy", "index.csv"])
def test_flipped_byte_is_found_by_verify(dataset: PreparedDataset, member: str) -> None:
    file = dataset.path / member
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=f"{member} changed"):
        open_dataset(dataset.path, verify=True)


@pytest.mark.parametrize("place", range(8, 128, 5))
def test_a_damaged_header_is_one_sentence(dataset: PreparedDataset, place: int) -> None:
    file = dataset.path / "images.npy"
    data = bytearray(file.read_bytes())
    for bit in range(8):
        data[place] ^= 1 << bit
        file.write_bytes(data)
        with pytest.raises(StoreError, match=r"images.npy"):
            open_dataset(dataset.path, verify=True)
        data[place] ^= 1 << bit


def test_edited_manifest_is_found_by_verify(dataset: PreparedDataset) -> None:
    file = dataset.path / "manifest.json"
    file.write_text(file.read_text().replace('"licence": "free"', '"licence": "none"'))
    with pytest.raises(StoreError, match=r"manifest.json was changed"):
        open_dataset(dataset.path, verify=True)


@pytest.mark.parametrize("member", ["images.npy", "masks.npy", "index.csv"])
@pytest.mark.parametrize("cut", [1, 10_000])
def test_truncation_is_noticed_on_opening(dataset: PreparedDataset, member: str, cut: int) -> None:
    file = dataset.path / member
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(StoreError, match=f"{member} is truncated"):
        open_dataset(dataset.path)


def test_added_bytes_are_noticed_on_opening(dataset: PreparedDataset) -> None:
    with (dataset.path / "masks.npy").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(StoreError, match=r"masks.npy is too long"):
        open_dataset(dataset.path)


@pytest.mark.parametrize("member", ["images.npy", "masks.npy", "index.csv", "manifest.json"])
def test_missing_member(dataset: PreparedDataset, member: str) -> None:
    (dataset.path / member).unlink()
    with pytest.raises(StoreError, match=member):
        open_dataset(dataset.path)


def replace_array(dataset: PreparedDataset, array: np.ndarray, *, pickle: bool = False) -> None:
    """Put another array in place of the masks, and its length into the manifest, as a forger would."""
    file = dataset.path / "masks.npy"
    np.save(file, array, allow_pickle=pickle)
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    manifest["files"]["masks.npy"]["bytes"] = file.stat().st_size
    (dataset.path / "manifest.json").write_text(json.dumps(manifest))


def test_wrong_shape(dataset: PreparedDataset) -> None:
    replace_array(dataset, np.zeros((6, 8, 9), dtype=np.uint8))
    with pytest.raises(StoreError, match=r"masks.npy has shape \(6, 8, 9\)"):
        open_dataset(dataset.path)


def test_wrong_dtype(dataset: PreparedDataset) -> None:
    replace_array(dataset, np.zeros((6, 8, 8), dtype=np.float32))
    with pytest.raises(StoreError, match=r"masks.npy holds float32"):
        open_dataset(dataset.path)


class Trap:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (self.trace, "sprung")  # type: ignore[return-value]


def test_pickle_inside_is_refused_and_not_run(dataset: PreparedDataset, tmp_path: Path) -> None:
    replace_array(dataset, np.array([Trap(tmp_path / "trace")], dtype=object), pickle=True)
    with pytest.raises(StoreError, match=r"masks.npy is not a plain NumPy array"):
        open_dataset(dataset.path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "not readable JSON"),
        ("[1, 2]", "not the manifest"),
        ('{"format": "something else"}', "not the manifest"),
        ('{"format": "drc-prepared-dataset", "format_version": 99}', "format version 99"),
        ('{"format": "drc-prepared-dataset", "format_version": 1, "name": "x"}', "lacks the name, the shape"),
        (b"\xff\xfe\x00", "not readable JSON"),
    ],
)
def test_bad_manifest(dataset: PreparedDataset, text: str | bytes, message: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (dataset.path / "manifest.json").write_bytes(data)
    with pytest.raises(StoreError, match=message):
        open_dataset(dataset.path)


@pytest.mark.parametrize("counts", [{}, {"train": None}, {"train": "4"}])
def test_manifest_whose_counts_are_none(dataset: PreparedDataset, counts: dict) -> None:
    file = dataset.path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"counts": counts}))
    with pytest.raises(StoreError, match="the counts or another part"):
        open_dataset(dataset.path)


@pytest.mark.parametrize("part", ["counts", "skipped", "notes", "settings", "licence", "command"])
def test_manifest_without_a_part(dataset: PreparedDataset, part: str) -> None:
    file = dataset.path / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest[part]
    file.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="another part of a manifest"):
        open_dataset(dataset.path)


@pytest.mark.parametrize("skipped", [["x"], [{"item": "a"}]])
def test_manifest_whose_skipped_items_are_none(dataset: PreparedDataset, skipped: list) -> None:
    file = dataset.path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"skipped": skipped}))
    with pytest.raises(StoreError, match="another part of a manifest"):
        open_dataset(dataset.path)


def test_bytes_of_an_archive_for_an_array(dataset: PreparedDataset) -> None:
    file = dataset.path / "masks.npy"
    file.write_bytes(b"PK\x03\x04".ljust(file.stat().st_size, b"\0"))
    with pytest.raises(StoreError, match=r"masks\.npy is not a plain NumPy array"):
        open_dataset(dataset.path)


@pytest.mark.parametrize("read", ["numpy.load", "pathlib.Path.read_text", "pandas.read_csv"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(read, refuse)
    with pytest.raises(StoreError, match=r"cannot be read \(Permission denied\); mend its permissions"):
        open_dataset(dataset.path).index  # noqa: B018


def test_a_path_that_is_not_utf8_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not UTF-8"), new_writer(tmp_path / "caf\udce9"):
        raise AssertionError


def test_bad_index_is_refused_when_read(dataset: PreparedDataset) -> None:
    file = dataset.path / "index.csv"
    length = file.stat().st_size
    file.write_bytes(b"id,split\n".ljust(length, b"\n"))
    with pytest.raises(StoreError, match=r"index.csv has no column source"):
        open_dataset(dataset.path).rows("train")
    file.write_bytes(b"id,split,source\n1,train,x\n".ljust(length, b"\n"))
    with pytest.raises(StoreError, match=r"index.csv has 1 rows for 6 images"):
        open_dataset(dataset.path).rows("train")


def test_bad_index_is_refused_by_verify_although_its_digest_is_right(dataset: PreparedDataset) -> None:
    file, manifest = dataset.path / "index.csv", dict(dataset.manifest)
    file.write_text("id,split,source\n1,train,x\n")
    manifest["files"]["index.csv"] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    manifest["manifest_sha256"] = manifest_digest(manifest)
    (dataset.path / "manifest.json").write_text(json.dumps(manifest))
    assert len(open_dataset(dataset.path)) == 6
    with pytest.raises(StoreError, match=r"index.csv has 1 rows for 6 images"):
        open_dataset(dataset.path, verify=True)


def test_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(StoreError, match="not a prepared data set"):
        open_dataset(tmp_path)


def test_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no image was kept"), new_writer(tmp_path / "set"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_samples_are_the_callers_mistake(tmp_path: Path) -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    with new_writer(tmp_path / "set") as writer:
        fill(writer)
        with pytest.raises(ValueError, match="is not uint8"):
            writer.add(image[:4], mask, id="x", split="train", source="s", label=1)
        with pytest.raises(ValueError, match="is not uint8"):
            writer.add(image, mask.astype(bool), id="x", split="train", source="s", label=1)
        with pytest.raises(ValueError, match="split 'dev'"):
            writer.add(image, mask, id="x", split="dev", source="s", label=1)
        with pytest.raises(ValueError, match="columns"):
            writer.add(image, mask, id="x", split="train", source="s")
    assert writer.dataset is not None
    assert len(writer.dataset) == 6


def test_skipped_items_are_listed(tmp_path: Path) -> None:
    with new_writer(tmp_path / "set") as writer:
        fill(writer)
        writer.skip("im9.png", "truncated")
    assert open_dataset(tmp_path / "set").manifest["skipped"] == [{"item": "im9.png", "reason": "truncated"}]


def test_header_is_numpys(tmp_path: Path) -> None:
    for shape in [(1, 8, 8, 3), (70_000, 128, 128, 3)]:
        header = writer_module.npy_header(shape)
        (tmp_path / "a.npy").write_bytes(header)
        with (tmp_path / "a.npy").open("rb") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)
            assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.dtype(np.uint8))
            assert stream.tell() == len(header) == 128


def test_opens_fast_and_reads_random_batches(tmp_path: Path) -> None:
    """70,000 tiny rows open in under 0.1 s, the best of three times: neither the index nor the arrays are read."""
    image, mask = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    with DatasetWriter(tmp_path / "set", name="big", size=(2, 2), settings={}) as writer:
        for i in range(70_000):
            writer.add(image, mask, id=str(i), split="train", source="s")
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        dataset = open_dataset(tmp_path / "set")
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.1
    rows = RNG.integers(len(dataset), size=48)
    assert dataset.images[rows].shape == (48, 2, 2, 3)
