"""An inference that was stopped goes on, and chains that are there are read and not sampled again."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cell_helpers import cell, folder_of, runner
from drc_helpers import SMOKE, block_pictures
from training_helpers import train_method

from benchmarks.cells import read_row
from benchmarks.runs import draw_live
from drc import kept, segment
from drc.method import DRC
from drc.model import DRCModel

CONFIG = replace(SMOKE, inference_steps=6, inference_chains=2, inference_batch_size=4)
CHAINS = 6  # of 12 images: three batches, two chains each


def trained(folder: Path, config: Any = CONFIG, seed: int = 0) -> DRC:
    return train_method(DRC(), block_pictures(12), config, folder, seed=seed)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every batch of chains that is sampled."""
    calls: list[int] = []
    whole = segment.infer

    def infer(*arguments: Any) -> Any:
        calls.append(len(arguments[2]))
        return whole(*arguments)

    monkeypatch.setattr(segment, "infer", infer)
    return calls


def test_an_inference_that_was_stopped_goes_on(sampled: list[int], tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole").segment(block_pictures(12))

    def stop(step: int, total: int) -> None:
        assert total == CHAINS * CONFIG.inference_steps
        if step > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped").segment(block_pictures(12), progress=stop)
    sampled.clear()
    seen: list[int] = []
    again = trained(tmp_path / "stopped")
    masks = again.segment(block_pictures(12), progress=lambda step, total: seen.append(step))
    np.testing.assert_array_equal(masks, whole)
    assert len(sampled) == CHAINS - 3
    assert seen == sorted(seen)
    assert seen[-1] == CHAINS * CONFIG.inference_steps
    assert again.kept_seconds > 0


@pytest.mark.parametrize("changes", [{"inference_masks": "responsibilities"}, {"inference_chains": 1}])
def test_chains_that_are_read_otherwise_are_not_sampled_again(
    changes: dict[str, Any], sampled: list[int], tmp_path: Path
) -> None:
    method = trained(tmp_path / "kept")
    method.segment(block_pictures(12))
    sampled.clear()
    method.config = replace(CONFIG, **changes)
    masks = method.segment(block_pictures(12))
    assert not sampled
    afresh = DRC.load(tmp_path / "kept")
    afresh.config = method.config
    np.testing.assert_array_equal(masks, afresh.segment(block_pictures(12)))
    assert sampled, "a model that was loaded by itself keeps no chains"


def other_seed(method: DRC) -> np.ndarray:
    method.seed = 1
    return block_pictures(12)


def other_settings(**changes: Any) -> Callable[[DRC], np.ndarray]:
    def change(method: DRC) -> np.ndarray:
        method.config = replace(CONFIG, **changes)
        return block_pictures(12)

    return change


def other_weights(method: DRC) -> np.ndarray:
    with torch.no_grad():
        next(method.model.parameters()).flatten()[0] += 1e-6
    return block_pictures(12)


def other_images(method: DRC) -> np.ndarray:
    changed = block_pictures(12)
    changed[::4, 0, 0] ^= 1  # one image of each batch
    return changed


SETTINGS = {
    "inference_steps": 7, "inference_step_size": 0.2, "inference_last_step_size": 0.01, "inference_momentum": 0.5,
    "temperature": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        other_seed,
        other_weights,
        other_images,
        *(pytest.param(other_settings(**{name: value}), id=name) for name, value in SETTINGS.items()),
    ],
)
def test_chains_of_anything_else_are_not_used(
    change: Callable[[DRC], np.ndarray], sampled: list[int], tmp_path: Path
) -> None:
    method = trained(tmp_path)
    method.segment(block_pictures(12))
    sampled.clear()
    method.segment(change(method))
    assert len(sampled) == CHAINS


