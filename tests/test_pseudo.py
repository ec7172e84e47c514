"""Dogs and cars: annotation that resumes, selection by recorded rules, and the publishers' own layouts."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_prep import annotators, cars, cli_pseudo, dogs, pseudo, selection
from data_prep.__main__ import main
from data_prep.annotations import AnnotationFile, Instance, decode, encode
from data_prep.archives import Scratch
from data_prep.build import Options
from data_prep.errors import DataPrepError, SourceError
from data_prep.selection import REASONS, SelectionRules
from data_prep.store import open_dataset

QUIET = Options(size=32, progress=False, workers=2)
CAREFREE = Options(size=32, progress=False, workers=2, keep_going=True)
DOG = SelectionRules(categories=("dog",))


class BrightThings:
    """A stand-in for Mask R-CNN: everything bright is one dog, and the red value is its score."""

    def __init__(self, stop_after: int | None = None, min_score: float = 0.3) -> None:
        self.seen: list[int] = []
        self.stop_after = stop_after
        self.min_score = min_score

    def settings(self) -> dict[str, Any]:
        return {"annotator": "bright things", "min_score": self.min_score}

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        if self.stop_after is not None and sum(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(len(images))
        found = []
        for image in images:
            mask = image[:, :, 1] > 128
            score = float(image[mask][:, 0].mean()) / 255 if mask.any() else 0.0
            found.append([Instance("dog", score, mask)] if mask.any() else [])
        return found


# --- annotations on disk -------------------------------------------------------------------------------------


def test_masks_survive_the_disk() -> None:
    rng = np.random.default_rng(0)
    for mask in (
        rng.random((13, 17)) > 0.5,
        np.zeros((5, 4), bool),
        np.ones((5, 4), bool),
        np.eye(7, dtype=bool),
    ):
        again = decode(encode(Instance("dog", 0.5, mask)), *mask.shape)
        np.testing.assert_array_equal(again.mask, mask)
        assert (again.category, again.score) == ("dog", 0.5)


def test_file_goes_on_after_a_cut_line(tmp_path: Path) -> None:
    path, mask = tmp_path / "a.jsonl", np.eye(4, dtype=bool)
    with AnnotationFile(path, {"model": "m"}) as file:
        file.append("one", (4, 4), [Instance("dog", 0.9, mask)])
        file.append("two", (4, 4), [])
    path.write_bytes(path.read_bytes()[:-5])
    with AnnotationFile(path, {"model": "m"}) as file:
        assert "one" in file
        assert "two" not in file
        file.append("two", (4, 4), [])
    with AnnotationFile(path, {"model": "m"}) as file:
        size, instances = file.read("one")
        assert (size, len(instances), len(file)) == ((4, 4), 1, 2)
        np.testing.assert_array_equal(instances[0].mask, mask)


def test_file_of_other_settings_or_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {"model": "m"}) as file:
        file.append("one", (4, 4), [])
    with pytest.raises(SourceError, match="made with other settings"):
        AnnotationFile(path, {"model": "n"}).__enter__()
    path.write_text('{"format": "letters"}\n')
    with pytest.raises(SourceError, match="not a file of annotations"):
        AnnotationFile(path, {}).__enter__()
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot be opened for writing"):
        AnnotationFile(tmp_path / "file" / "a", {}).__enter__()


def test_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnnotationFile(path, {}) as file:
        file.append("one", (4, 4), [Instance("dog", 0.9, np.eye(4, dtype=bool))])
    text = path.read_text()
    path.write_text(text.replace('"runs": [0, 1,', '"runs": [0, 3,'))
    with AnnotationFile(path, {}) as file, pytest.raises(SourceError, match="annotation of one is damaged"):
        file.read("one")
    path.write_text(text.replace('"id"', "id"))
    with pytest.raises(SourceError, match="line 2 is damaged"):
        AnnotationFile(path, {}).__enter__()


def test_full_disk_keeps_what_is_done(tmp_path: Path) -> None:
    class Full:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    with AnnotationFile(tmp_path / "a.jsonl", {}) as file:
        file.append("one", (4, 4), [])
        file._stream = Full(file._stream)  # type: ignore[assignment]
        with pytest.raises(SourceError, match=r"No space left on device.*run the same command again"):
            file.append("two", (4, 4), [])
    with AnnotationFile(tmp_path / "a.jsonl", {}) as file:
        assert "one" in file
        assert len(file) == 1


# --- selection -----------------------------------------------------------------------------------------------


def dog(rows: slice, columns: slice, score: float = 0.95, category: str = "dog") -> Instance:
    mask = np.zeros((100, 100), bool)
    mask[rows, columns] = True
    return Instance(category, score, mask)


CLEAR = dog(slice(30, 70), slice(30, 70))
BOX = (30.0, 30.0, 40.0, 40.0)


@pytest.mark.parametrize(
    ("instances", "box", "reason"),
    [
        ([CLEAR], BOX, ""),
        ([dog(slice(0, 9), slice(0, 9), 0.4), CLEAR], BOX, ""),
        ([CLEAR, dog(slice(0, 90), slice(0, 90), 0.99, "sofa")], BOX, ""),
        ([], BOX, REASONS[0]),
        ([dog(slice(30, 70), slice(30, 70), category="cat")], BOX, REASONS[0]),
        ([dog(slice(30, 70), slice(30, 70), 0.7)], BOX, REASONS[1]),
        ([CLEAR, dog(slice(0, 9), slice(0, 9), 0.6)], BOX, REASONS[2]),
        ([CLEAR], (0.0, 0.0, 40.0, 40.0), REASONS[3]),
        ([dog(slice(48, 52), slice(30, 70))], (30.0, 48.0, 40.0, 4.0), REASONS[4]),
        ([dog(slice(5, 95), slice(5, 95))], (5.0, 5.0, 90.0, 90.0), REASONS[5]),
        ([dog(slice(0, 70), slice(0, 100))], (0.0, 0.0, 100.0, 70.0), REASONS[6]),
    ],
)
def test_each_rule_drops_its_own(instances: list[Instance], box: tuple[float, ...], reason: str) -> None:
    crop = (0, 0, 100, 100) if reason in REASONS[5:] else (20, 20, 80, 80)
    chosen, why = selection.select(instances, box, crop, DOG)  # type: ignore[arg-type]
    assert why == reason
    assert (chosen is None) == bool(reason)


def test_rules_are_settings() -> None:
    rules = selection.override(DOG, ["min_score=0.5", "max_instances=3"])
    assert (rules.min_score, rules.max_instances, rules.max_area) == (0.5, 3, DOG.max_area)
    for bad, message in [
        ("beauty=1", "no rule 'beauty'; choose from min_score"),
        ("min_score=high", "has no number"),
        ("min_score=2", "choose 0 to 1"),
        ("max_instances=0", "choose 1 or more"),
    ]:
        with pytest.raises(DataPrepError, match=message):
            selection.override(DOG, [bad])


def test_box_overlap() -> None:
    assert selection.box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert selection.box_iou((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
    assert selection.box_iou((0, 0, 2, 2), (5, 5, 2, 2)) == 0
    assert selection.box_iou((0, 0, 0, 0), (5, 5, 0, 0)) == 0


# --- the publishers' layouts -----------------------------------------------------------------------------------


def picture(score: float) -> Image.Image:
    """A bright square on grey; its red value is the score the stand-in gives it."""
    pixels = np.full((80, 120, 3), 60, np.uint8)
    pixels[25:55, 45:75] = (round(255 * score), 255, 0)
    return Image.fromarray(pixels)


@pytest.fixture
def stanford_dogs(tmp_path: Path) -> Path:
    """Six training and three test images of two breeds; every third dog is doubtful."""
    root = tmp_path / "stanford_dogs"
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(9):
        name = f"n0{number % 2}-breed/n0{number % 2}_{number}.jpg"
        for folder in ("Images", "Annotation"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0.5 if number % 3 == 2 else 0.97).save(root / "Images" / name, quality=98)
        (root / "Annotation" / name).with_suffix("").write_text(
            "<annotation><object><bndbox><xmin>45</xmin><ymin>25</ymin><xmax>75</xmax><ymax>55</ymax></bndbox>"
            "</object><object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
            "</annotation>"
        )
        lists["train" if number < 6 else "test"].append(name)
    for split, names in lists.items():
        column = np.array(names, dtype=object)[:, None]
        scipy.io.savemat(root / f"{split}_list.mat", {"file_list": column})
    return root


def prepare(root: Path, out: Path, annotator: Any, options: Options = QUIET, **kwargs: Any):
    with Scratch(out) as scratch:
        source = dogs.read(root, scratch)
        return pseudo.prepare(
            source,
            annotator,
            kwargs.pop("rules", dogs.RULES),
            out,
            options,
            annotations=out.with_suffix(".a"),
            **kwargs,
        )


def test_dogs_from_folders(stanford_dogs: Path, tmp_path: Path) -> None:
    dataset = prepare(stanford_dogs, tmp_path / "out", BrightThings(), batch=4)
    assert dataset.name == "dogs-remade"
    assert dataset.manifest["counts"] == {"train": 4, "test": 2}
    notes = dataset.manifest["notes"]
    assert notes["removed"] == {"best score too low": {"train": 2, "test": 1}}
    assert notes["kept_minus_paper"] == {"train": 4 - 3286, "test": 2 - 1738}
    assert notes["annotator"]["annotator"] == "bright things"
    assert dataset.manifest["settings"]["rules"]["min_score"] == 0.9
    kept = (dataset.path / "kept.txt").read_text().split()
    assert kept == dataset.index["source"].tolist()
    assert (dataset.masks[0] == 1).mean() == pytest.approx((30 / 44) ** 2, abs=0.05)  # half-side int(22.5)
    dataset.verify()
    (dataset.path / "kept.txt").write_text("others")
    with pytest.raises(DataPrepError, match=r"kept\.txt changed"):
        dataset.verify()


def test_dogs_from_archives(stanford_dogs: Path, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for archive, members in [
        ("images.tar", ["Images"]),
        ("annotation.tar", ["Annotation"]),
        ("lists.tar", ["train_list.mat", "test_list.mat"]),
    ]:
        with tarfile.open(shipped / archive, "w") as tar:
            for member in members:
                tar.add(stanford_dogs / member, member)
    packed = prepare(shipped, tmp_path / "packed", BrightThings())
    assert packed.sha256 == prepare(stanford_dogs, tmp_path / "plain", BrightThings()).sha256


def test_annotation_goes_on_where_it_was(stanford_dogs: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(stanford_dogs, tmp_path / "out", BrightThings(stop_after=4), batch=2)
    assert not (tmp_path / "out").exists()
    second = BrightThings()
    dataset = prepare(stanford_dogs, tmp_path / "out", second, batch=2)
    assert sum(second.seen) == 5
    whole = prepare(stanford_dogs, tmp_path / "whole", BrightThings())
    assert dataset.sha256 == whole.sha256


def test_other_rules_need_no_second_annotation(stanford_dogs: Path, tmp_path: Path) -> None:
    prepare(stanford_dogs, tmp_path / "out", BrightThings())
    idle = BrightThings()
    rules = selection.override(dogs.RULES, ["min_score=0.4"])
    options = Options(size=32, progress=False, force=True)
    assert len(prepare(stanford_dogs, tmp_path / "out", idle, options, rules=rules)) == 9
    assert idle.seen == []


def spoil_image(root: Path) -> None:
    file = root / "Images/n00-breed/n00_4.jpg"
    file.write_bytes(file.read_bytes()[:-200])


def lose_image(root: Path) -> None:
    (root / "Images/n00-breed/n00_4.jpg").unlink()


def add_image(root: Path) -> None:
    picture(0.9).save(root / "Images/n00-breed/stray.jpg")


def spoil_annotation(root: Path) -> None:
    (root / "Annotation/n00-breed/n00_4").write_text("<annotation><object>")


def box_outside(root: Path) -> None:
    file = root / "Annotation/n00-breed/n00_4"
    file.write_text(file.read_text().replace("<xmax>75", "<xmax>750"))


@pytest.mark.parametrize(
    ("spoil", "message", "left"),
    [
        (spoil_image, r"n00_4\.jpg is not a whole picture", 5),
        (lose_image, r"train_list\.mat names n00-breed/n00_4\.jpg, which .*Images does not hold", 5),
        (add_image, r"stray\.jpg is in neither list", 6),
        (spoil_annotation, r"n00_4 is not an annotation with boxes", 5),
        (box_outside, r"n00_4\.jpg: the box .* leads outside the image", 5),
    ],
)
def test_faulty_dogs_stop_or_are_left_out(
    stanford_dogs: Path, tmp_path: Path, spoil, message: str, left: int
) -> None:
    spoil(stanford_dogs)
    with pytest.raises(SourceError, match=message):
        prepare(stanford_dogs, tmp_path / "out", BrightThings())
    assert not (tmp_path / "out").exists()
    dataset = prepare(stanford_dogs, tmp_path / "out", BrightThings(), CAREFREE)
    assert len(dataset) == left
    assert len(dataset.manifest["skipped"]) == 1


def test_matlab_files_of_another_version(stanford_dogs: Path, tmp_path: Path) -> None:
    file = stanford_dogs / "train_list.mat"
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116) + bytes(8) + b"\x00\x02IM"
    for data, message in [(head + bytes(500), "7.3"), (b"nonsense", "not a MATLAB file")]:
        file.write_bytes(data)
        with pytest.raises(SourceError, match=message):
            prepare(stanford_dogs, tmp_path / "out", BrightThings())
    scipy.io.savemat(file, {"other": [1]})
    with pytest.raises(SourceError, match="no variable file_list"):
        prepare(stanford_dogs, tmp_path / "out", BrightThings())
    file.unlink()
    with pytest.raises(SourceError, match=r"does not exist|is missing"):
        prepare(stanford_dogs, tmp_path / "out", BrightThings())


@pytest.fixture
def stanford_cars(tmp_path: Path) -> Path:
    """Three training and two test cars in the devkit's own layout."""
    root = tmp_path / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    for split, count in (("train", 3), ("test", 2)):
        (root / f"cars_{split}").mkdir()
        names = [f"{number:05d}.jpg" for number in range(1, count + 1)]
        for name in names:
            picture(0.97).save(root / f"cars_{split}" / name)
        fields: list[tuple[str, Any]] = [(key, object) for key in (*cars.BOX, "fname")]
        if split == "train":
            fields.insert(4, ("class", object))
        rows = np.empty((1, count), dtype=fields)
        for row, name in zip(rows[0], names, strict=True):
            for key, value in zip(cars.BOX, (46, 26, 75, 55), strict=True):
                row[key] = value
            row["fname"] = name
            if split == "train":
                row["class"] = 7
        scipy.io.savemat(root / "devkit" / f"cars_{split}_annos.mat", {"annotations": rows})
    return root


