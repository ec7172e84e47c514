"""The loop shared by the trained baselines: what it shows a learner, what it keeps, and how it stops."""

from __future__ import annotations

import errno
import os
import signal
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_helpers import files_of_at_most

import baselines.training
import drc.interrupts
from baselines.iodine import IODINE
from baselines.redo import ReDO
from baselines.slot_attention import SlotAttention
from baselines.training import CheckpointError, DivergedError, checkpoints, load_batch, train

IMAGES = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)


class Sum:
    """Remembers a weighted sum of all that it was shown, so that order matters."""

    def __init__(self) -> None:
        self.weight = torch.zeros((), dtype=torch.float64)
        self.steps: list[int] = []

    def step(self, batch: Tensor, step: int) -> dict[str, float]:
        self.steps.append(step)
        self.weight = 0.9 * self.weight + batch.double().mean() * (step + 1)
        return {"weight": self.weight.item()}

    def state(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state(self, state: dict[str, Any]) -> None:
        self.weight = state["weight"]


def run(folder: Path, *, steps: int = 9, progress: Any = None, seconds: float = 60.0, **identity: Any) -> Sum:
    learner = Sum()
    train(
        learner,
        IMAGES,
        steps=steps,
        batch_size=4,
        seed=0,
        device="cpu",
        folder=folder,
        progress=progress or (lambda step, total, **terms: None),
        identity=identity,
        checkpoint_seconds=seconds,
    )
    return learner


def test_weights_that_are_no_numbers_are_in_no_checkpoint(tmp_path: Path) -> None:
    """A gradient may break them where every term, of the weights before, was finite."""
    run(tmp_path, steps=3)

    class Breaks(Sum):
        def step(self, batch: Tensor, step: int) -> dict[str, float]:
            terms = super().step(batch, step)
            self.weight = self.weight * float("inf")
            return terms

    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    learner = Breaks()
    with pytest.raises(DivergedError, match="diverged at step 4: a weight is not a finite number"):
        train(
            learner, IMAGES, steps=4, batch_size=4, seed=0, device="cpu", folder=tmp_path,
            progress=lambda step, total, **terms: None, identity={},
        )  # fmt: skip
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_term_that_is_no_number_is_told_by_the_step_that_progress_counts(tmp_path: Path) -> None:
    class Breaks(Sum):
        def step(self, batch: Tensor, step: int) -> dict[str, float]:
            return super().step(batch, step) | ({"loss": float("nan")} if step == 3 else {"loss": 0.0})

    told: list[int] = []
    with pytest.raises(DivergedError, match="diverged at step 4: loss is nan"):
        train(
            Breaks(), IMAGES, steps=9, batch_size=4, seed=0, device="cpu", folder=tmp_path,
            progress=lambda step, total, **terms: told.append(step), identity={},
        )  # fmt: skip
    assert told == [1, 2, 3]


def shown(step: int, size: int = 4, seed: int = 0) -> list[int]:
    batch = load_batch(IMAGES, step, size, seed, "cpu")
    assert batch.shape[1:] == (3, 2, 3)
    return [round(v * 255) for v in batch[:, 0, 0, 0].tolist()]


def test_an_epoch_shows_no_image_twice_and_orders_differ() -> None:
    for epoch in range(5):
        seen = shown(2 * epoch) + shown(2 * epoch + 1)
        assert len(set(seen)) == 8
    assert shown(0) != shown(2)
    assert shown(0) != shown(0, seed=1)
    assert {i for step in range(20) for i in shown(step)} == set(range(10))


@pytest.mark.parametrize("method", [ReDO, IODINE, SlotAttention])
def test_another_seed_draws_other_weights_and_other_noise_at_each_step(method: Any) -> None:
    """Else trainings of several seeds repeat one another in part, and their spread is told too small."""
    config = method.configure(variant="full", preset="smoke", dataset="any", image_size=16)

    def learner(seed: int) -> Any:
        return method.learner_class(config, seed, "cpu")

    one, same, other = (dict(learner(seed).networks.named_parameters()) for seed in (3, 3, 4))
    for name, weight in one.items():
        assert torch.equal(weight, same[name]), name
        assert weight.ndim < 2 or not torch.equal(weight, other[name]), name

    def terms(seed: int, step: int) -> dict[str, float]:
        """Of a step with the weights of one seed and the noise of another."""
        noisy = learner(seed)
        noisy.networks.load_state_dict(learner(3).networks.state_dict())
        batch = torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(0))
        return noisy.step(batch, step)

    assert terms(3, 0) == terms(3, 0)
    assert terms(3, 0) != terms(4, 0)
    assert terms(3, 0) != terms(3, 1)


def test_fewer_images_than_a_batch_are_shown_all() -> None:
    assert sorted(shown(3, size=64)) == list(range(10))


def test_only_the_last_two_checkpoints_stay(tmp_path: Path) -> None:
    run(tmp_path, seconds=0)
    assert [path.name for path in tmp_path.iterdir() if path not in checkpoints(tmp_path)] == []
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000008.pt", "step-00000009.pt"]


def test_a_damaged_checkpoint_is_named_and_passed_over_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(tmp_path, seconds=0)
    newest = checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:50])
    again = run(tmp_path)
    assert f"{newest} cannot be read" in caplog.text
    assert again.steps == [8]
    assert again.weight == whole.weight


