"""Algorithm 1 as it runs: it learns, resumes exactly, survives damage, and says when it diverges."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, block_pictures
from training_helpers import files_of_at_most, quiet, train_method

from drc.checkpoint import CheckpointError, checkpoint_paths, load_checkpoint, load_newest, save_checkpoint
from drc.config import configure
from drc.method import DRC
from drc.tensors import DivergedError, to_signed
from drc.trainer import Trainer, train

WEIGHTS = bytes(range(1, 200))


def assert_same_run(first: Trainer, second: Trainer) -> None:
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert torch.equal(first.posterior_chains, second.posterior_chains)
    assert torch.equal(first.prior_chains, second.prior_chains)


def test_one_m_step_lowers_the_loss_on_a_fixed_batch() -> None:
    config = replace(SMOKE, lr_generators=1e-3)
    trainer = Trainer(block_pictures(), config, seed=0)
    rows, visit = trainer.batch()
    images = to_signed(trainer.images[rows], "cpu")
    z_posterior, z_prior = trainer.sample(rows, visit, images)
    before = trainer.learn(images, z_posterior, z_prior)
    after = trainer.learn(images, z_posterior, z_prior)
    assert after["likelihood"] < before["likelihood"]


def test_the_energy_of_the_posterior_falls_against_that_of_the_prior() -> None:
    """Eq. 3: the latent EBM learns to hold likely what the posterior chains visit."""
    trainer = Trainer(block_pictures(), replace(SMOKE, lr_lebm=1e-2), seed=0)
    rows, _ = trainer.batch()
    images = to_signed(trainer.images[rows], "cpu")
    generator = torch.Generator().manual_seed(0)
    z_posterior, z_prior = torch.randn(2, len(rows), trainer.model.z_dim, generator=generator).unbind()

    def gap() -> float:
        with torch.no_grad():
            energies = [trainer.model.lebm(z).energy.mean().item() for z in (z_posterior, z_prior)]
        return energies[0] - energies[1]

    before = gap()
    values = trainer.learn(images, z_posterior, z_prior)
    assert values["lebm"] == pytest.approx(before, abs=1e-5)
    assert gap() < before


def test_flips_mirror_some_images_anew_at_each_visit() -> None:
    images, rows = block_pictures(), list(range(16))
    plain = to_signed(images, "cpu")
    assert torch.equal(Trainer(images, SMOKE, seed=0).pixels(rows, 3), plain)
    trainer = Trainer(images, replace(SMOKE, flips=True), seed=0)
    shown = trainer.pixels(rows, 3)
    assert torch.equal(shown, trainer.pixels(rows, 3))
    assert not torch.equal(shown, trainer.pixels(rows, 4))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(shown, plain, strict=True)]
    assert mirrored == [not torch.equal(a, b) for a, b in zip(shown, plain, strict=True)]
    assert 0 < sum(mirrored) < 16


def test_a_checkpoint_from_before_a_setting_was_added_goes_on() -> None:
    trainer = Trainer(block_pictures(), SMOKE, seed=0)
    state = trainer.state()
    del state["config"]["flips"]
    Trainer(block_pictures(), SMOKE, seed=0).load_state(state)
    with pytest.raises(CheckpointError):
        Trainer(block_pictures(), replace(SMOKE, flips=True), seed=0).load_state(state)


def test_training_lowers_the_reconstruction_error(tmp_path: Path) -> None:
    errors = []
    config = replace(SMOKE, train_steps=40, lr_generators=2e-3, posterior_steps=4, start=16, width=8)
    trainer = Trainer(block_pictures(), config, seed=0)
    train(trainer, tmp_path, lambda step, total, **values: errors.append(values["reconstruction"]))
    assert np.mean(errors[-4:]) < 0.8 * np.mean(errors[:4])


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    runs = [Trainer(block_pictures(), SMOKE, seed) for seed in (1, 1, 2)]
    for run in runs:
        run.train_step()
        run.train_step()
    assert_same_run(runs[0], runs[1])
    assert not torch.equal(runs[0].posterior_chains, runs[2].posterior_chains)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    def stop(step: int, total: int, **values: float) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    whole = Trainer(block_pictures(), SMOKE, seed=0)
    train(whole, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        train(Trainer(block_pictures(), SMOKE, seed=0), tmp_path / "cut", stop)
    resumed = Trainer(block_pictures(), SMOKE, seed=0)
    train(resumed, tmp_path / "cut", quiet)
    assert resumed.step == SMOKE.train_steps
    assert_same_run(whole, resumed)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from drc.trainer import Trainer, train
from drc_helpers import SMOKE, block_pictures
trainer = Trainer(block_pictures(), replace(SMOKE, train_steps=100_000), seed=0)
train(trainer, Path(sys.argv[1]), lambda step, total, **values: print(step, flush=True), float(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("number", "checkpoint_seconds"), [(signal.SIGINT, 1e9), (signal.SIGTERM, 1e9), (signal.SIGKILL, 0.2)]
)
def test_a_stopped_process_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, number: signal.Signals, checkpoint_seconds: float
) -> None:
    """One that is asked to stop saves where it stands; one that is killed has what it saved on its way.

    On one thread: with two, a process in some fifteen rounds otherwise from its first step on, on a processor with AMX.
    """
    tests = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), tests, str(checkpoint_seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 3 and (checkpoint_seconds > 1e6 or checkpoint_paths(tmp_path)):
            break
        assert time.monotonic() < deadline
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    state = load_newest(tmp_path)
    assert state is not None
    reached = state["step"]
    if number != signal.SIGKILL:
        assert reached == int((line + printed).split()[-1])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fresh = Trainer(block_pictures(), replace(SMOKE, train_steps=100_000), seed=0)
    while fresh.step < reached:
        fresh.train_step()
    torch.set_num_threads(threads)
    assert torch.equal(fresh.posterior_chains, state["posterior_chains"])


def test_a_signal_during_the_last_save_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = save_checkpoint

    def stopped(*words: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save(*words)

    monkeypatch.setattr("drc.trainer.save_checkpoint", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(Trainer(block_pictures(), SMOKE, 0), tmp_path, quiet)
    assert len(checkpoint_paths(tmp_path)) == 1


def test_only_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step})
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["step-00000002.pt", "step-00000003.pt"]
    assert list(tmp_path.glob("*.tmp*")) == []


def with_flipped_bit(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"text",
        lambda data: data.replace(WEIGHTS, bytes(len(WEIGHTS))),  # a sector that went bad
        lambda data: with_flipped_bit(data, data.find(b"PK\x01\x02") + 10, 3),  # how a part is packed
    ],
)
def test_a_damaged_checkpoint_is_named_and_gives_way_to_the_one_before(
    tmp_path: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(
        tmp_path, 2, {"step": 2, "weights": torch.frombuffer(bytearray(WEIGHTS), dtype=torch.uint8)}
    )
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.raises(CheckpointError, match=newest.name):
        load_checkpoint(newest)
    assert load_newest(tmp_path) == {"step": 1}
    assert str(newest) in caplog.text


def test_when_all_checkpoints_are_damaged_it_says_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1}).write_bytes(b"")
    with pytest.raises(CheckpointError, match="delete the folder"):
        load_newest(tmp_path)


class Unsafe:
    """What a checkpoint must never be allowed to bring along."""

    def __reduce__(self):
        return (os.system, ("true",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    torch.save({"step": Unsafe()}, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("size", [0, 1_000, 30_000])
def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_checkpoint(size: int, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    with (
        files_of_at_most(size),
        pytest.raises(CheckpointError, match=r"step-00000002\.pt: .* written \(.*too large\)"),
    ):
        save_checkpoint(tmp_path, 2, {"step": torch.zeros(10_000)})
    assert load_newest(tmp_path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train(Trainer(block_pictures(), SMOKE, seed=0), tmp_path, quiet)
    with pytest.raises(CheckpointError, match="other settings"):
        train(Trainer(block_pictures(), SMOKE, seed=1), tmp_path, quiet)


def test_a_checkpoint_of_other_images_is_refused() -> None:
    state = Trainer(block_pictures(), SMOKE, seed=0).state()
    with pytest.raises(CheckpointError, match="other images"):
        Trainer(255 - block_pictures(), SMOKE, seed=0).load_state(state)
    del state["images_sha256"]  # as earlier versions wrote it
    Trainer(block_pictures(), SMOKE, seed=0).load_state(state)


def test_divergence_names_the_step_and_the_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(block_pictures(), SMOKE, seed=0)
    trainer.train_step()
    with torch.no_grad():
        trainer.model.lebm.fg.get_submodule("1").weight.fill_(float("nan"))
    before = [parameter.clone() for parameter in trainer.model.generator_parameters()]
    with pytest.raises(DivergedError, match=r"step 2: \w+ is nan"):
        trainer.train_step()
    for old, new in zip(before, trainer.model.generator_parameters(), strict=True):
        assert torch.equal(old, new)  # no weight has taken it in


def test_divergence_names_the_last_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(block_pictures(), SMOKE, seed=0)
    trainer.train_step()
    save_checkpoint(tmp_path, trainer.step, trainer.state())
    later = Trainer(block_pictures(), SMOKE, seed=0)

    def blow_up(step: int, total: int, **values: float) -> None:
        later.prior_chains += 1e9

    with pytest.raises(DivergedError, match=r"step 3: .*step-00000001\.pt"):
        train(later, tmp_path, blow_up)


def test_a_damaged_checkpoint_neither_outlasts_sound_ones_nor_is_the_last(tmp_path: Path) -> None:
    trainer = Trainer(block_pictures(), replace(SMOKE, train_steps=12), seed=0)
    trainer.train_step()
    save_checkpoint(tmp_path, 1, trainer.state())
    (tmp_path / "step-00000009.pt").write_bytes(b"cut short")
    later = Trainer(block_pictures(), trainer.config, seed=0)

    def blow_up(step: int, total: int, **values: float) -> None:
        if step == 4:
            later.prior_chains += 1e9

    with pytest.raises(DivergedError, match=r"step 5: .*step-00000004\.pt"):
        train(later, tmp_path, blow_up, checkpoint_seconds=-1)
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["step-00000003.pt", "step-00000004.pt"]
    assert (tmp_path / "step-00000009.damaged").read_bytes() == b"cut short"


def test_a_checkpoint_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("taken")
    with pytest.raises(CheckpointError, match="run"):
        save_checkpoint(tmp_path / "run", 1, {})


def test_every_image_is_visited_once_an_epoch() -> None:
    trainer = Trainer(block_pictures(), SMOKE, seed=0)
    visited: list[int] = []
    for _ in range(trainer.batches_per_epoch):
        rows, _ = trainer.batch()
        visited += rows
        trainer.step += 1
    assert sorted(visited) == list(range(16))
    assert trainer.batch()[1] == 1


def test_short_run_chains_start_anew_at_every_visit() -> None:
    trainer = Trainer(block_pictures(), replace(SMOKE, restart=1.0), seed=0)
    trainer.posterior_chains += 1e6  # would blow the run up if it were gone on from
    values = trainer.train_step()
    assert values["z_norm"] < 1e3


def test_the_asked_share_of_chains_starts_anew() -> None:
    trainer = Trainer(block_pictures(), replace(SMOKE, restart=0.25), seed=0)
    trainer.posterior_chains += 1e6
    trainer.prior_chains += 1e6
    rows = list(range(16))
    anew = []
    for visit in range(1, 41):
        posterior, prior = trainer.chains(rows, visit)
        anew.append((posterior.abs() < 1e3).all(dim=1))
        assert torch.equal((prior.abs() < 1e3).all(dim=1), anew[-1]), "an image's chains start anew together"
        assert (posterior != prior)[anew[-1]].all(), "each in a place of its own"
    share = torch.stack(anew).double().mean().item()
    assert share == pytest.approx(0.25, abs=0.06)


def test_learning_rates_fall_to_a_tenth_at_the_end_when_asked() -> None:
    trainer = Trainer(block_pictures(), replace(SMOKE, lr_decay=0.5, train_steps=100), seed=0)
    rates = []
    for trainer.step in (0, 49, 75, 100):
        trainer.set_learning_rates()
        rates.append(trainer.optimisers["generators"].param_groups[0]["lr"] / SMOKE.lr_generators)
    assert rates == pytest.approx([1.0, 1.0, 0.55, 0.1])
    trainer.step = 75
    trainer.train_step()
    for name, rate in (("generators", SMOKE.lr_generators), ("lebm", SMOKE.lr_lebm)):
        assert trainer.optimisers[name].param_groups[0]["lr"] == pytest.approx(0.55 * rate)


def test_posterior_steps_fall_over_a_training_when_asked() -> None:
    trainer = Trainer(block_pictures(), replace(SMOKE, posterior_step_size=0.2, train_steps=100), seed=0)
    trainer.step = 50
    assert trainer.posterior_step_size() == 0.2
    trainer.config = replace(trainer.config, posterior_step_fall=0.25)
    sizes = []
    for trainer.step in (0, 50, 100):
        sizes.append(trainer.posterior_step_size())
    assert sizes == pytest.approx([0.2, 0.1, 0.05])


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="full, amortised-inference"):
        configure(variant="fulll", preset="paper", dataset="birds", image_size=128)


def test_budgets_of_few_images_have_a_background_of_few_numbers() -> None:
    def z_bg(dataset: str, preset: str) -> int:
        return configure(variant="full", preset=preset, dataset=dataset, image_size=64).z_bg

    assert [z_bg(dataset, "quick") for dataset in ("clevr6", "tm-dsprites", "cars", "mine")] == [2, 4, 4, 4]
    assert [z_bg("mine", preset) for preset in ("cpu-hour", "gpu", "paper")] == [4, 4, 256]


def test_a_mask_does_not_depend_on_the_batch_it_is_inferred_in_and_progress_reaches_its_total(
    tmp_path: Path,
) -> None:
    method = train_method(DRC(), block_pictures(), SMOKE, tmp_path)
    told: list[tuple[int, int]] = []
    whole = method.segment(block_pictures(5), progress=lambda step, total: told.append((step, total)))
    assert told == [(2, 4), (4, 4)]
    method.config = replace(SMOKE, inference_batch_size=2)
    np.testing.assert_allclose(method.segment(block_pictures(5)), whole, atol=1e-3)
