"""The results that git holds, whatever tables of one's own have put beside them or in their place."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
READ = ("results/rows", "results/*.csv", "results/*.json", "results/*.md", "results/report.html")


def committed_results() -> Path:
    """The folder `results`, or, where it has changed since it was staged or committed, what git has of READ."""
    held = _git("ls-files", "-z", "--", *READ)
    if not held or not _git("status", "--porcelain", "--", *READ):
        return ROOT / "results"
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(
        ["git", "checkout-index", "-z", "--stdin", f"--prefix={folder}/"],
        cwd=ROOT,
        input=held,
        check=True,
    )
    return Path(folder) / "results"


def _git(*words: str) -> bytes:
    """What git says; nothing where there is no git, or no repository of it."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""
