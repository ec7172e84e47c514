"""Settings are checked where they are made, and those that pass are what they were."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, call, make_data, make_run, smoke
from training_helpers import train_method

from drc import DRC
from drc.build import build_trainer
from drc.checkpoint import CheckpointError, load_newest, save_checkpoint
from drc.config import BUDGET_CHANGES, VARIANTS, DRCConfig, configure
from drc.langevin import langevin


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("likelihood", "gauss", "the setting likelihood cannot be 'gauss'; it is l1 or l2"),
        ("gamma_per", "pix", "the setting gamma_per cannot be 'pix'; it is channel or pixel"),
        ("sampler_precision", "fp16", "cannot be 'fp16'; it is float32 or bfloat16"),
        ("inference_masks", "responsibility", "cannot be 'responsibility'; it is mixing or responsibilities"),
        ("inference_masks", ["mixing"], r"cannot be \['mixing'\]; it is mixing or responsibilities"),
        ("momentum", 1.0, "the setting momentum cannot be 1.0; it is a number from 0 to below 1"),
        ("inference_momentum", -0.1, "cannot be -0.1; it is a number from 0 to below 1"),
        ("inference_chains", 0, "inference_chains cannot be 0; it is a whole number from 1 to 1e12"),
        ("batch_size", 8.0, "batch_size cannot be 8.0; it is a whole number"),
        ("batch_size", True, "batch_size cannot be True; it is a whole number"),
        ("batch_size", np.int64(8), "batch_size cannot be .*8.*; it is a whole number"),
        ("image_size", "16", "image_size cannot be '16'; it is 8, 16, 32"),
        (
            "image_size",
            4,
            "image_size cannot be 4; it is 8, 16, 32, ..., which are 4 times 2, 4, 8, ..., up to 16,384$",
        ),
        ("train_images", 0, "train_images cannot be 0; it is a whole number from 1 to 1e12 or none"),
        ("prior_step_size", 0, "prior_step_size cannot be 0; it is a number above 0"),
        ("posterior_step_fall", 0.0, "it is a number above 0"),
        ("lr_lebm", None, "lr_lebm cannot be None; it is a number from 0 to 1e12"),
        ("lr_lebm", np.array([1.0, 2.0]), "lr_lebm cannot be array"),
        ("temperature", float("nan"), "temperature cannot be nan; it is a number from 0"),
        ("mask_bias", float("inf"), "mask_bias cannot be inf; it is a number from -1e12 to 1e12"),
        ("restart", 1.5, "it is a number from 0 to 1"),
        ("start_scale", -1.0, "start_scale cannot be -1.0; it is a number from 0"),
        ("reassign", "no", "reassign cannot be 'no'; it is true or false"),
        ("amortised", 1, "amortised cannot be 1; it is true or false"),
    ],
)
def test_a_setting_that_cannot_be_is_told_where_it_is_made(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SMOKE, **{name: value})


@pytest.mark.parametrize("preset", BUDGET_CHANGES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_stay_as_they_are_given_and_come_back_from_json(preset: str, variant: str) -> None:
    config = configure(variant=variant, preset=preset, dataset="tm-dsprites", image_size=32)
    back = json.loads(json.dumps(asdict(config)))
    assert asdict(DRCConfig(**back)) == back
    assert DRCConfig(**back) == config
    assert hash(DRCConfig(**back)) == hash(config)
    assert all(type(value) is type(getattr(config, name)) for name, value in back.items())


def test_a_number_is_a_number_with_a_point_and_without() -> None:
    """Every setting with a point that may be whole, as whole and not: the same step and the same masks."""
    whole = {f.name: 1 for f in fields(DRCConfig) if f.type == "float"}
    whole |= {"momentum": 0, "inference_momentum": 0, "mask_bias": -1}
    pictures = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    found = []
    for values in (whole, {name: float(value) for name, value in whole.items()}):
        trainer = build_trainer(pictures, replace(SMOKE, **values), seed=0)
        found.append((trainer.train_step(), trainer.posterior_chains, trainer.prior_chains))
    assert type(trainer.config.momentum) is float
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("idle", [{"pseudo_label_weight": 0.1}, {"inference_chains": 2}])
def test_amortised_inference_refuses_what_it_would_ignore(idle: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set pseudo_label_weight to 0 and inference_chains to 1"):
        replace(smoke("amortised-inference"), **idle)


@pytest.mark.parametrize("size", [1, 1.0, np.float32(1), [1, 1.0]])
def test_a_chain_takes_any_number_for_a_step_size(size: Any) -> None:
    noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    ends = [langevin(lambda z: z.square().sum(1), torch.ones(3, 4), noise, step) for step in (size, 1.0)]
    assert torch.equal(*ends)


def test_a_checkpoint_of_settings_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    pictures = np.zeros((8, 16, 16, 3), np.uint8)
    trainer = build_trainer(pictures, SMOKE, seed=0)
    state = trainer.state()
    save_checkpoint(tmp_path, 0, state | {"config": state["config"] | {"likelihood": "gauss"}})
    assert load_newest(tmp_path) is not None
    said = "the setting likelihood cannot be 'gauss'; it is l1 or l2"
    with pytest.raises(CheckpointError, match=said):
        DRC.load(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        train_method(DRC(), pictures, SMOKE, tmp_path)


def test_a_damaged_record_and_a_number_too_large_are_one_sentence(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    run = make_run(data, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"settings": config["settings"] | {"momentum": 1}}))
    result = call("train", "--data", data, "--out", run, "--preset", "smoke")
    assert result.exit_code == 2
    assert "holds a run that differs in momentum" in " ".join(result.output.split())
    for option, name in (("--steps", "inference_steps"), ("--batch-size", "inference_batch_size")):
        result = call("segment", data, "--checkpoint", run, "--out", tmp_path / "cut", option, 10**13)
        assert result.exit_code == 2
        said = f"the setting {name} cannot be 10000000000000; it is a whole number from 1 to 1e12"
        assert said in " ".join(result.output.split())
    assert not (tmp_path / "cut").exists()
