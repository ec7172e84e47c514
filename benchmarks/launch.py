"""Where cells are computed: in local processes, on a Slurm cluster, or wherever the user pastes the commands.

Each process computes the cells of one training. Cells are claimed by a lock in their folder, so that several
launchers on one shared folder share the work and never do a cell twice.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.cells import Cell
from benchmarks.errors import BenchmarkError
from benchmarks.files import last_line
from benchmarks.jobs import sweep_words
from benchmarks.registry import METHODS
from benchmarks.tables import fit_of
from data_prep.parallel import usable_cores

LAUNCHERS = ("local", "slurm", "print")
PATIENCE = 90.0
"""Seconds that a process is given to write its checkpoint when it is stopped."""


REFUSING = (
    RuntimeError, NameError, ValueError, TypeError, AttributeError, FileNotFoundError, AssertionError, OverflowError,
)  # fmt: skip
"""What submitit raises where it, or sbatch, does not take a parameter."""

REQUEUED = 1000
"""How often a job that reaches its time limit goes on in another: without end, for people."""


@dataclass(frozen=True)
class Launch:
    """How the work is spread."""

    launcher: str = "local"
    jobs: int = 1
    """Processes at once; 0: one a GPU with the device cuda, else one, and with Slurm all that it takes."""
    parameters: tuple[str, ...] = ()
    """For Slurm: submitit's parameters as name=value."""


def group_cells(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells that share a training, together; of what is not trained, those of one method and variant."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        key = fit_of(cell) if METHODS[cell.method].trained else (cell.method, cell.variant)
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def group_command(cells: list[Cell], options: list[str]) -> list[str]:
    """The words of the command that computes a group, after `python`."""
    return [*sweep_words(cells), *options, "--compute-only"]


def run_locally(commands: list[list[str]], jobs: int, logs: Path, device: str) -> list[str]:
    """Run the commands, `jobs` at a time, and show how many are done; what they say goes to `logs`.

    On a GPU each slot has a GPU of its own as far as there are some; on a CPU the cores are shared out. Returns
    for each command an empty text, or what its process said last if it failed. A stop is passed on to
    the processes, which write their checkpoints.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = list(enumerate(commands))
    running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}  # slot -> number of the command, process
    said = [""] * len(commands)
    with tqdm(total=len(commands), desc=f"{jobs} processes", unit="training") as bar:
        try:
            while waiting or running:
                for slot in range(jobs):
                    if slot not in running and waiting:
                        number, words = waiting.pop(0)
                        running[slot] = (
                            number,
                            _start(words, _environment(slot, jobs, device), _log(logs, number)),
                        )
                for slot, (number, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[slot]
                        bar.update()
                        if process.returncode:
                            said[number] = _said(process.returncode, _log(logs, number))
                time.sleep(0.1)
        except BaseException:
            _stop([process for _, process in running.values()])
            raise
    return said


def submit(
    commands: list[list[str]], launch: Launch, device: str, folder: Path, cluster: str = "slurm"
) -> list[Any]:
    """Submit the commands as one array of at most `launch.jobs` at once (0: no limit); submitit's jobs.

    A job that is pre-empted or reaches its time limit writes a checkpoint and is put into the queue again.
    Raises BenchmarkError if submitit is not installed, or it or Slurm does not take a parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise BenchmarkError(
            'the launcher slurm needs submitit: install it with pip install -e ".[cluster]"'
        ) from error
    parameters: dict[str, Any] = {"timeout_min": 240, "name": "drc-benchmarks"}
    if device == "cuda":
        parameters["gpus_per_node"] = 1
    if launch.jobs and cluster == "slurm":
        parameters["slurm_array_parallelism"] = launch.jobs
    parameters |= slurm_parameters(launch.parameters)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=REQUEUED)
        executor.update_parameters(**parameters)
        with executor.batch():
            return [executor.submit(ClusterJob(words)) for words in commands]
    except REFUSING as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise BenchmarkError(f"Slurm did not take the jobs: {first}") from error


class ClusterJob:
    """One command as submitit runs it: called on the node, and asked for a successor when it must leave."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __call__(self) -> int:
        """Run the command to its end; RuntimeError if it fails."""
        requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"  # by Slurm itself, as when a node fails
        words = unforced(self.words) if requeued else self.words
        self.process = subprocess.Popen([sys.executable, *words], start_new_session=True)
        while self.process.poll() is None:  # waiting in small steps leaves room for `checkpoint`
            time.sleep(0.2)
        if self.process.returncode:
            raise RuntimeError(f"exit code {self.process.returncode}: {' '.join(self.words)}")
        return 0

    def checkpoint(self) -> Any:
        """Stop the command, which keeps what it has, and go on in another job."""
        import submitit

        _stop([self.process])
        return submitit.helpers.DelayedSubmission(ClusterJob(unforced(self.words)))


def unforced(words: list[str]) -> list[str]:
    """The words of a command that goes on: what it has is not to be moved away."""
    return [word for word in words if word != "--force"]


def _said(code: int, log: Path) -> str:
    """Why a process ended with an exit code other than 0."""
    if code < 0:
        why = f"killed by signal {-code}, perhaps for want of memory; the same command goes on"
        return f"{why} (exit code {code}, {log})"
    return f"{last_line(log)} (exit code {code}, {log})"


def _start(words: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches it once, by _stop."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _environment(slot: int, jobs: int, device: str) -> dict[str, str]:
    environment = dict(os.environ)
    if device == "cuda":
        visible = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
        gpus = visible or [str(i) for i in range(count_gpus())]
        return environment | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})
    return {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))} | environment


def count_gpus() -> int:
    """GPUs that torch can use."""
    import torch

    return torch.cuda.device_count()


LISTS = ("slurm_setup", "slurm_teardown", "slurm_srun_args")
"""Parameters that hold a list, of as many values as they are given."""


def slurm_parameters(texts: Iterable[str]) -> dict[str, Any]:
    """submitit's parameters, of texts as name=value; BenchmarkError for another form.

    `slurm_additional_parameters` takes name=value in turn, and may be repeated like the LISTS.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, value = _parameter(text)
        if name in LISTS:
            found.setdefault(name, []).append(str(value))
        elif name == "slurm_additional_parameters":
            inner, inner_value = _parameter(str(value))
            found.setdefault(name, {})[inner] = inner_value
        else:
            found[name] = value
    return found


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.replace("-", "_").isidentifier():
        raise BenchmarkError(f"--slurm {text!r} is not of the form name=value, such as timeout_min=240")
    if value.casefold() in ("true", "false"):
        return name, value.casefold() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            if str(kind(value)) == value and value[-1].isdigit():  # accounts called 007 or nan are none
                return name, kind(value)
    return name, value


def _log(logs: Path, number: int) -> Path:
    return logs / f"{socket.gethostname()}-{os.getpid()}-{number:04d}.log"
