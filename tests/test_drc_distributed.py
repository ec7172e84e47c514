"""Two processes train what one does, and a checkpoint is gone on from by any number of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from drc_helpers import SMOKE, smoke
from torch import multiprocessing
from training_helpers import noise_pictures

from drc import rng
from drc.build import build_trainer
from drc.checkpoint import CheckpointError, checkpoint_paths, load_newest, save_checkpoint
from drc.distributed import join, leave
from drc.trainer import train

ROOT = Path(__file__).parents[1]


def run(folder: Path, variant: str, stop_at: int) -> None:
    """Train under `smoke` up to step `stop_at`, 7 images a step, which two processes share unequally.

    Small Langevin steps, since at random weights large ones amplify the last digit to the first.
    """
    config = smoke(variant)
    config = replace(config, posterior_step_size=0.01)
    first = not dist.is_initialized() or dist.get_rank() == 0

    def progress(step: int, total: int, **values: float) -> None:
        if first:
            with folder.with_suffix(".jsonl").open("a") as told:
                told.write(json.dumps(values) + "\n")
        if step == stop_at and first:
            raise KeyboardInterrupt  # in one process; all must stop

    try:
        train(build_trainer(noise_pictures(7), config, seed=0), folder, progress)
    except KeyboardInterrupt:
        assert stop_at < config.train_steps


def one_of_two(rank: int, meeting: str, folder: Path, variant: str, stop_at: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    run(folder, variant, stop_at)
    leave()
    os._exit(0)  # what gloo does while Python shuts down, which now and then is to abort, is not tested here


def run_on_two(folder: Path, variant: str, stop_at: int) -> None:
    meeting = str(folder.with_suffix(f".{stop_at}"))
    multiprocessing.spawn(one_of_two, (meeting, folder, variant, stop_at), nprocs=2)


def told_in(folder: Path) -> list[dict[str, float]]:
    """Each step's terms."""
    return [json.loads(line) for line in folder.with_suffix(".jsonl").read_text().splitlines()]


def assert_same_state(one: Path, other: Path) -> None:
    states = [load_newest(folder) for folder in (one, other)]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0]["step"] == states[1]["step"]
    for part in ("posterior_chains", "prior_chains"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=1e-3, atol=1e-4)
    for name, weight in states[0]["model"].items():
        torch.testing.assert_close(weight, states[1]["model"][name], rtol=1e-3, atol=1e-4, msg=name)
    for told, told_too in zip(told_in(one), told_in(other), strict=True):
        assert told == pytest.approx(told_too, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("variant", ["full", "amortised-inference"])
def test_two_processes_equal_one_and_either_goes_on_from_the_other(variant: str, tmp_path: Path) -> None:
    run(tmp_path / "one", variant, stop_at=99)
    run_on_two(tmp_path / "two", variant, stop_at=2)
    halfway = load_newest(tmp_path / "two")
    assert halfway is not None
    assert halfway["step"] == 2
    run(tmp_path / "two", variant, stop_at=99)
    assert_same_state(tmp_path / "one", tmp_path / "two")
    if variant == "full":
        run(tmp_path / "back", variant, stop_at=3)
        run_on_two(tmp_path / "back", variant, stop_at=99)
        assert_same_state(tmp_path / "one", tmp_path / "back")


def other_folders(rank: int, meeting: str, folder: Path) -> None:
    """Two processes, of which only the first sees the checkpoint."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        run(folder if rank == 0 else folder / "another", "full", stop_at=99)
        said = "trained"
    except CheckpointError as error:
        said = str(error)
    (folder / f"said-{rank}").write_text(said)
    os._exit(0)


def test_processes_that_do_not_share_a_folder_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "full", stop_at=2)
    multiprocessing.spawn(other_folders, (str(tmp_path / "meeting"), tmp_path), nprocs=2)
    for rank in (0, 1):
        assert "the processes differ in their step" in (tmp_path / f"said-{rank}").read_text()


@pytest.mark.parametrize("name", ["seed", "images", "settings"])
def test_processes_are_told_apart_by_more_than_their_step(name: str) -> None:
    config = SMOKE
    images = np.zeros((300, 16, 16, 3), np.uint8)
    ours = build_trainer(images, config, seed=0).facts()
    if name == "images":
        images[-1, -1, -1, -1] = 1
    if name == "settings":
        config = replace(config, lr_lebm=1.0)
    theirs = build_trainer(images, config, seed=int(name == "seed")).facts()
    assert [fact for fact in ours if ours[fact] != theirs[fact]] == [name]


def called(*words: str) -> subprocess.CompletedProcess[str]:
    """python -m, to its end."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def command(*words: str) -> str:
    """What python -m says on its standard output; it must end well."""
    done = called(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchrun_trains_and_one_process_reports(tmp_path: Path) -> None:
    data, out = str(tmp_path / "data"), tmp_path / "run"
    sizes = ["--size", "16", "--count", "12", "--heldout", "4"]
    command("data_prep", "tm-dsprites", "--out", data, *sizes)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    train = [*torchrun, "drc", "train", "--data", data, "--out", str(out), "--preset", "smoke"]
    lines = command(*train, "--dry-run").splitlines()
    for part in ("settings", "parameters", "  train_steps = 4"):
        assert lines.count(part) == 1
    assert not out.exists()
    command(*train)
    assert len((out / "progress.jsonl").read_text().splitlines()) == 4
    state = load_newest(out / "checkpoints")
    assert state is not None
    assert state["step"] == 4
    # and where one process cannot go on, no other ends in a traceback of ours
    for path in checkpoint_paths(out / "checkpoints"):
        path.unlink()
    rows = rng.epoch_order(0, 2, 12)[:8].tolist()
    state["posterior_chains"][rows[1::2]] = float("nan")
    save_checkpoint(out / "checkpoints", 2, state | {"step": 2})
    ended = called(*train)
    assert ended.returncode
    told = " ".join(ended.stderr.split())
    assert "Error: training diverged at step 3" in told
    assert "another process of this training has ended" in told or "Stopped;" in told
    assert "RuntimeError" not in told


LEAVING = """
import os
import sys
import torch
from drc.distributed import join, leave, summed

join("cpu")
weight = torch.nn.Parameter(torch.ones(1))
weight.grad = summed(torch.ones(1))
torch.optim.Adam([weight]).step()
leave()
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
sys.exit(any("gloo" in name for name in names))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are named there")
def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    """Else one may abort a process that has done all of its work, as the interpreter ends."""
    (tmp_path / "leaving.py").write_text(LEAVING)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command(*torchrun, str(tmp_path / "leaving.py"))


def test_processes_that_are_described_in_part_are_one_or_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join("cpu") == "cpu"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(
        ValueError, match="has WORLD_SIZE=2 and no LOCAL_RANK, MASTER_ADDR, MASTER_PORT: start"
    ):
        join("cpu")


def test_more_processes_than_gpus_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"WORLD_SIZE": "78", "RANK": "77", "LOCAL_RANK": "77", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, text in described.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match="there is no GPU cuda:77 for a process of its own: start at most"):
        join("cuda")


def test_more_processes_than_images_in_a_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc.distributed.processes", lambda: 9)
    config = SMOKE
    with pytest.raises(ValueError, match="9 processes cannot share a batch of 8"):
        build_trainer(noise_pictures(12), config, seed=0)
