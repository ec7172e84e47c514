"""Where a number comes from: commit, versions, device, memory."""

from __future__ import annotations

import functools
import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from data_prep.parallel import usable_cores

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = (":(exclude,glob)results/*", ":(exclude)results/rows", ":(exclude)results/figures")
"""Pathspecs of what tables and the report write."""
PACKAGES = ("numpy", "torch", "opencv-python-headless")
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}  # by their flag, the widest first


@functools.cache
def commit() -> str:
    """The repository's commit, `-dirty` added if tracked files differ; `unknown` outside of git.

    What this program itself writes to results/ makes no difference.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "-uno", "--", ".", *WRITTEN) else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def commits(training: str | None) -> str:
    """The commit that a figure comes from; both where its training was another one's than what scores it."""
    now = commit()
    return now if training in (None, now) else f"{training}, scored at {now}"


def devices(training: str | None, device: str) -> str:
    """The device of a figure in words; both where its training was on another one than what scores it."""
    now = device_text(device)
    return now if training in (None, now) else f"{training}, scored on {now}"


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def resolve_device(name: str) -> str:
    """`auto` -> `cuda` where there is one, else `cpu`. Raises BenchmarkError for cuda without one."""
    if name == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise BenchmarkError(
            "no CUDA device is usable here: choose --device cpu, or install a CUDA build of torch"
        )
    return "cpu"


def device_text(device: str) -> str:
    """The device in words, for example `cuda (NVIDIA H100)` or `cpu (AMD EPYC, AVX2, 2 threads)`.

    Processors of one name may differ in their vectors, on which speed and the last bits of a sum depend.
    """
    if device == "cuda":
        import torch

        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({_cpu_model()})"


def forget_peak_memory(device: str) -> None:
    """Let the peaks below count from now on, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """Peak resident memory of this process since `forget_peak_memory`, in MiB."""
    per_mib = 1024 if sys.platform != "darwin" else 1024**2
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib, 1)


def peak_gpu_memory_mb(device: str) -> float | None:
    """Peak GPU memory that this process held since `forget_peak_memory`, in MiB; None without a GPU.

    What PyTorch reserves, recorded graphs included: what the card must have.
    """
    if device != "cuda":
        return None
    import torch

    return round(torch.cuda.max_memory_reserved() / 1024**2, 1)


def made_on(device: str, command: str) -> dict[str, Any]:
    """What a flat row says of how it was made: device, command, commit, versions and peak memory."""
    return {
        "device": device_text(device),
        "command": command,
        "commit": commit(),
        "versions": versions(),
        "peak_memory_mb": peak_memory_mb(),
    }


@functools.cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    vectors = next((f"{name}, " for flag, name in VECTORS.items() if flag in flags), "")
    usable = usable_cores()
    with suppress(ValueError):  # which also says how many processes share the machine
        usable = min(usable, max(1, int(os.environ.get("OMP_NUM_THREADS", ""))))
    return f"{names[0]}, {vectors}{usable} threads" if names else platform.machine()
