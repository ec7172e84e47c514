"""DRC from Python: what is asked of it wrongly is one sentence, and nothing is taken for something else."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, block_pictures
from training_helpers import train_method

from drc import DRC
from drc.config import configure, tell_near_name
from drc.model import DRCModel
from drc.tensors import matrix_products_in_tf32


def untrained() -> DRC:
    method = DRC()
    method.config, method.seed, method.device, method.model = SMOKE, 0, "cpu", DRCModel(SMOKE)
    return method


@pytest.mark.parametrize("asked", ["segment_files", "segment_into"])
def test_a_single_path_is_not_taken_letter_by_letter(asked: str, tmp_path: Path) -> None:
    rest = (tmp_path / "out",) if asked == "segment_into" else ()
    for path in ("/photos", Path("/photos")):
        with pytest.raises(TypeError, match=rf"{asked} takes a list of files: \['/photos'\]"):
            getattr(untrained(), asked)(path, *rest)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked",
    [
        lambda method, folder: method.segment(block_pictures(2)),
        lambda method, folder: method.segment_files([folder / "a.jpg"]),
        lambda method, folder: method.segment_into([folder], folder / "out"),
        lambda method, folder: method.panels(block_pictures(2)),
        lambda method, folder: method.save(folder / "model.pt"),
    ],
    ids=["segment", "segment_files", "segment_into", "panels", "save"],
)
def test_what_needs_a_model_says_so(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no model yet: call fit, or open one with DRC\.load"):
        asked(DRC(), tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5, None, "3"])
def test_a_seed_that_is_none_is_named(seed: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the seed .* is no whole number from 0 to 2\*\*63 - 1"):
        train_method(DRC(), block_pictures(), SMOKE, tmp_path, seed=seed)


def test_a_seed_of_numpy_that_is_set_later_is_the_number_too(tmp_path: Path) -> None:
    method = untrained()
    method.seed = np.int64(3)
    method.save(tmp_path / "model.pt")
    assert DRC.load(tmp_path / "model.pt").seed == 3
    with pytest.raises(ValueError, match="the seed -1 is no whole number"):
        method.seed = -1


def test_a_model_that_is_loaded_in_inference_mode_infers(tmp_path: Path) -> None:
    untrained().save(tmp_path / "model.pt")
    expected = DRC.load(tmp_path / "model.pt").segment(block_pictures(2))
    with torch.inference_mode():
        found = DRC.load(tmp_path / "model.pt").segment(block_pictures(2))
    np.testing.assert_array_equal(found, expected)


def test_a_process_that_has_chosen_tf32_by_its_later_name_trains(tmp_path: Path) -> None:
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this PyTorch has the earlier name alone")
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        train_method(DRC(), block_pictures(), replace(SMOKE, train_steps=1), tmp_path, seed=0)
        for device in ("cpu", "cuda"):
            with matrix_products_in_tf32(torch.device(device)):
                assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_a_seed_of_numpy_is_the_number_and_progress_may_be_left_out(tmp_path: Path) -> None:
    ends = []
    for seed in (3, np.int64(3)):
        method, folder = DRC(), tmp_path / type(seed).__name__
        method.fit(block_pictures(), config=SMOKE, seed=seed, device="auto", checkpoint_dir=folder)
        ends.append(DRC.load(folder).model.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
def test_a_device_that_is_not_there_is_named(device: str, tmp_path: Path) -> None:
    said = f"the device '{device}' is not usable here; choose cpu, auto"
    with pytest.raises(ValueError, match=said):
        DRC().fit(block_pictures(), config=SMOKE, seed=0, device=device, checkpoint_dir=tmp_path)
    untrained().save(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=said):
        DRC.load(tmp_path / "model.pt", device=device)


def test_a_list_of_arrays_is_no_array() -> None:
    with pytest.raises(ValueError, match=r"the images are list: give a NumPy array of uint8, \(N, H, W, 3\)"):
        untrained().segment([image for image in block_pictures(2)])  # type: ignore[arg-type]  # noqa: C416


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tm_dsprites", "tm-dsprites"),
        ("tm-dsprite", "tm-dsprites"),
        ("data/tm-dsprites-32", "tm-dsprites"),
        ("CLEVR6", "clevr6"),
        ("photos", None),
        ("tm-dsprites-mine", None),
        ("birds_2", None),  # it has the settings that it may be meant to have
    ],
)
def test_a_name_that_is_nearly_a_data_set_of_the_paper_is_told(
    name: str, meant: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tell_near_name.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            configure(variant="full", preset="quick", dataset=name, image_size=32)
    said = [f"{name!r} has the settings of birds; those of {meant} go by that name"] if meant else []
    assert [record.message for record in caplog.records] == said