def test_cars(stanford_cars: Path, tmp_path: Path) -> None:
    with Scratch(tmp_path / "out") as scratch:
        source = cars.read(stanford_cars, scratch)
    assert [item.box for item in source.items] == [(45, 25, 30, 30)] * 5
    assert [item.label for item in source.items] == ["7"] * 3 + [""] * 2
    rules = SelectionRules(categories=("dog",))
    dataset = pseudo.prepare(
        source, BrightThings(), rules, tmp_path / "out", QUIET, annotations=tmp_path / "a.jsonl", batch=2
    )
    assert dataset.name == "cars-remade"
    assert dataset.manifest["counts"] == {"train": 3, "test": 2}
    assert dataset.manifest["notes"]["kept_minus_paper"] == {"train": 3 - 6218, "test": 2 - 6104}
    assert cars.RULES.categories == ("car", "truck")


def test_real_devkit_and_cars(shared: Path, tmp_path: Path) -> None:
    """All 16,185 lines of the devkit, and the photos at hand with boxes as large as they are."""
    data = shared / "data/stanford_cars"
    train = cars.read_boxes(data / "devkit/cars_train_annos.mat")
    test = cars.read_boxes(data / "devkit/cars_test_annos.mat")
    assert (len(train), len(test)) == (8144, 8041)
    assert train[0] == ("00001.jpg", "14", (38, 115, 531, 260))
    photos = sorted((data / "cars_train_bboxcrop_BGRswapped").glob("*.jpg"))[:12]
    items = []
    for photo in photos:
        width, height = Image.open(photo).size
        items.append(pseudo.Item(photo.name, photo, "train", "", (0, 0, width, height)))
    source = pseudo.Source("cars-trial", items, [], cars.PAPER, cars.LICENCE, {})
    rules = SelectionRules(("dog",), 0, 9, 0, 0, 0, 1, 1)
    dataset = pseudo.prepare(
        source, BrightThings(), rules, tmp_path / "out", QUIET, annotations=tmp_path / "a.jsonl"
    )
    assert 0 < len(dataset) <= 12


