"""The example of docs/add_a_method.md, taken from the page itself, becomes a method like any other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_methods_contract as contract

import baselines
from benchmarks.cells import make_cell, read_row
from benchmarks.data import Library
from benchmarks.registry import METHODS, MethodSpec
from benchmarks.runs import Runner

PAGE = Path(__file__).parents[1] / "docs" / "add_a_method.md"
NAME = "colour-threshold"


def blocks() -> list[str]:
    """The page's Python, in order: the file and the registry's entry."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Do what the page says, in a folder that counts as a part of baselines."""
    file, entry = blocks()
    target = re.search(r"Save this as `baselines/(\w+\.py)`", PAGE.read_text(encoding="utf-8"))
    assert target
    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / target[1]).write_text(file, encoding="utf-8")
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(folder)])
    for name, spec in eval(f"{{{entry}}}", {"MethodSpec": MethodSpec}).items():
        monkeypatch.setitem(METHODS, name, spec)
    return NAME


def test_the_example_is_about_thirty_lines() -> None:
    code = [line for line in blocks()[0].splitlines() if line.strip()]
    assert len(code) <= 36


def test_it_keeps_the_contract(added: str, tmp_path: Path) -> None:
    made: dict[Any, Any] = {}
    contract.test_the_registry_says_what_the_class_says(added)
    contract.test_fit_is_offered_no_labels(added)
    contract.test_an_unknown_variant_is_a_clear_value_error(added)
    for preset in contract.PRESETS:
        contract.test_settings_are_frozen_and_plain(added, "fixed", preset)
    for check in (
        contract.test_masks_are_a_partition,
        contract.test_one_image_is_enough,
        contract.test_segmenting_changes_nothing_and_repeats,
        contract.test_panels_are_pictures_of_the_images_size,
    ):
        check(added, "fixed", made, tmp_path)
    contract.test_segmenting_tells_how_far_it_is(added, made, tmp_path)


def test_it_finds_what_differs_from_the_border(added: str, tmp_path: Path) -> None:
    masks = contract.segment(contract.fit(added, "fixed", tmp_path), contract.images(3))
    truth = np.zeros(masks.shape[2:], bool)
    truth[5:11, 5:11] = True
    np.testing.assert_array_equal(masks[:, 0] > 0.5, np.stack([truth] * 3))


def test_it_becomes_a_row_of_its_own(added: str, smoke_data: Path, tmp_path: Path) -> None:
    cell = make_cell(added, "fixed", "tm-dsprites", "tm-dsprites", "test", "smoke", 0)
    runner = Runner(tmp_path / "runs", Library(smoke_data, "smoke"), device="cpu")
    assert runner.run(cell).status == "computed"
    (path,) = (tmp_path / "runs").glob("cells/*/row.json")
    row = read_row(path)
    assert (row.method, row.protocol) == (NAME, "unmatched")
    assert 0 <= row.iou <= row.dice <= 1
