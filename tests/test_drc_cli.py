"""python -m drc train: what a run leaves, how it goes on, what it would cost, and which mistakes it names."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, call, make_data, make_run
from PIL import Image
from training_helpers import train_method

from drc import DRC, dry_run
from drc.checkpoint import CheckpointError, load_newest
from drc.curves import draw_curves, running_mean
from drc.prepared import open_training_images
from drc.run_folder import RunProgress, claimed, read_lines
from drc.trainer import Trainer
from drc.words import in_units


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("prepared") / "sprites")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(data, tmp_path_factory.mktemp("runs") / "smoke")


def test_a_run_leaves_its_settings_a_line_a_step_curves_and_samples(run: Path) -> None:
    assert json.loads((run / "config.json").read_text())["settings"] == asdict(SMOKE)
    lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert sorted(line["seconds"] for line in lines) == [line["seconds"] for line in lines]
    for picture in (run / "curves.png", run / "samples-00000001.png", run / "samples-00000004.png"):
        with Image.open(picture) as opened:
            opened.verify()


def test_every_term_both_energies_and_both_norms_are_told(run: Path) -> None:
    terms = {"partitioning", "generation", "tv", "pseudo_fg", "pseudo_bg", "ortho", "z_norm", "z_norm_prior"}
    lines = read_lines(run / "progress.jsonl")
    assert len(lines) == SMOKE.train_steps
    for line in lines:
        assert {*terms, "lebm", "energy_posterior", "energy_prior"} <= line.keys()
        assert line["likelihood"] == pytest.approx(line["partitioning"] + line["generation"])
        squares = (SMOKE.z_fg + SMOKE.z_bg + SMOKE.z_reassign) * line["z_norm"] ** 2
        assert line["log_prior"] == pytest.approx(-line["energy_posterior"] - squares / 2, rel=1e-4)


def test_watching_a_training_does_not_change_it(run: Path, data: Path, tmp_path: Path) -> None:
    images = open_training_images(data, "train").images
    method = train_method(DRC(), images, SMOKE, tmp_path)
    for name, value in DRC.load(run).model.state_dict().items():
        assert torch.equal(value, method.model.state_dict()[name]), name


def test_a_fault_of_the_training_is_no_fault_of_the_command_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Trainer) -> None:
        raise ValueError("zip() argument 2 is shorter than argument 1")

    monkeypatch.setattr(Trainer, "train_step", fail)
    with pytest.raises(ValueError, match="shorter"):
        call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", "--device", "cpu")


def test_a_finished_run_is_left_as_it_is(run: Path, data: Path) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    make_run(data, run)
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_a_stopped_run_goes_on_bit_for_bit_under_the_same_command(
    data: Path, tmp_path: Path, one_thread: None
) -> None:
    options = [
        "train",
        "--data",
        str(data),
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--set",
        "train_steps=40",
    ]
    stopped = tmp_path / "stopped"

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "drc", *options, "--out", str(stopped)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[1]
        return subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)

    process, deadline = start(), time.monotonic() + 120
    while len(read_lines(stopped / "progress.jsonl")) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "the same command goes on" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    state = load_newest(stopped / "checkpoints")
    assert state is not None
    assert state["step"] < 40
    process = start()
    process.communicate(timeout=120)
    assert process.returncode == 0
    call(*options, "--out", tmp_path / "whole")
    first, second = (load_newest(folder / "checkpoints") for folder in (tmp_path / "whole", stopped))
    assert first is not None
    assert second is not None
    assert second["step"] == 40
    assert torch.equal(first["posterior_chains"], second["posterior_chains"])
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name
    assert [line["step"] for line in read_lines(stopped / "progress.jsonl")] == list(range(1, 41))


def test_lines_of_steps_that_were_lost_and_a_line_cut_short_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    file.write_text(
        "".join(f'{{"step": {step}, "seconds": {step}.5}}\n' for step in (1, 2, 3)) + '{"step": 4, "se'
    )
    progress = RunProgress(tmp_path, Trainer(np.zeros((4, 16, 16, 3), np.uint8), SMOKE, seed=0))
    progress(3, 100, reconstruction=float("nan"))
    progress.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["reconstruction"] is None
    assert lines[-1]["seconds"] >= 2.5


def test_a_record_that_cannot_be_written_does_not_cost_the_training(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "curves.png").mkdir(parents=True)
    make_run(data, tmp_path / "run")
    state = load_newest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state["step"] == SMOKE.train_steps


def test_a_folder_is_not_shared_by_runs_that_differ(run: Path, data: Path) -> None:
    before = (run / "config.json").read_text()
    for changed, name in (
        ("--seed=1", "seed"),
        ("--set=batch_size=4", "batch_size"),
        ("--split=all", "split"),
    ):
        result = call("train", "--data", data, "--out", run, "--preset", "smoke", changed)
        assert result.exit_code == 2
        assert f" {name} " in result.output
    assert (run / "config.json").read_text() == before


@pytest.mark.parametrize("content", ["", "[1]", '{"seed": '])
def test_a_folder_whose_settings_are_damaged_is_named(content: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    result = call("train", "--data", data, "--out", tmp_path, "--preset", "smoke")
    assert result.exit_code == 2
    assert f"{tmp_path / 'config.json'} is not a whole JSON file" in result.output
    assert (tmp_path / "config.json").read_text() == content


def test_a_training_must_be_told_where_it_goes(data: Path) -> None:
    result = call("train", "--data", data, "--preset", "smoke")
    assert result.exit_code == 2
    assert "name the folder of the run with --out" in result.output


def test_resume_goes_on_and_never_begins(run: Path, data: Path, tmp_path: Path) -> None:
    words = ("train", "--data", data, "--preset", "smoke", "--device", "cpu", "--resume", "--out")
    refused = call(*words, tmp_path / "new")
    assert refused.exit_code == 2
    assert "new has no checkpoint to go on from" in " ".join(refused.output.split())
    assert not (tmp_path / "new").exists()
    assert call(*words, run).exit_code == 0


def test_a_run_from_before_a_setting_was_added_goes_on(run: Path, data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    config = json.loads((copy / "config.json").read_text())
    assert config["settings"].pop("flips") is False
    (copy / "config.json").write_text(json.dumps(config))
    make_run(data, copy)


def test_a_training_on_a_part_of_a_data_set_has_the_settings_of_that_run_of_the_authors(
    data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"name": "dogs-remade"}))
    for split, z_bg in (("train", 192), ("all", 256)):
        words = ("train", "--data", folder, "--split", split, "--preset", "paper", "--set", "width=4")
        result = call(
            *words,
            "--set",
            "batch_size=1",
            "--set",
            "posterior_steps=1",
            "--set",
            "compiled=false",
            "--dry-run",
        )
        assert f"  z_bg = {z_bg}\n" in result.output


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (999, "999 B"), (999.7, "1 kB"), (1000, "1 kB"), (999_400, "999 kB"), (999_700, "1 MB")],
)
def test_numbers_are_said_in_three_digits(value: float, said: str) -> None:
    assert in_units(value, "B") == said


def test_a_reader_who_has_seen_enough_is_no_fault_of_a_place(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*parts: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(dry_run, "describe", gone)
    result = call("train", "--data", data, "--preset", "smoke", "--dry-run", "--device", "cpu")
    assert result.exit_code == 1
    assert "Broken pipe" not in result.output


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_curves_are_drawn_with_gaps_and_with_values_nobody_expected(share: float) -> None:
    lines = [
        {"step": step, "total": 9, "seconds": 1.0, "ortho": None if step / 9 < share else 1.0, "kl": 2.0}
        for step in range(1, 10)
    ]
    assert draw_curves(lines).startswith(b"\x89PNG")


def test_running_mean_stays_within_what_it_averages_and_skips_gaps() -> None:
    values = np.random.default_rng(0).normal(size=200)
    smooth = running_mean(values)
    assert smooth[0] == values[0]
    assert values.min() <= smooth.min()
    assert smooth.std() < values.std()
    assert running_mean(np.array([np.nan, 1.0, np.nan]))[1] == 1.0


def test_one_process_at_a_time_trains_in_a_folder(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train = ("train", "--data", data, "--out", folder, "--preset", "smoke", "--device", "cpu")
    with claimed(folder, {"seed": 0}):
        before = sorted(folder.iterdir())
        result = call(*train)
        assert result.exit_code == 2
        assert f"{folder} is being trained in by another process" in " ".join(result.output.split())
        assert sorted(folder.iterdir()) == before
    (folder / "config.json").unlink()
    (folder / ".lock").touch()  # as a process that was killed leaves it
    assert call(*train).exit_code == 0
    assert not (folder / ".lock").exists()


def test_images_of_a_size_that_the_networks_cannot_have_are_refused(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    np.save(folder / "images.npy", np.zeros((32, 20, 20, 3), np.uint8))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["images.npy"]["sha256"] = hashlib.sha256(
        (folder / "images.npy").read_bytes()
    ).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for option in ("--dry-run", "--seed=0"):
        result = call("train", "--data", folder, "--out", tmp_path / "run", "--preset", "smoke", option)
        assert result.exit_code == 2
        assert "image_size cannot be 20; it is 8, 16, 32, ...," in " ".join(result.output.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_a_device_that_is_not_there_is_refused(data: Path, tmp_path: Path, device: str) -> None:
    result = call("train", "--data", data, "--out", tmp_path / "run", "--preset", "smoke", "--device", device)
    assert result.exit_code == 2
    assert device in result.output


def test_a_place_that_cannot_be_written_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("train", "--data", data, "--out", tmp_path / "file" / "run", "--preset", "smoke")
    assert result.exit_code == 2
    assert "file" in result.output


def test_a_saved_model_is_the_trained_one_and_opens_from_every_place(
    run: Path, data: Path, tmp_path: Path
) -> None:
    images = open_training_images(data, "test").images
    method = DRC.load(run)
    masks = method.segment(images)
    assert masks.shape == (8, 2, 16, 16)
    method.save(tmp_path / "model.pt")
    (checkpoint,) = (run / "checkpoints").glob("step-*.pt")
    for place in (tmp_path / "model.pt", checkpoint, run / "checkpoints", str(run)):
        assert np.array_equal(DRC.load(place).segment(images), masks)


def test_a_place_where_no_model_can_be_saved_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"model\.pt: the model could not be written"):
        DRC.load(run).save(tmp_path / "file" / "model.pt")


def test_what_is_no_model_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    torch.save({"config": {"colour": 1}, "seed": 0, "model": {}}, tmp_path / "foreign.pt")
    (checkpoint,) = (run / "checkpoints").glob("step-*.pt")
    other = torch.load(checkpoint, weights_only=True)
    other["config"]["width"] = 8
    torch.save(other, tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "bare.pt")
    for name in ("text.pt", "foreign.pt", "other.pt", "bare.pt", "missing.pt", ""):
        with pytest.raises(CheckpointError, match=name or "no checkpoint"):
            DRC.load(tmp_path / name)
