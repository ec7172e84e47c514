"""What can be reproduced and how it is checked: `nox -l` lists it, `nox -s table1` makes the paper's first table.

The sessions that run the code share one environment, .nox/run, installed with the exact versions of constraints.txt;
`maskrcnn` has one of its own. `nox --no-venv -s table1` runs in the environment that nox itself is in, such as one
that already has a CUDA build of torch. Arguments after `--` go to the command: `nox -s table1 -- --help`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests", "lint", "typecheck"]
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "run"
GROUPS = ("tests", "typecheck")


def python(session: nox.Session) -> str:
    """The interpreter of the shared environment, which is made, or brought up to date, where that is needed."""
    if "--no-venv" in sys.argv:
        return sys.executable
    interpreter = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = ENVIRONMENT / "installed"
    pins = ((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    wanted = hashlib.sha256(b"".join(pins)).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
        pip = [str(interpreter), "-m", "pip", "install", "-c", "constraints.txt", "--progress-bar", "off"]
        groups = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
        tools = [requirement for group in GROUPS for requirement in groups[group]]
        session.run(*pip, "--editable", str(ROOT), *tools, external=True)
        stamp.write_text(wanted)
    return str(interpreter)


def run(session: nox.Session, *arguments: str) -> None:
    """Run `python -m ...` in the shared environment, from the project's root."""
    session.chdir(ROOT)
    session.run(python(session), "-m", *arguments, *session.posargs, external=True)


@nox.session(venv_backend="none")
def table1(session: nox.Session) -> None:
    """Table 1: foreground extraction, every method; --preset quick unless said otherwise."""
    run(session, "benchmarks", "table", "1")


@nox.session(venv_backend="none")
def table2(session: nox.Session) -> None:
    """Table 2: the parts of DRC, left out one at a time; --preset quick-ablation unless said otherwise."""
    run(session, "benchmarks", "table", "2")


@nox.session(venv_backend="none")
def table3(session: nox.Session) -> None:
    """Table 3: images trained on beside held-out ones; --preset quick unless said otherwise."""
    run(session, "benchmarks", "table", "3")


@nox.session(venv_backend="none")
def table4(session: nox.Session) -> None:
    """Table 4: categories never trained on; --preset quick-ablation unless said otherwise."""
    run(session, "benchmarks", "table", "4")


@nox.session(venv_backend="none")
def sweep(session: nox.Session) -> None:
    """Any methods on any data sets, your own too: -- --methods A,B --train X --test X,Y --seeds 0-4."""
    run(session, "benchmarks", "sweep")


@nox.session(venv_backend="none")
def speed(session: nox.Session) -> None:
    """DRC's sampler as released, our reference and our fast path, timed side by side (2 to 4 minutes)."""
    run(session, "benchmarks", "speed")


@nox.session(venv_backend="none")
def validate(session: nox.Session) -> None:
    """Each trained baseline on a toy of the kind that it is made for (half an hour each on two cores, ReDO less)."""
    run(session, "benchmarks", "validate")


@nox.session(venv_backend="none")
def trials(session: nox.Session) -> None:
    """DRC's settings changed one at a time, and its quality against time (10 minutes each on one core)."""
    run(session, "benchmarks", "trials")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The test suite, on up to four cores (6 minutes on two); -- -n 0 takes one, for a debugger."""
    session.env["OMP_NUM_THREADS"] = "1"  # its processes share the cores
    run(session, "pytest", "--numprocesses", "auto", "--maxprocesses", "4", "--dist", "worksteal")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common faults (ruff)."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_backend="none")
def typecheck(session: nox.Session) -> None:
    """Types (mypy)."""
    run(session, "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site of its own in site/, which needs no network to be read (a minute)."""
    groups = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
    session.install("-c", "constraints.txt", *groups["docs"])
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "true"})


@nox.session
def maskrcnn(session: nox.Session) -> None:
    """The real Mask R-CNN, random weights, three images down to a data set (a 6 GB environment; 4 minutes)."""
    session.install("torch==2.14.1", "torchvision==0.29.1")
    session.install("--editable", ".[maskrcnn]", "pytest")
    detectron2 = Path(session.create_tmp()) / "detectron2"
    foreign = [
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        "3.10",
        "--implementation",
        "cp",
        "--abi",
        "none",
    ]
    session.install(*foreign, "--target", str(detectron2), "sal-detectron2==0.7.2")
    pytest = ["pytest", "-c", os.devnull, "--rootdir", "tests/maskrcnn", "tests/maskrcnn"]
    session.run("python", "-m", *pytest, env={"PYTHONPATH": str(detectron2)})
