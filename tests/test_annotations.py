"""Annotations on disk: nothing that was found is lost, and nothing damaged is believed."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from data_prep.annotations import AnnotationFile, Instance, decode, encode
from data_prep.errors import SourceError
from data_prep.store import StoreError


def test_masks_survive_the_disk() -> None:
    rng = np.random.default_rng(0)
    for mask in (
        rng.random((13, 17)) > 0.5,
        np.zeros((5, 4), bool),
        np.ones((5, 4), bool),
        np.eye(7, dtype=bool),
    ):
        again = decode(encode(Instance("dog", 0.8765, mask)), *mask.shape)
        np.testing.assert_array_equal(again.mask, mask)
        assert (again.category, again.score) == ("dog", 0.8765)


def test_a_box_holds_all_of_a_mask_and_is_all_0_where_there_is_none() -> None:
    mask = np.zeros((5, 8), bool)
    assert Instance("dog", 1.0, mask).box == (0, 0, 0, 0)
    mask[1, 6] = mask[3, 2] = True
    assert Instance("dog", 1.0, mask).box == (2, 1, 5, 3)


def test_file_goes_on_after_a_cut_line(tmp_path: Path) -> None:
    path, mask = tmp_path / "a.jsonl", np.eye(4, dtype=bool)
    with AnnotationFile(path, {"model": "m"}) as file:
        file.append("one", "hash of one", (4, 4), [Instance("dog", 0.9, mask)])
        file.append("two", "hash of two", (4, 4), [])
    path.write_bytes(path.read_bytes()[:-5])
    with AnnotationFile(path, {"model": "m"}) as file:
        assert "one" in file
        assert "two" not in file
        file.append("two", "hash of two", (4, 4), [])
    with AnnotationFile(path, {"model": "m"}) as file:
        size, instances = file.read("one")
        assert (size, len(instances), "two" in file) == ((4, 4), 1, True)
        np.testing.assert_array_equal(instances[0].mask, mask)


def test_file_of_other_settings_or_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {"model": "m"}) as file:
        file.append("one", "hash of one", (4, 4), [])
    with pytest.raises(SourceError, match="made with other settings"):
        AnnotationFile(path, {"model": "n"}).__enter__()
    for text in ('{"format": "letters"}\n', '{"images": []}', "\x00\x01"):
        path.write_text(text)
        with pytest.raises(SourceError, match="not a file of annotations"):
            AnnotationFile(path, {}).__enter__()
        assert path.read_text() == text
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot be opened for writing"):
        AnnotationFile(tmp_path / "file" / "a", {}).__enter__()


def test_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {}) as file:
        file.append("one", "hash of one", (4, 4), [Instance("dog", 0.9, np.eye(4, dtype=bool))])
    text = path.read_text()
    path.write_text(text.replace('"runs": [0, 1,', '"runs": [0, 3,'))
    with AnnotationFile(path, {}) as file, pytest.raises(SourceError, match="annotation of one is damaged"):
        file.read("one")
    path.write_text(text.replace('"id"', "id"))
    with pytest.raises(SourceError, match="line 2 is damaged"):
        AnnotationFile(path, {}).__enter__()


def test_a_disk_that_takes_no_more_keeps_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {}) as file:
        file.append("one", "hash of one", (4, 4), [])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write() -> None:
        with AnnotationFile(path, {}) as file:
            file.append("two", "hash of two", (4, 4), [])

    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 8, limits[1]))
    try:
        with pytest.raises(SourceError, match="run the same command again"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [found.name for found in tmp_path.iterdir()] == ["a.jsonl"]  # no lock is left
    with AnnotationFile(path, {}) as file:
        assert "one" in file
        assert "two" not in file


def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    with AnnotationFile(tmp_path / "a.jsonl", {}) as file:
        with pytest.raises(StoreError, match=r"a\.jsonl is being written by another process"):
            AnnotationFile(tmp_path / "a.jsonl", {}).__enter__()
        file.append("one", "hash of one", (4, 4), [])
    with AnnotationFile(tmp_path / "a.jsonl", {}) as file:
        assert "one" in file
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("sound", "damaged"),
    [
        ('"score": 0.9', '"score": null'),
        ('"score": 0.9', '"score": "high"'),
        ('"size": [4, 4]', '"size": [4e9, 4]'),
        ('"size": [4, 4]', '"size": [40000000000, 40000000000]'),
        ('"runs": [0, 1,', '"runs": [0, 1000000000000000,'),
        ('"runs": [0, 1,', '"runs": [0, 100000000000000000000,'),
        ('"score": 0.9', f'"score": 1{"0" * 400}'),
    ],
)
def test_numbers_that_are_none_are_one_sentence(tmp_path: Path, sound: str, damaged: str) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {}) as file:
        file.append("one", "hash", (4, 4), [Instance("dog", 0.9, np.eye(4, dtype=bool))])
    text = path.read_text()
    assert sound in text
    path.write_text(text.replace(sound, damaged))
    with AnnotationFile(path, {}) as file, pytest.raises(SourceError, match="annotation of one is damaged"):
        file.read("one")


@pytest.mark.parametrize("line", ["[" * 100_000, "[]", '{"id": []}', "7"])
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {}):
        pass
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(SourceError, match="line 2 is damaged"):
        AnnotationFile(path, {}).__enter__()
