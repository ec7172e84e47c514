"""Checkpoints that are not what they should be, and trainings that would write such ones."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, call, make_data
from training_helpers import quiet

import drc.tensors
from drc.checkpoint import CheckpointError, checkpoint_paths, drop_remains, load_newest, save_checkpoint
from drc.cli import resolve_device
from drc.method import DRC
from drc.tensors import DivergedError
from drc.trainer import Trainer, train

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)


def without(name: str) -> Any:
    return lambda state: {k: v for k, v in state.items() if k != name}


FOREIGN = {
    "nothing": lambda state: {},
    "a later setting": lambda state: state | {"config": state["config"] | {"later": 1}},
    "no size of ours": lambda state: state | {"config": state["config"] | {"image_size": 33}},
    "no model": without("model"),
    "no chains": without("posterior_chains"),
    "no optimisers": without("optimisers"),
    "no step": without("step"),
    "another network": lambda state: state | {"model": {"weight": torch.zeros(1)}},
    "only a model, as `save` writes it": lambda state: {k: state[k] for k in ("config", "seed", "model")},
}
# Which hold a model to segment with, if no training to go on with:
MODELS = [
    FOREIGN[name] for name in ("no chains", "no optimisers", "no step", "only a model, as `save` writes it")
]


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_no_training_of_ours_is_refused_in_a_sentence(change: Any, tmp_path: Path) -> None:
    trainer = Trainer(IMAGES, SMOKE, seed=0)
    save_checkpoint(tmp_path / "checkpoints", 1, change(trainer.state() | {"step": 1}))
    with pytest.raises(CheckpointError, match="name another folder"):
        train(trainer, tmp_path / "checkpoints", quiet)
    if change in MODELS:
        assert DRC.load(tmp_path).config == SMOKE
    else:
        with pytest.raises(CheckpointError, match=str(tmp_path)):
            DRC.load(tmp_path)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, synced: list[int]) -> None:
    assert save_checkpoint(tmp_path, 1, {"step": 1}).stat().st_ino in synced


def test_what_killed_saves_left_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "step-00000001.tmp123").write_bytes(b"half")
    train(Trainer(IMAGES, SMOKE, seed=0), tmp_path, quiet)
    assert not list(tmp_path.glob("*.tmp*"))


@pytest.mark.parametrize("steps", [1, 9])
def test_exploded_weights_are_never_saved(steps: int, tmp_path: Path) -> None:
    config = replace(SMOKE, train_steps=steps, lr_generators=1e12)
    trainer = Trainer(IMAGES, config, seed=0)
    with pytest.raises(DivergedError, match=r"training diverged at step 1: .* no checkpoint yet"):
        train(trainer, tmp_path, quiet, checkpoint_seconds=-1)
    assert not checkpoint_paths(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e7])
def test_a_weight_that_is_no_number_or_beyond_measure_is_named(value: float) -> None:
    trainer = Trainer(IMAGES, SMOKE, seed=0)
    trainer.check_weights()
    with torch.no_grad():
        trainer.model.fg.content.weight[0, 0, 0, 0] = value
    with pytest.raises(DivergedError, match=r"fg\.content\.weight holds"):
        trainer.check_weights()


@pytest.mark.parametrize("sign", [1, -1])
def test_an_energy_explodes_in_either_direction(sign: int) -> None:
    trainer = Trainer(IMAGES, SMOKE, seed=0)
    trainer.check_finite({"energy_prior": sign * 9e5, "likelihood": sign * 2e6})
    with pytest.raises(DivergedError, match="energy_prior is"):
        trainer.check_finite({"energy_prior": sign * 2e6})


@pytest.mark.parametrize("row", [0, 255, 256, 299])
def test_the_hash_of_the_images_covers_all_that_are_trained_on(row: int) -> None:
    images = np.zeros((300, 16, 16, 3), np.uint8)
    before = Trainer(images, SMOKE, seed=0).images_sha256
    images[row, 0, 0, 0] = 1
    assert Trainer(images, SMOKE, seed=0).images_sha256 != before


def test_the_hash_of_the_images_covers_no_other() -> None:
    images = np.zeros((300, 16, 16, 3), np.uint8)
    images[299] = 1
    part = replace(SMOKE, train_images=299)
    assert Trainer(images, part, seed=0).images_sha256 == Trainer(0 * images, part, seed=0).images_sha256


def test_divergence_counts_steps_as_checkpoints_do(tmp_path: Path) -> None:
    def spoil(step: int, total: int, **values: float) -> None:
        if step == 2:
            with torch.no_grad():
                trainer.prior_chains.fill_(float("nan"))

    trainer = Trainer(IMAGES, replace(SMOKE, train_steps=9), seed=0)
    with pytest.raises(DivergedError, match=r"at step 3: .* the last checkpoint is .*step-00000002.pt"):
        train(trainer, tmp_path, spoil, checkpoint_seconds=-1)


@pytest.mark.parametrize("seed", [2**63, -1])
def test_a_seed_that_no_generator_takes_is_refused(seed: int, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    result = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", "--seed", seed)
    assert result.exit_code == 2
    assert "not in the range" in result.output


@pytest.mark.parametrize("device", ["meta", "hpu", "no-such"])
def test_devices_that_cannot_hold_a_number_are_refused(device: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    result = call("train", "--data", data, "--preset", "smoke", "--dry-run", "--device", device)
    assert result.exit_code == 2
    assert f"the device '{device}' is not usable here" in result.output


def test_a_gpu_that_cannot_be_used_is_not_what_auto_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for usable, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("drc.tensors.is_usable", lambda device, usable=usable: usable)
        assert drc.tensors.resolve_device("auto") == expected
    assert "there is a GPU that cannot be used" in caplog.text


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"step": step})

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("drc.checkpoint.zipfile.ZipFile", refuse)
    with pytest.raises(CheckpointError, match=r"step-0*2\.pt: cannot be read \(Permission denied\)"):
        load_newest(tmp_path)


def test_devices_of_another_kind_are_refused_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    for device in ("cpu", "cuda:0"):
        assert resolve_device(device) == device
    for device in ("mps", "xpu:1"):
        with pytest.raises(click.UsageError, match=f"the device '{device}' is not usable here"):
            resolve_device(device)


DYING = """
import os, sys
from pathlib import Path
import torch
from drc.checkpoint import save_checkpoint

