"""python -m drc train --set: settings changed by name, and those that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, call, make_data
from training_helpers import train_method

from drc import DRC, fast
from drc.config import DRCConfig, configure
from drc.prepared import open_training_images
from drc.run_folder import RunProgress
from drc.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("prepared") / "sprites")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("width", "write --set width=VALUE"),
        ("width=none", "the setting width cannot be 'none'; it is a whole number from 1 to 1e12"),
        ("batch_size=0", "the setting batch_size cannot be 0; it is a whole number from 1"),
        ("batch_size=2000000000000", "it is a whole number from 1 to 1e12"),
        ("train_images=0", "it is a whole number from 1 to 1e12 or none"),
        ("lr_lebm=-1", "it is a number from 0"),
        ("sigma=nan", "it is a number above 0"),
        ("sigma=0", "it is a number above 0"),
        ("mask_bias=inf", "it is a number from -1e12 to 1e12"),
        ("inference_last_step_size=0", "it is a number above 0"),
        ("sampler_precision=float16", "it is float32 or bfloat16"),
        ("momentum=1", "it is a number from 0 to below 1"),
        ("restart=1.5", "it is a number from 0 to 1"),
        ("reassign=perhaps", "it is true or false"),
        ("likelihood=l3", "it is l1 or l2"),
        ("no_such=1", "there is no setting 'no_such'; there are start"),
        ("steps=10", "there is no setting 'steps' (did you mean posterior_steps or prior_steps or"),
        ("momentun=0.5", "there is no setting 'momentun' (did you mean momentum?)"),
        ("image_size=32", "there is no setting 'image_size'"),
    ],
)
def test_a_setting_out_of_range_is_told_what_it_may_be(
    data: Path, tmp_path: Path, change: str, said: str
) -> None:
    result = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", "--set", change)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["width=1000000000", "z_fg=1000000000000"])  # 10^20 and 10^15 bytes
def test_settings_that_no_memory_holds_are_refused(data: Path, tmp_path: Path, change: str) -> None:
    result = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", "--set", change)
    assert result.exit_code == 2
    assert "there is not enough memory for this" in result.output


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_a_step_that_lacks_memory_is_a_refusal(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(self: Trainer) -> None:
        raise error

    monkeypatch.setattr(Trainer, "train_step", fails)
    result = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke")
    assert result.exit_code == 2
    assert "not enough memory" in result.output


def test_a_defect_is_not_taken_for_a_lack_of_memory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Trainer) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Trainer, "train_step", fails)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke")


def test_settings_are_changed_by_name(data: Path, tmp_path: Path) -> None:
    changes = ["mask_bias=-1", "train_images=none", "likelihood=l2", "reassign=false", "train_steps=1"]
    changes += ["sampler_precision=bfloat16"]
    options = [text for change in changes for text in ("--set", change)]
    result = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", *options)
    assert result.exit_code == 0, result.output
    expected = replace(SMOKE, mask_bias=-1.0, likelihood="l2", reassign=False, train_steps=1)
    expected = replace(expected, sampler_precision="bfloat16")
    assert DRC.load(tmp_path / "run").config == expected


def test_samples_of_a_run_are_painted_from_the_chains_of_its_posterior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(np.zeros((4, 16, 16, 3), np.uint8), SMOKE, seed=0)
    painted: list[torch.Tensor] = []
    render = fast.render
    monkeypatch.setattr(fast, "render", lambda model, z: (painted.append(z), render(model, z))[1])
    RunProgress(tmp_path, trainer)(1, 1, reconstruction=0.5)
    assert torch.equal(painted[0], trainer.posterior_chains)
    assert (tmp_path / "samples-00000001.png").exists()


@pytest.mark.parametrize("preset", ["paper", "quick"])
def test_settings_go_by_whole_names_of_data_sets(preset: str) -> None:
    def of(dataset: str) -> DRCConfig:
        return configure(variant="full", preset=preset, dataset=dataset, image_size=32)

    assert of("tm-dsprites-of-mine") == of("tm-dsprites") != of("mine")
    for name in ("carsick", "clevr6x", "tm-dsprites2"):
        assert of(name) == of("mine") == of("birds")


def test_a_run_is_trained_opened_and_saved_with_the_seed_that_was_asked_for(
    data: Path, tmp_path: Path
) -> None:
    words = ("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", "--device", "cpu")
    assert call(*words, "--seed", 3).exit_code == 0
    images = open_training_images(data, "train").images
    method = train_method(DRC(), images, SMOKE, tmp_path / "fit", seed=3)
    opened = DRC.load(tmp_path / "run")
    opened.save(tmp_path / "model.pt")
    for other in (opened, DRC.load(tmp_path / "model.pt")):
        assert other.seed == 3
        np.testing.assert_array_equal(other.segment(images[:2]), method.segment(images[:2]))
