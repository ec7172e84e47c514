"""Stanford Cars: images, boxes and official split; masks are re-made by a segmenter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.archives import Scratch
from data_prep.build import Fault
from data_prep.catalogue import CATALOGUE
from data_prep.errors import SourceError
from data_prep.pictures import list_pictures
from data_prep.pseudo import Item, Source
from data_prep.selection import SelectionRules
from data_prep.store import sha256_of
from data_prep.tables import read_mat

NAME = "cars-remade"
PAPER = CATALOGUE["cars"].counts
RULES = SelectionRules(categories=("car", "truck"))
"""COCO calls a pick-up a truck; Stanford Cars holds many."""
LICENCE = (
    "Stanford Cars (Krause et al., 2013): non-commercial research. "
    "Masks re-made by a segmenter: neither human nor the paper's."
)
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def read(root: Path, scratch: Scratch) -> Source:
    """The images of both official parts with their boxes.

    root: holds cars_train, cars_test and devkit, or the archives cars_train.tgz, cars_test.tgz and
    car_devkit.tgz. Raises SourceError on missing parts and damaged annotation files.
    """
    devkit = scratch.part(root, "devkit", "car_devkit.tgz")
    items, faults, hashes = [], [], {}
    for split in ("train", "test"):
        images = scratch.part(root, f"cars_{split}", f"cars_{split}.tgz")
        file = devkit / f"cars_{split}_annos.mat"
        present, unnamed = list_pictures(images)
        faults += unnamed
        listed = set()
        for name, label, box in read_boxes(file):
            if name in listed:
                raise SourceError(f"{file} names {name} twice; take the publisher's file")
            listed.add(name)
            if name not in present:
                faults.append(Fault(name, f"{file} names {name}, which {images} does not hold"))
            elif box is None:
                faults.append(Fault(name, f"{file} has a box that is not four numbers, that of {name}"))
            else:
                items.append(Item(f"cars_{split}/{name}", present[name], split, label, box))
        hashes[file.name] = sha256_of(file)
        faults += [
            Fault(name, f"{present[name]} is not in {file}") for name in sorted(present.keys() - listed)
        ]
    return Source(NAME, items, faults, PAPER, LICENCE, hashes)


def read_boxes(file: Path) -> list[tuple[str, str, tuple[float, float, float, float] | None]]:
    """File name, class number ("" where the file has none) and box (x, y, width, height) of each image.

    The file gives corners counted from 1, both inside the box; a box that is not four numbers is None. Raises
    SourceError.
    """
    rows = np.atleast_1d(read_mat(file, "annotations"))
    missing = [key for key in (*BOX, "fname") if key not in (rows.dtype.names or ())]
    if missing:
        raise SourceError(f"{file} has no field {', '.join(missing)}; is it the devkit's own file?")
    found = []
    for row in rows:
        label = str(row["class"]) if "class" in (rows.dtype.names or ()) else ""
        found.append((str(row["fname"]), label, _box(row)))
    return found


def _box(row: np.void) -> tuple[float, float, float, float] | None:
    try:
        left, top, right, bottom = (float(row[key]) for key in BOX)
    except (TypeError, ValueError):
        return None
    return left - 1, top - 1, right - left + 1, bottom - top + 1