folder, place = Path(sys.argv[1]), sys.argv[2]
for step in (1, 2):
    save_checkpoint(folder, step, {"step": step})
save = torch.save

def half(state, file):
    save(state, file)
    file.truncate(file.tell() // 2)
    os._exit(9)

places = {"write": (torch, "save"), "fsync": (os, "fsync"), "name": (Path, "replace"), "drop": (Path, "unlink")}
setattr(*places[place], half if place == "write" else lambda *told, **more: os._exit(9))
save_checkpoint(folder, 3, {"step": 3})
"""


@pytest.mark.parametrize(("place", "newest"), [("write", 2), ("fsync", 2), ("name", 2), ("drop", 3)])
def test_a_process_that_dies_within_a_save_loses_no_earlier_one(
    place: str, newest: int, tmp_path: Path
) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), place], check=False)
    assert died.returncode == 9
    assert load_newest(tmp_path) == {"step": newest}
    drop_remains(tmp_path)
    save_checkpoint(tmp_path, 4, {"step": 4})
    left = [f"step-0000000{step}.pt" for step in (newest, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_checkpoints_lie_so_many_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes ten seconds further whenever it is read."""
    saved: list[int] = []
    monkeypatch.setattr("drc.trainer.time", SimpleNamespace(monotonic=count(0, 10).__next__))
    monkeypatch.setattr("drc.trainer.save_checkpoint", lambda folder, step, state: saved.append(step))
    train(Trainer(IMAGES, replace(SMOKE, train_steps=20), seed=0), tmp_path, quiet, checkpoint_seconds=45)
    assert 3 <= len(saved) <= 6
    assert saved[-1] == 20
