"""Checkpoints: written whole or not at all, the last two kept, the newest sound one resumed from."""

from __future__ import annotations

import logging
import os
import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from drc.files import DAMAGED

log = logging.getLogger(__name__)
KEEP = 2


class CheckpointError(Exception):
    """A checkpoint cannot be read or written; the message is one sentence for the user."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as `step-<step>.pt` in `folder` and drop all but the last two; CheckpointError if it cannot."""
    path = folder / f"step-{step:08d}.pt"
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # its content is on the disk before its name is
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)
        reason = error.__context__ if isinstance(error.__context__, OSError) else error  # which PyTorch hides
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({reason}); earlier checkpoints are intact: "
            "free some space or choose another folder, and run the same command again"
        ) from error
    for old in checkpoint_paths(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def set_aside_damaged(folder: Path, step: int) -> None:
    """Rename the checkpoints of later steps than the one taken up: found damaged, they would outlast sound ones."""
    for path in checkpoint_paths(folder):
        if int(path.stem.removeprefix("step-")) > step:
            path.replace(path.with_suffix(".damaged"))


def drop_remains(folder: Path) -> None:
    """Delete what saves that were killed have left; no other process may be writing there."""
    for temporary in folder.glob("step-*.tmp*"):
        with suppress(OSError):
            temporary.unlink()


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", path.name))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint onto the CPU; CheckpointError if it is missing or damaged, which its checksums tell."""
    try:
        with zipfile.ZipFile(path) as parts:  # PyTorch writes a checksum of each part and does not look at it
            if (damaged := parts.testzip()) is not None:
                raise ValueError(f"{damaged} is not what was written")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        return state
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such checkpoint; train first, or name the folder of a run"
        ) from error
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): see to its permissions") from error
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint: it is of another kind, or was cut short"
        ) from error


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None where there is none at all.

    A damaged one is passed over with a warning, for the one before it; CheckpointError if all are damaged, or if one
    may not be read.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            if isinstance(error.__cause__, PermissionError):
                raise
            log.warning("%s; the one before it is used", error)
    if paths:
        raise CheckpointError(
            f"{folder}: none of its checkpoints can be read; delete the folder to start anew"
        )
    return None