def test_a_damaged_checkpoint_of_a_later_step_does_not_outlast_sound_ones(tmp_path: Path) -> None:
    run(tmp_path, steps=2)
    (tmp_path / "step-00000099.pt").write_bytes(b"cut short")
    run(tmp_path, seconds=0)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000008.pt", "step-00000009.pt"]
    assert (tmp_path / "step-00000099.damaged").read_bytes() == b"cut short"


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the one before it would be used, and it would be trained over."""
    run(tmp_path, seconds=0)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("baselines.training.zipfile.ZipFile", refuse)
    with pytest.raises(CheckpointError, match=r"step-0*9\.pt: cannot be read \(Permission denied\)"):
        run(tmp_path)


def test_a_checkpoint_with_a_flipped_bit_is_passed_over_too(tmp_path: Path) -> None:
    whole = run(tmp_path, seconds=0)
    newest = checkpoints(tmp_path)[-1]
    content, value = bytearray(newest.read_bytes()), whole.weight.numpy().tobytes()
    assert content.count(value) == 1
    content[content.index(value)] ^= 1
    newest.write_bytes(content)
    again = run(tmp_path)
    assert again.steps == [8]
    assert again.weight == whole.weight


def test_a_checkpoint_that_says_it_is_compressed_is_passed_over_too(tmp_path: Path) -> None:
    whole = run(tmp_path, seconds=0)
    newest = checkpoints(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    for mark, place in (
        (b"PK\x03\x04", 8),
        (b"PK\x01\x02", 10),
    ):  # of a part, and of its line in the directory
        content[content.index(mark) + place] = 8
    newest.write_bytes(content)
    again = run(tmp_path)
    assert again.steps == [8]
    assert again.weight == whole.weight


def test_a_checkpoint_that_lacks_something_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    newest = checkpoints(tmp_path)[-1]
    torch.save(torch.load(newest, weights_only=True) | {"learner": {}}, newest)
    with pytest.raises(CheckpointError, match=r"step-00000009\.pt is no training of this version"):
        run(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_checkpoint(
    tmp_path: Path,
) -> None:
    run(tmp_path, steps=2)
    with (
        files_of_at_most(1_000),
        pytest.raises(CheckpointError, match=r"step-00000009\.pt.*written \(.*too large\)"),
    ):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.pt"]
    assert run(tmp_path).steps == [2, 3, 4, 5, 6, 7, 8]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, synced: list[int]) -> None:
    run(tmp_path, steps=1)
    assert [path.stat().st_ino for path in checkpoints(tmp_path)] == synced


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_finish_and_loses_nothing(tmp_path: Path, number: int) -> None:
    whole = run(tmp_path / "whole")

    def stop(step: int, total: int, **terms: float) -> None:
        if step == 4:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", progress=stop)
    assert signal.getsignal(number) is handler
    rest = run(tmp_path / "parts")
    assert rest.steps == [4, 5, 6, 7, 8]
    assert rest.weight == whole.weight


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path, width=8)
    with pytest.raises(CheckpointError, match="other settings"):
        run(tmp_path, width=16)


@pytest.mark.parametrize("others", [IMAGES[:9], 255 - IMAGES], ids=["fewer", "others"])
def test_other_images_are_refused(
    others: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    monkeypatch.setattr(f"{__name__}.IMAGES", others)
    with pytest.raises(CheckpointError, match="other images"):
        run(tmp_path)


def test_a_checkpoint_from_before_images_were_known_by_their_hash_goes_on(tmp_path: Path) -> None:
    run(tmp_path, steps=9)
    for file in checkpoints(tmp_path):
        kept = torch.load(file, weights_only=True)
        del kept["identity"]["images_sha256"]
        torch.save(kept, file)
    assert run(tmp_path, steps=10).steps == [9]


def test_a_file_of_something_else_is_not_taken_up(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "step-00000001.pt")
    with pytest.raises(CheckpointError, match="other settings"):
        run(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CheckpointError, match=r"taken.*could not be written"):
        run(tmp_path / "taken")


def test_what_killed_saves_left_is_deleted(tmp_path: Path) -> None:
    run(tmp_path, steps=2)
    (tmp_path / "step-00000003.tmp4711").write_bytes(b"half a checkpoint")
    run(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path not in checkpoints(tmp_path)] == []


@pytest.mark.parametrize(
    "deferred_interrupts", [baselines.training.deferred_interrupts, drc.interrupts.deferred_interrupts]
)
def test_a_second_ctrl_c_does_not_wait_and_handlers_are_put_back(deferred_interrupts: Any) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with deferred_interrupts() as interrupted:
        assert not interrupted()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)  # the second one, too, waits: it is no Ctrl-C
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_checkpoints_lie_so_many_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes ten seconds further whenever it is read."""
    saved: list[int] = []
    monkeypatch.setattr(baselines.training, "time", SimpleNamespace(monotonic=count(0, 10).__next__))
    monkeypatch.setattr(baselines.training, "save_checkpoint", lambda folder, step, *more: saved.append(step))
    run(tmp_path, steps=20, seconds=45)
    assert 3 <= len(saved) <= 6
    assert saved[-1] == 20
