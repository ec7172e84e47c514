"""Stanford Dogs: images, boxes and official lists; masks are re-made by a segmenter."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from data_prep.archives import Scratch
from data_prep.build import Fault
from data_prep.catalogue import CATALOGUE
from data_prep.errors import ItemError, SourceError, one_line
from data_prep.pictures import list_pictures
from data_prep.pseudo import Item, Source
from data_prep.selection import SelectionRules
from data_prep.store import sha256_of
from data_prep.tables import read_mat

NAME = "dogs-remade"
PAPER = CATALOGUE["dogs"].counts
RULES = SelectionRules(categories=("dog",))
LICENCE = (
    "Stanford Dogs (Khosla et al., 2011), images from ImageNet: non-commercial research. "
    "Masks re-made by a segmenter: neither human nor the paper's."
)
LISTS = {"train": "train_list.mat", "test": "test_list.mat"}


def read(root: Path, scratch: Scratch) -> Source:
    """The images of the official lists with their boxes, from the folder that holds the three archives.

    root: holds images.tar, annotation.tar and lists.tar, or what they unpack to (Images, Annotation, lists or
    the .mat files themselves). Raises SourceError on missing parts and damaged lists.
    """
    images = scratch.part(root, "Images", "images.tar")
    annotations = scratch.part(root, "Annotation", "annotation.tar")
    lists = root if (root / LISTS["train"]).is_file() else _lists(root, scratch)
    present, faults = list_pictures(images)
    items, listed = [], set()
    for split, name in LISTS.items():
        for file in read_list(lists / name):
            if file in listed:
                raise SourceError(
                    f"{lists / name} names {file}, which was listed before; take the publisher's lists."
                )
            listed.add(file)
            if file not in present:
                faults.append(Fault(file, f"{lists / name} names {file}, which {images} does not hold"))
                continue
            try:
                box = read_box(annotations / Path(file).with_suffix(""))
            except ItemError as error:
                faults.append(Fault(file, str(error)))
                continue
            items.append(Item(file, present[file], split, file.split("/")[0], box))
    faults += [Fault(file, f"{present[file]} is in neither list") for file in sorted(present.keys() - listed)]
    hashes = {name: sha256_of(lists / name) for name in LISTS.values()}
    return Source(NAME, items, faults, PAPER, LICENCE, hashes)


def _lists(root: Path, scratch: Scratch) -> Path:
    if (root / "lists").is_dir():
        return root / "lists"
    return scratch.open(root / "lists.tar")


def read_list(file: Path) -> list[str]:
    """The images that one of the lists names. Raises SourceError."""
    names = np.atleast_1d(read_mat(file, "file_list")).tolist()
    if not all(isinstance(name, str) for name in names):
        raise SourceError(f"{file} lists what is no file name; take the publisher's list.")
    return names


def read_box(file: Path) -> tuple[float, float, float, float]:
    """The largest annotated box (x, y, width, height) of a Stanford Dogs annotation. Raises ItemError."""
    try:
        tree = ElementTree.parse(file)
        boxes = []
        for node in tree.iterfind("object/bndbox"):
            left, top, right, bottom = (
                float(node.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append((left, top, right - left, bottom - top))
    except FileNotFoundError as error:
        raise ItemError(f"{file} is missing") from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise ItemError(f"{file} is not an annotation with boxes ({one_line(error)})") from error
    if not boxes:
        raise ItemError(f"{file} names no object")
    return max(boxes, key=lambda box: box[2] * box[3])
