"""Dogs: the publisher's own layout, annotation that resumes, the commands, missing annotators."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner
from fake_annotator import BrightThings, picture
from PIL import Image, ImageChops

from data_prep import annotators, cli_pseudo, dogs, pseudo, selection
from data_prep.__main__ import main
from data_prep.annotations import Instance
from data_prep.annotators import AnnotatorError
from data_prep.archives import Scratch
from data_prep.build import Options
from data_prep.errors import DataPrepError, SourceError
from data_prep.store import open_dataset, sha256_of

QUIET = Options(size=32, progress=False, workers=2)
CAREFREE = Options(size=32, progress=False, workers=2, keep_going=True)


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


def test_of_several_boxes_the_largest_by_area_counts(tmp_path: Path) -> None:
    boxes = [(1, 1, 3, 90), (45, 25, 75, 55), (0, 0, 80, 5)]  # the tallest, the largest, the widest
    keys = ("xmin", "ymin", "xmax", "ymax")
    objects = [
        "<object><bndbox>"
        + "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, box, strict=True))
        + "</bndbox></object>"
        for box in boxes
    ]
    (tmp_path / "dog").write_text(f"<annotation>{''.join(objects)}</annotation>")
    assert dogs.read_box(tmp_path / "dog") == (45, 25, 30, 30)


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
    assert notes["kept_list_sha256"] == sha256_of(dataset.path / "kept.txt")
    assert (dataset.masks[0] == 1).mean() == pytest.approx((30 / 44) ** 2, abs=0.05)  # half-side int(22.5)
    dataset.verify()
    (dataset.path / "kept.txt").write_text("others")
    with pytest.raises(DataPrepError, match=r"kept\.txt changed"):
        dataset.verify()


def test_a_network_that_fails_is_one_sentence_and_what_it_made_is_kept(
    stanford_dogs: Path, tmp_path: Path
) -> None:
    class OutOfMemory(BrightThings):
        def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
            if len(self.seen) == 2:
                raise RuntimeError("CUDA out of memory")
            return super().__call__(images)

    with pytest.raises(
        AnnotatorError, match=r"the network failed \(CUDA out of memory\); try a lower --batch"
    ):
        prepare(stanford_dogs, tmp_path / "out", OutOfMemory(), batch=2)
    rest = BrightThings()
    prepare(stanford_dogs, tmp_path / "out", rest, batch=2)
    assert sum(rest.seen) == 9 - 4


class ShrinkingDogs:
    """Finds a cat in a corner of every image and then the dog, a column less of it each time."""

    def __init__(self) -> None:
        self.count = 0

    def settings(self) -> dict[str, Any]:
        return {"annotator": "shrinking dogs"}

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        found = []
        for image in images:
            cat, dog = np.zeros(image.shape[:2], bool), np.zeros(image.shape[:2], bool)
            cat[:20, :20], dog[25:55, 45 : 75 - self.count] = True, True
            found.append([Instance("cat", 0.99, cat), Instance("dog", 0.95, dog)])
            self.count += 1
        return found


def test_each_image_has_its_own_mask_of_the_instance_that_was_chosen(
    stanford_dogs: Path, tmp_path: Path
) -> None:
    dataset = prepare(stanford_dogs, tmp_path / "out", ShrinkingDogs())
    columns = (dataset.masks[:] > 0).any(axis=1).sum(axis=1)
    expected = (30 - np.arange(9)) * 32 / 44  # the crop's 44 columns become 32
    np.testing.assert_allclose(columns, expected, atol=1)
    assert ((dataset.masks[:] > 0).any(axis=2).sum(axis=1) == columns[0]).all()


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


def test_an_image_lost_after_its_annotation_is_in_no_list(stanford_dogs: Path, tmp_path: Path) -> None:
    prepare(stanford_dogs, tmp_path / "out", BrightThings())
    shutil.rmtree(tmp_path / "out")
    spoil_image(stanford_dogs)
    dataset = prepare(stanford_dogs, tmp_path / "out", BrightThings(), CAREFREE)
    kept = (dataset.path / "kept.txt").read_text().split()
    assert kept == dataset.index["id"].tolist()
    assert sum(dataset.manifest["notes"]["kept"].values()) == len(dataset) == 5


def test_a_picture_that_is_another_one_now_is_annotated_anew(stanford_dogs: Path, tmp_path: Path) -> None:
    before = prepare(stanford_dogs, tmp_path / "out", BrightThings())
    file = stanford_dogs / "Images/n00-breed/n00_4.jpg"
    with Image.open(file) as opened:
        ImageChops.offset(opened, 5, 0).save(file, quality=98)
    again, options = BrightThings(), Options(size=32, progress=False, force=True)
    after = prepare(stanford_dogs, tmp_path / "out", again, options)
    assert again.seen == [1]
    row = after.index["id"].tolist().index("n00-breed/n00_4.jpg")
    found = after.images[row, :, :, 1] > 128
    assert ((after.masks[row] > 0) != found).mean() < 0.02
    assert ((before.masks[row] > 0) != found).mean() > 0.05
    others = [other for other in range(len(after)) if other != row]
    np.testing.assert_array_equal(after.masks[others], before.masks[others])


def test_an_annotation_that_does_not_say_of_which_picture_is_made_anew(
    stanford_dogs: Path, tmp_path: Path
) -> None:
    prepare(stanford_dogs, tmp_path / "out", BrightThings())
    file = tmp_path / "out.a"
    head, first, *rest = file.read_text().splitlines()
    entry = json.loads(first)
    del entry["picture"]
    file.write_text("\n".join([head, json.dumps(entry), *rest, ""]))
    again = BrightThings()
    prepare(stanford_dogs, tmp_path / "out", again, Options(size=32, progress=False, force=True))
    assert again.seen == [1]


def test_where_no_image_passes_the_rule_is_named_and_the_annotations_stay(
    stanford_dogs: Path, tmp_path: Path
) -> None:
    rules = selection.override(dogs.RULES, ["categories=Dog"])
    with pytest.raises(SourceError, match=r"9 of 9 are dropped by 'no instance of the category'; .*--rule"):
        prepare(stanford_dogs, tmp_path / "out", BrightThings(), rules=rules)
    idle = BrightThings()
    assert len(prepare(stanford_dogs, tmp_path / "out", idle)) == 6
    assert idle.seen == []


def test_other_rules_need_no_second_annotation(stanford_dogs: Path, tmp_path: Path) -> None:
    prepare(stanford_dogs, tmp_path / "out", BrightThings())
    idle = BrightThings()
    rules = selection.override(dogs.RULES, ["min_score=0.4", "same_thing=0.6"])
    options = Options(size=32, progress=False, force=True)
    dataset = prepare(stanford_dogs, tmp_path / "out", idle, options, rules=rules)
    assert len(dataset) == 9
    recorded = dataset.manifest["settings"]["rules"]
    assert (recorded["min_score"], recorded["same_thing"]) == (0.4, 0.6)
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


def lose_annotation(root: Path) -> None:
    (root / "Annotation/n00-breed/n00_4").unlink()


def no_object(root: Path) -> None:
    (root / "Annotation/n00-breed/n00_4").write_text("<annotation></annotation>")


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
        (lose_annotation, r"n00_4 is missing", 5),
        (no_object, r"n00_4 names no object", 5),
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


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([3, 4], "lists what is no file name"),
        (["n00-breed/n00_0.jpg"] * 2, "which was listed before"),
    ],
)
def test_odd_lists_of_dogs(stanford_dogs: Path, tmp_path: Path, names: list[Any], message: str) -> None:
    scipy.io.savemat(stanford_dogs / "train_list.mat", {"file_list": np.array(names, dtype=object)[:, None]})
    with pytest.raises(SourceError, match=message):
        prepare(stanford_dogs, tmp_path / "out", BrightThings())


def test_a_list_of_one_dog(stanford_dogs: Path) -> None:
    file = stanford_dogs / "train_list.mat"
    scipy.io.savemat(file, {"file_list": np.array(["n00-breed/n00_0.jpg"], dtype=object)[:, None]})
    assert dogs.read_list(file) == ["n00-breed/n00_0.jpg"]


def test_command(stanford_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_stopped_command_says_what_it_goes_on_with(
    stanford_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(annotators.ANNOTATORS, "bright", lambda weights, device: BrightThings(stop_after=2))
    args = ["dogs", "--root", str(stanford_dogs), "--out", str(tmp_path / "out"), "--annotator", "bright"]
    result = CliRunner().invoke(main, [*args, "--batch", "2"])
    assert result.exit_code == 130
    kept = tmp_path / "out.annotations.jsonl"
    assert f"Stopped; {kept} keeps what was annotated: run the same command again." in result.output
    assert len(kept.read_text().splitlines()) == 1 + 2
    assert {file.name for file in tmp_path.iterdir()} == {"stanford_dogs", kept.name}


@pytest.mark.parametrize("name", ["detectron2", "torchvision"])
def test_missing_packages_say_how_to_get_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