def test_chains_of_other_code_or_another_device_are_not_used(
    sampled: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = trained(tmp_path)
    method.segment(block_pictures(12))
    for name in ("code", "arithmetic"):
        sampled.clear()
        with monkeypatch.context() as patch:
            patch.setattr(kept, name, lambda *_: "another")
            method.segment(block_pictures(12))
        assert len(sampled) == CHAINS


@pytest.mark.parametrize("content", ["", "cut", "array", "shape", "type", "nan", "pickle", "flags"])
def test_a_file_that_is_not_kept_chains_is_named_and_inferred_anew(
    content: str, sampled: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = trained(tmp_path)
    masks = method.segment(block_pictures(12))
    one = sorted((tmp_path / "chains").glob("*.npz"))[0]
    with np.load(one) as good:
        z = good["z"]
    if content in {"", "cut"}:
        one.write_bytes(one.read_bytes()[: 100 if content else 0])
    elif content == "flags":  # a single bit by which a part would be encrypted
        damaged = bytearray(one.read_bytes())
        damaged[damaged.index(b"PK\x01\x02") + 8] |= 1
        one.write_bytes(damaged)
    elif content == "array":
        np.savez(one, z=z)
    else:
        bad = {
            "shape": z[:1],
            "type": z.astype(np.float64),
            "nan": z * np.nan,
            "pickle": np.array([z, None], object),
        }
        np.savez(one, z=bad[content], seconds=1.0)
    sampled.clear()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(method.segment(block_pictures(12)), masks)
    assert len(sampled) == 1
    (message,) = caplog.messages
    assert str(one) in message
    sampled.clear()
    method.segment(block_pictures(12))
    assert not sampled, "it was written anew"


@pytest.mark.parametrize(
    "damage",
    [
        lambda header: header[:8] + bytes([header[8] ^ 0x40]) + header[9:],
        lambda header: header.replace(b"(32, 580), }" + b" " * 12, b"(" + b"9" * 14 + b", 580), }"),
    ],
    ids=["cut short", "longer than any memory"],
)
def test_chains_whose_header_is_damaged_are_sampled_anew(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(SMOKE, z_fg=568)  # so many numbers that a header is read before their checksum is
    model, ends = DRCModel(config), torch.randn(32, 580)
    chains = kept.KeptChains(tmp_path, model, config, seed=0, device="cpu")
    asked: list[str] = []

    def sample() -> torch.Tensor:
        asked.append("sampled")
        return ends

    def ask() -> torch.Tensor:
        return chains.ends(block_pictures(32), range(32), sample, lambda: asked.append("found"))

    ask()
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    header = content[content.index(b"\x93NUMPY") :][:128]
    assert len(damage(header)) == len(header)
    assert damage(header) != header
    file.write_bytes(content.replace(header, damage(header)))
    assert torch.equal(ask(), ends)
    assert str(file) in caplog.text
    assert torch.equal(ask(), ends)
    assert asked == ["sampled", "sampled", "found"]


def test_a_full_disk_costs_the_keeping_and_not_the_inference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    masks = trained(tmp_path / "whole").segment(block_pictures(12))
    monkeypatch.setattr(kept, "write_atomic", full)
    method = trained(tmp_path / "full")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(method.segment(block_pictures(12)), masks)
    assert "No space left" in caplog.text


def test_a_cell_counts_the_seconds_of_chains_that_another_sampled(
    sampled: list[int], smoke_data: Path, tmp_path: Path
) -> None:
    run, runs = runner(smoke_data, tmp_path), []
    for variant in ("full", "responsibilities"):
        one = cell(variant=variant)
        assert run.run(one).status == "computed"
        runs.append(read_row(folder_of(smoke_data, tmp_path, one) / "row.json"))
    files = [np.load(file) for file in (tmp_path / "fits").glob("*/checkpoints/chains/*.npz")]
    # Of the scored images, and not of the panels'.
    scored = [float(file["seconds"]) for file in files if len(file["z"]) == runs[1].n_images]
    assert runs[1].segment_seconds >= sum(scored) - 0.01
    assert sum(scored) > 0


def test_a_live_picture_is_a_glance_that_leaves_nothing_behind(sampled: list[int], tmp_path: Path) -> None:
    method = trained(tmp_path / "fit")
    steps: list[int] = []
    method.glance().segment(block_pictures(4), progress=lambda step, total: steps.append(total))
    assert max(steps) == 2, "a quarter of six steps, of one chain"
    sampled.clear()
    truth = np.zeros(block_pictures(4).shape[:3], bool)
    draw_live(tmp_path / "live.png", method, block_pictures(4), truth, check=lambda: None)
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")
    assert len(sampled) == 2, "one chain for the masks, one for the panels"
    assert not (tmp_path / "fit" / "chains").exists()
    assert method.config == CONFIG


def test_what_is_compiled_for_a_training_serves_after_a_live_picture_too(tmp_path: Path) -> None:
    method = trained(tmp_path / "fit")
    method.config = replace(method.config, compiled=True)
    before = [
        sorted(vars(module)) for module in method.model.modules()
    ]  # by which compiled code is told apart
    glance = method.glance()
    glance.segment(block_pictures(4))
    assert not glance.config.compiled
    assert [sorted(vars(module)) for module in method.model.modules()] == before


def test_all_seconds_of_what_was_found_count(tmp_path: Path) -> None:
    method = trained(tmp_path)
    method.segment(block_pictures(12))
    assert method.kept_seconds == 0
    taken = [float(np.load(file)["seconds"]) for file in (tmp_path / "chains").glob("*.npz")]
    assert len(taken) == CHAINS
    for times in (1, 2):
        method.segment(block_pictures(12))
        assert method.kept_seconds == pytest.approx(times * sum(taken))


def test_a_training_that_follows_counts_anew(tmp_path: Path) -> None:
    method = trained(tmp_path / "first")
    for _ in range(2):
        method.segment(block_pictures(12))
    assert method.kept_seconds > 0
    method.fit(block_pictures(12), config=CONFIG, seed=0, device="cpu", checkpoint_dir=tmp_path / "second")
    assert method.kept_seconds == 0


def test_other_code_is_told_by_what_its_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(kept, "__file__", str(tmp_path / "kept.py"))
    before = kept.code.__wrapped__()
    (tmp_path / "b.py").write_text("x = 2\n")
    assert kept.code.__wrapped__() != before


@pytest.mark.parametrize("name", ["torch.get_num_threads", "torch.backends.cpu.get_cpu_capability"])
def test_another_processor_or_number_of_threads_is_another_device(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept.arithmetic("cpu")
    monkeypatch.setattr(name, lambda: "another")
    assert kept.arithmetic("cpu") != before
