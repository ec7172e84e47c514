"""A list of the images to take: what is prepared with it is what a folder of these files alone gives."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.registry import DATASETS
from data_prep import folder
from data_prep.__main__ import main
from data_prep.build import Options
from data_prep.errors import SourceError
from data_prep.store import PreparedDataset, open_dataset

RESULTS = Path(__file__).parents[1] / "results"
NAMED = ("b/c 1.jpg", "a1.jpg", "a10.jpg", "a2.jpg", "d.e.jpg", "z.jpg", "a3.jpg")
OTHERS = ("a0.jpg", "a11.jpg", "b/c.jpg", "b/d.jpg", "y.jpg")


def write_pairs(root: Path, names: tuple[str, ...]) -> None:
    """Images of noise, 40 x 30 pixels, with masks of the labels 1 to 3; a name has the same content in every folder."""
    for name in names:
        draw = np.random.default_rng(list(name.encode()))
        for place, shape, high in (("images", (30, 40, 3), 256), ("masks", (30, 40), 4)):
            file = (root / place / name).with_suffix(".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, high, shape, dtype=np.uint8)).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All images and masks, as below `images` and `masks`."""
    write_pairs(tmp_path, NAMED + OTHERS)
    return tmp_path


def write_list(root: Path, text: str | bytes) -> Path:
    file = root / "list.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def prepare(root: Path, only: Path, **config: str) -> PreparedDataset:
    settings = folder.FolderConfig(mask_kind="labels", ratios=(50, 20, 30), **config)  # type: ignore[arg-type]
    options = Options(size=16, progress=False, workers=2)
    boxes = root / "boxes.csv" if config else None
    images, masks, out = (root / name for name in ("images", "masks", "out"))
    return folder.prepare(images, masks, out, settings, options, only=only, boxes_file=boxes)


def call(root: Path, out: str, *words: str | Path) -> Result:
    source = ("folder", "--images", root / "images", "--masks", root / "masks", "--size", "16")
    return CliRunner().invoke(main, [str(word) for word in (*source, "--out", root / out, *words)])


@pytest.mark.parametrize(
    "options",
    [
        ("--threshold", "1"),
        ("--threshold", "1", "--ratios", "60,20,20", "--seed", "3"),
        ("--mask-kind", "labels", "--ratios", "80,0,20", "--crop", "centre"),
        ("--mask-kind", "labels", "--foreground", "1,3", "--ratios", "1,1,1", "--crop", "box"),
    ],
    ids=" ".join,
)
def test_the_data_set_is_that_of_the_named_files_alone(
    root: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    write_pairs(tmp_path / "alone", NAMED)
    file = write_list(root, "\n".join(NAMED))
    chosen, alone = call(root, "out", *options, "--only", file), call(tmp_path / "alone", "out", *options)
    assert (chosen.exit_code, alone.exit_code) == (0, 0), chosen.output + alone.output
    made, wanted = (open_dataset(place / "out", verify=True) for place in (root, tmp_path / "alone"))
    assert len(made) == len(NAMED)
    assert made.sha256 == wanted.sha256
    assert made.manifest["settings"] == wanted.manifest["settings"]
    assert made.manifest["sources"] == {
        "images": str(root / "images"),
        "masks": str(root / "masks"),
        "only": str(file),
    }
    assert wanted.manifest["sources"].keys() == {"images", "masks"}


@pytest.mark.parametrize(
    "text",
    [
        "a10\na2\nz\n",
        "z.jpg\r\n\r\n  a2.PNG  \r\na10.png",
        "\ufeffa2\na2\nz.png\na10\na2.jpg\nz\n",
        "./a2 1 1\na10.jpg train\nz\n",
    ],
)
def test_names_are_read_as_in_lists_of_splits_whatever_their_order(root: Path, text: str) -> None:
    assert prepare(root, write_list(root, text)).index["id"].tolist() == ["a10", "a2", "z"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list\.txt names no image; write one name a line, or leave --only out"),
        ("\n \n\t\n", r"list\.txt names no image"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"list\.txt is not UTF-8 text \(byte 0\)"),
        ("a1\nq\n", r"images lacks 1 of the 2 images that .*list\.txt names, one a line \('q'\); add them"),
        ("s\na1\nt.jpg\nr\nq\ns\n", r"lacks 4 of the 5 images that .* \('q', 'r', 's', \.\.\.\); add them"),
        ("data_set,split,file\nmine,train,a1.jpg\n", r"lacks 2 of the 2 images .* \('data_set,split,file', "),
        ("\0\x1b[2J\n..jpg\n../images/a1\n/\n", r"lacks 4 of the 4 images .*, '\\x00\\x1b\[2J'|, \.\.\.\)"),
        ("x" * 200_000, r"lacks 1 of the 1 images .* \('x{60}'\);"),
    ],
)
def test_a_list_that_does_not_fit_the_folder_is_one_sentence(
    root: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(SourceError, match=message) as error:
        prepare(root, write_list(root, text))
    assert len(str(error.value)) < 400
    assert not (root / "out").exists()


def test_a_list_that_cannot_be_read_or_is_given_twice_over_is_refused(root: Path) -> None:
    for file, words in ((root / "none.txt", "is missing"), (root, "cannot be read (Is a directory)")):
        result = call(root, "out", "--only", file)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
        assert result.output.startswith("Error: ")
        assert words in result.output
    file = write_list(root, "a1")
    result = call(root, "out", "--only", file, "--train-list", file)
    assert result.exit_code == 2
    assert "list.txt is of no use beside lists of the splits" in result.output
    assert "the path is empty" in call(root, "out", "--only", "").output


def test_what_is_at_fault_matters_only_where_it_is_named(root: Path) -> None:
    (root / "masks" / "y.png").unlink()
    (root / "images" / "a0.png").write_text("no picture")
    (root / "images" / "a11.png").rename(os.fsdecode(os.fsencode(root / "images") + b"/caf\xe9.png"))
    for name, message in (("y", "masks has no mask called y"), ("a0", r"a0\.png is not a whole picture")):
        with pytest.raises(SourceError, match=message):
            prepare(root, write_list(root, f"a1\n{name}"))
    made = prepare(root, write_list(root, "\n".join(NAMED)))
    assert (len(made), made.manifest["skipped"]) == (len(NAMED), [])


def test_the_boxes_of_named_images_are_enough(root: Path) -> None:
    (root / "boxes.csv").write_text("stem,x,y,width,height\na1,5,5,9,9\na2,1,1,9,9\n")
    assert prepare(root, write_list(root, "a1\na2"), crop="box").index["id"].tolist() == ["a1", "a2"]


def test_the_lists_of_photographs_are_those_that_the_commands_take() -> None:
    named = defaultdict(list)
    with (RESULTS / "photographs.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            named[row["data_set"]].append(row["file"])
    assert {file.stem for file in (RESULTS / "photographs").iterdir()} == named.keys()
    for name, files in named.items():
        text = (RESULTS / "photographs" / f"{name}.txt").read_text(encoding="utf-8")
        assert text.splitlines() == files
        assert f" --only results/photographs/{name}.txt " in DATASETS[name].prepare


def test_the_split_of_the_listed_photographs_is_the_random_one() -> None:
    with (RESULTS / "photographs.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for name in ("ecssd", "pets"):
        told = {Path(row["file"]).stem: row["split"] for row in rows if row["data_set"] == name}
        config = folder.FolderConfig(ratios=(80, 0, 20))
        assert folder.random_split(sorted(told), config) == told
