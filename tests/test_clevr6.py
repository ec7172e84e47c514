"""CLEVR6 from TFRecords: the format, its checksums, the choice of scenes, and every fault."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from clevr_records import example, field, frame, mask_crc, one_byte_values, scene, write
from PIL import Image

from data_prep import clevr6, tfrecord
from data_prep.build import Options
from data_prep.catalogue import CATALOGUE, entry_of
from data_prep.errors import DataPrepError, SourceError
from data_prep.pictures import resize_labels

QUIET = Options(size=48, progress=False, workers=2)
CAREFREE = Options(size=48, progress=False, workers=2, keep_going=True)


def prepare(path: Path, out: Path, options: Options = QUIET, **config: object):
    return clevr6.prepare([path], out, clevr6.Clevr6Config(**config), options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of 3, 7, 6, 2, 5 and 4 objects."""
    path = tmp_path_factory.mktemp("clevr") / "scenes.tfrecords"
    return write(path, *(scene(objects) for objects in (3, 7, 6, 2, 5, 4)))


def test_at_most_six_objects_with_instance_masks(records: Path, tmp_path: Path) -> None:
    dataset = prepare(records, tmp_path / "set", scenes=5)
    assert dataset.name == "clevr6"
    assert dataset.index["objects"].tolist() == [3, 6, 2, 5, 4]
    assert dataset.index["split"].tolist() == ["train", "train", "train", "train", "test"]
    assert np.unique(dataset.masks[1]).tolist() == list(range(7))
    assert np.unique(dataset.masks[2]).tolist() == [0, 1, 2]
    for k in range(1, 7):
        inside = dataset.images[1][dataset.masks[1] == k].mean()
        assert inside == pytest.approx(100 + k, abs=8)
    rows = np.flatnonzero(dataset.masks[1].any(axis=1))
    assert rows[0] == pytest.approx((100 - 29) / 4, abs=1)  # 192 rows become 48
    first = np.flatnonzero((dataset.masks[1] == 1).any(axis=0))
    assert first.tolist() == [(80 - 64) // 4, (84 - 64) // 4]  # and so do 192 columns


def test_the_authors_count_is_one_lower(records: Path, tmp_path: Path) -> None:
    dataset = prepare(records, tmp_path / "set", rule="authors")
    assert dataset.name == "clevr6-authors-filter"
    assert dataset.index["objects"].tolist() == [3, 2, 5, 4]
    counts = {"scenes": 70_000, "heldout": 1_000}
    assert dataset.manifest["settings"] == {"rule": "authors", **counts, "size": 48}
    assert "CC BY 4.0" in dataset.manifest["licence"]


@pytest.mark.parametrize(
    ("objects", "paper", "authors"),
    [(1, True, False), (2, True, True), (5, True, True), (6, True, False), (7, False, False)],
)
def test_each_rule_ends_where_it_says(objects: int, paper: bool, authors: bool) -> None:
    visibility = (np.arange(clevr6.ENTITIES) <= objects).astype(np.float32)
    assert clevr6.wanted(visibility, "paper") == paper
    assert clevr6.wanted(visibility, "authors") == authors


def test_heldout_comes_after_the_training_scenes(records: Path, tmp_path: Path) -> None:
    dataset = prepare(records, tmp_path / "set", scenes=2, heldout=2)
    assert dataset.index["split"].tolist() == ["train", "test", "test"]
    assert dataset.index["id"].tolist() == ["000000", "000002", "000003"]


def test_fewer_held_out_scenes_than_asked_for_are_told(
    records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(records, tmp_path / "a", scenes=2, heldout=2)
    assert not caplog.messages
    prepare(records, tmp_path / "b", scenes=5, heldout=2)
    assert "b: 1 of 2 held-out images, as there are too few scenes after the first 5" in caplog.text


def test_two_files_of_one_name_are_refused(records: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    again = shutil.copy(records, tmp_path / "more" / records.name)
    with pytest.raises(SourceError, match="Two of the files have one name"):
        clevr6.prepare([records, again], tmp_path / "out", options=QUIET)


def test_plain_and_unpacked_files_and_several_files_say_the_same(records: Path, tmp_path: Path) -> None:
    kinds = (3, 7, 6, 2, 5, 4)
    plain = write(tmp_path / "plain", *(scene(k, packed=False) for k in kinds), zipped=False)
    first = write(tmp_path / "first", *(scene(k) for k in kinds[:2]))
    second = write(tmp_path / "second", *(scene(k) for k in kinds[2:]))
    whole = prepare(records, tmp_path / "a")
    np.testing.assert_array_equal(whole.images, prepare(plain, tmp_path / "b").images)
    parts = clevr6.prepare([first, second], tmp_path / "c", options=QUIET)
    np.testing.assert_array_equal(whole.masks, parts.masks)


def test_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    members = b"".join(gzip.compress(frame(scene(k)), 1) for k in (3, 4))
    (tmp_path / "r").write_bytes(members)
    assert [record.fault for record in tfrecord.read_records(tmp_path / "r")] == ["", ""]


def refuses(path: Path, out: Path, message: str, kept: int) -> None:
    """The default stops with the message and leaves nothing; keep_going keeps the sound scenes."""
    with pytest.raises(SourceError, match=message) as caught:
        prepare(path, out)
    assert path.name in str(caught.value)
    assert not out.exists()
    dataset = prepare(path, out, CAREFREE)
    assert len(dataset) == kept
    assert len(dataset.manifest["skipped"]) == 1


def test_gzip_cut_short(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [scene(3, int(grey)) for grey in rng.integers(0, 99, 3)]
    path = write(tmp_path / "cut", *scenes)
    path.write_bytes(path.read_bytes()[:-200])
    refuses(path, tmp_path / "out", "record 2: the file is cut short", 2)


def test_plain_file_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "cut", scene(3), scene(4), zipped=False)
    path.write_bytes(path.read_bytes()[:-1])
    refuses(path, tmp_path / "out", "record 1: the file is cut short", 1)


def test_wrong_crc_of_the_data(tmp_path: Path) -> None:
    data = bytearray(frame(scene(3)) + frame(scene(4)) + frame(scene(5)))
    data[len(frame(scene(3))) + 5000] ^= 4
    (tmp_path / "bad").write_bytes(gzip.compress(bytes(data), 1))
    refuses(tmp_path / "bad", tmp_path / "out", r"record 1: its data has a wrong checksum \(CRC-32C\)", 2)


def test_wrong_crc_of_the_length(tmp_path: Path) -> None:
    data = bytearray(frame(scene(3)) + frame(scene(4)))
    data[len(frame(scene(3)))] ^= 1
    (tmp_path / "bad").write_bytes(gzip.compress(bytes(data), 1))
    refuses(tmp_path / "bad", tmp_path / "out", "record 1: its length has a wrong checksum", 1)


def test_a_record_beyond_all_measure(tmp_path: Path) -> None:
    length = struct.pack("<Q", tfrecord.MAX_RECORD + 1)
    (tmp_path / "bad").write_bytes(frame(scene(3)) + length + mask_crc(length))
    refuses(tmp_path / "bad", tmp_path / "out", "record 1: it has 268,435,457 bytes", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": one_byte_values(np.zeros(100, np.uint8))}, "'image' has 100 one-byte values where 230400"),
        ({"mask": field(1, field(1, b"long"))}, "one-byte values where 844800"),
        ({"visibility": field(2, field(1, bytes(40)))}, "'visibility' has 10 floats where 11"),
        (
            {"visibility": field(2, field(1, np.full(11, np.nan, "<f4").tobytes()))},
            "its visibility is not between 0 and 1",
        ),
        (
            {"visibility": field(2, field(1, np.full(11, 3e38, "<f4").tobytes()))},
            "its visibility is not between 0 and 1",
        ),
        ({"visibility": one_byte_values(np.zeros(11, np.uint8))}, "'visibility' is of another kind"),
        ({"image": None}, "no feature 'image'"),
        ({"mask": field(1, bytes(3 * 844_800))}, "'mask' holds values that are not one byte long"),
    ],
)
def test_wrong_features(tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    features: dict[str, bytes | None] = {
        "image": one_byte_values(np.zeros(230_400, np.uint8)),
        "mask": one_byte_values(np.zeros(844_800, np.uint8)),
        "visibility": field(2, field(1, np.array([1.0] * 4 + [0.0] * 7, "<f4").tobytes())),
    }
    bad = example({name: value for name, value in (features | change).items() if value is not None})
    path = write(tmp_path / "bad", scene(3), bad, scene(4))
    refuses(path, tmp_path / "out", message, 2)


def test_bytes_that_are_no_example(tmp_path: Path) -> None:
    path = write(tmp_path / "bad", scene(3), b"\x0a\xff\xff\xff\xff\x0f", b"\x08\x01", b"\xff" * 20)
    with pytest.raises(SourceError, match="record 1: a field that is longer than its message"):
        prepare(path, tmp_path / "out")
    assert len(prepare(path, tmp_path / "out", CAREFREE).manifest["skipped"]) == 3


def test_bad_settings_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataPrepError, match="no rule 'mine'"):
        clevr6.Clevr6Config(rule="mine")
    with pytest.raises(DataPrepError, match="At least 1 scene"):
        clevr6.Clevr6Config(scenes=0)
    with pytest.raises(SourceError, match="does not exist"):
        prepare(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(SourceError, match="is no file; name clevr_with_masks_train"):
        prepare(tmp_path, tmp_path / "out")


def test_other_scenes_have_a_name_of_their_own(records: Path, tmp_path: Path) -> None:
    dataset = clevr6.prepare([records], tmp_path / "out", options=QUIET, name="clevr6-rendered")
    assert dataset.name == "clevr6-rendered"
    assert entry_of(dataset) is None, "they are not the paper's"
    own = clevr6.prepare([records], tmp_path / "own", options=QUIET)
    assert (own.name, own.sha256) == ("clevr6", dataset.sha256)
    assert entry_of(own) is CATALOGUE["clevr6"]
    with pytest.raises(DataPrepError, match="holds a slash"):
        clevr6.prepare([records], tmp_path / "bad", options=QUIET, name="a/b")


def test_rendered_scenes_go_through_whole(shared: Path, tmp_path: Path) -> None:
    file = shared / "data/clevr6_rendered/clevr_with_masks_small.tfrecords"
    dataset = prepare(file, tmp_path / "set", scenes=400)
    assert len(dataset) == 341
    assert 0 < dataset.manifest["counts"]["test"] < 20
    assert dataset.index["objects"].between(3, 6).all()
    assert (dataset.masks[:] > 0).mean() == pytest.approx(0.158, abs=0.003)


def test_deepminds_own_scenes_in_the_same_layout(shared: Path, tmp_path: Path) -> None:
    """Seven and eight objects: CLEVR6 drops both; the decoding, crop and label map are checked on them."""
    folder = shared / "data/clevr_with_masks_sample/sample"
    scenes = []
    for k, objects in ((0, 7), (1, 8)):
        image = np.asarray(Image.open(folder / f"CLEVR_image_{k}.png").convert("RGB"))
        masks = np.stack([np.asarray(Image.open(folder / f"CLEVR_mask_{k}_{j}.png")) for j in range(11)])
        visibility = np.array([1.0] * (objects + 1) + [0.0] * (10 - objects), "<f4")
        features = {
            "image": one_byte_values(image),
            "mask": one_byte_values(masks),
            "visibility": field(2, field(1, visibility.tobytes())),
        }
        scenes.append((example(features), masks))
    path = write(tmp_path / "two", *(data for data, _ in scenes), scene(3))
    assert len(prepare(path, tmp_path / "set")) == 1
    for record, (_, masks) in zip(tfrecord.read_records(path), scenes, strict=False):
        wanted = clevr6.Scene(record.name, record.number, "train", tfrecord.parse_example(record.data))
        sample = clevr6.make_scene(wanted, 192)
        np.testing.assert_array_equal(sample.mask > 0, masks[0][29:221, 64:256] == 0)


@pytest.mark.parametrize("size", [16, 48, 128, 192])
def test_label_maps_are_resized_as_those_of_other_data_sets(size: int) -> None:
    """Pixel for pixel: else masks would lie beside what the images, resized by Pillow, show."""
    labels = np.random.default_rng(0).integers(0, clevr6.ENTITIES, (192, 192), dtype=np.uint8)
    masks = (labels == np.arange(clevr6.ENTITIES)[:, None, None]).astype(np.uint8) * 255
    np.testing.assert_array_equal(
        clevr6.label_map(masks, size), resize_labels(Image.fromarray(labels), None, size)
    )