def test_real_dog_names_and_photos(shared: Path, tmp_path: Path) -> None:
    """Stand-in photos under the names and boxes of Stanford Dogs' own layout."""
    photos = sorted((shared / "data/imagenet_sample_dogs").rglob("*.JPEG"))
    photos = photos or sorted((shared / "data/imagenet_sample_dogs").rglob("*.jp*g"))
    names = [
        line.split()[1] for line in (shared / "data/stanford_dogs_boxes/images.txt").read_text().splitlines()
    ]
    root = tmp_path / "dogs"
    for name, photo in zip(names[:10], photos, strict=False):
        image = Image.open(photo)
        (root / "Images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "Annotation" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "Images" / name).write_bytes(photo.read_bytes())
        (root / "Annotation" / name).with_suffix("").write_text(
            f"<annotation><object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{image.width}</xmax>"
            f"<ymax>{image.height}</ymax></bndbox></object></annotation>"
        )
    for split, part in (("train", names[:7]), ("test", names[7:10])):
        scipy.io.savemat(root / f"{split}_list.mat", {"file_list": np.array(part, dtype=object)[:, None]})
    rules = SelectionRules(("dog",), 0, 9, 0, 0, 0, 1, 1)
    dataset = prepare(root, tmp_path / "out", BrightThings(), rules=rules)
    assert 5 <= len(dataset) <= 10
    assert set(dataset.index["split"]) == {"train", "test"}


# --- the command and the real annotators -----------------------------------------------------------------------


def test_command(stanford_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    monkeypatch.setitem(annotators.ANNOTATORS, "bright", lambda weights, device: BrightThings())
    args = ["dogs", "--root", str(stanford_dogs), "--out", str(tmp_path / "out"), "--annotator", "bright"]
    result = CliRunner().invoke(main, [*args, "--size", "32", "--rule", "min_score=0.95"])
    assert result.exit_code == 0, result.output
    assert "dropped      3  best score too low" in result.output
    assert "the paper's 3,286 (-3,282)" in result.output
    assert open_dataset(tmp_path / "out", verify=True).name == "dogs-remade"
    assert (tmp_path / "out.annotations.jsonl").is_file()
    result = CliRunner().invoke(main, [*args[:3], "--out", str(tmp_path / "b"), "--annotator", "nobody"])
    assert result.exit_code == 2
    assert "choose from detectron2, torchvision" in result.output


@pytest.mark.parametrize("name", ["detectron2", "torchvision"])
def test_missing_packages_say_how_to_get_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in [key for key in sys.modules if key.split(".")[0] in ("detectron2", "torchvision")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataPrepError, match=r"README\.md tells: the extra 'maskrcnn'"):
        annotators.make_annotator(name, None, device="cpu")


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(DataPrepError, match="does not exist; give the weights' file"):
        annotators.make_annotator("detectron2", tmp_path / "none.pkl", device="cpu")


def test_mask_of_a_wrong_size_is_refused(stanford_dogs: Path, tmp_path: Path) -> None:
    class Careless(BrightThings):
        def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
            return [[Instance("dog", 1.0, np.ones((3, 3), bool))] for _ in images]

    with pytest.raises(SourceError, match="mask of another size"):
        prepare(stanford_dogs, tmp_path / "out", Careless())


def test_the_report_is_printed_from_the_manifest(stanford_dogs: Path, tmp_path: Path, capsys: Any) -> None:
    cli_pseudo.report(prepare(stanford_dogs, tmp_path / "out", BrightThings()))
    assert "kept         4  train" in capsys.readouterr().out
