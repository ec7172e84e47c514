"""The loop that every trained baseline shares: order of images, checkpoints, exact resume, a gentle stop.

A method gives a Learner, which takes one step at a time. All that is random is keyed by the seed and the step, so that
a training that was interrupted ends, on a CPU, with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import pickle
import re
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)

DAMAGED = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
"""What reading a checkpoint raises that is not whole."""

Progress = Callable[..., None]
KEEP = 2  # checkpoints
ORDER = 1 << 20  # keys the order of the images, apart from what a learner keys by its steps
SEGMENTING = 1 << 21  # keys the noise of inference, apart from both


class CheckpointError(Exception):
    """A checkpoint cannot be read, written or taken up; the message is one sentence for the user."""


class DivergedError(Exception):
    """Training left the finite numbers; the message names the step and the term."""


class Learner(Protocol):
    """What a method gives to `train`."""

    def step(self, batch: Tensor, step: int) -> dict[str, float]:
        """One update on images (B, 3, H, W) float32 in [0, 1], the step counted from 0 -> its terms, as numbers."""
        ...

    def state(self) -> dict[str, Any]:
        """All that is needed to go on: loadable with `weights_only=True`."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up where `state` was saved."""
        ...


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a tuple of non-negative integers.

    Zeros that fill it up to four words of 32 bits do not count: (3,) is (3, 0), so that the weights of a training share
    the stream of its first step's noise.
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def train(
    learner: Learner,
    images: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
    folder: Path,
    progress: Progress,
    identity: dict[str, Any],
    checkpoint_seconds: float = 60.0,
) -> None:
    """Take `steps` steps on images (N, H, W, 3) uint8, going on from the newest checkpoint in `folder`.

    `progress(step, total, **terms)` is called after every step. A checkpoint is written every `checkpoint_seconds`, at
    the end, and between two steps when `progress` raises KeyboardInterrupt or SIGINT or SIGTERM has come, which ends
    the training with KeyboardInterrupt. `identity` holds the settings: CheckpointError if a checkpoint was made with
    others, or on other images, or cannot be read or written. DivergedError at the first term that is not finite, and
    before a checkpoint of weights that are not.
    """
    digest = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
    identity = {"settings": identity, "seed": seed, "images": len(images), "images_sha256": digest}
    for remains in folder.glob("step-*.tmp*"):  # of saves that were killed
        remains.unlink(missing_ok=True)
    step = resume(learner, folder, identity)
    saved = time.monotonic()
    with deferred_interrupts() as interrupted:
        while step < steps:
            terms = learner.step(load_batch(images, step, batch_size, seed, device), step)
            step += 1
            check_finite(terms, step)
            try:
                progress(step, steps, **terms)
                if interrupted():
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                save_checkpoint(folder, step, learner, identity)
                raise
            if step == steps or time.monotonic() - saved > checkpoint_seconds:
                save_checkpoint(folder, step, learner, identity)
                saved = time.monotonic()


def to_unit(images: np.ndarray, device: str | torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 255


def load_batch(images: np.ndarray, step: int, batch_size: int, seed: int, device: str) -> Tensor:
    """The images of a step, (B, 3, H, W) float32 in [0, 1].

    An epoch goes through whole batches of a fresh permutation; what is left over sits it out. Fewer images than
    `batch_size` make one batch of them all.
    """
    size = min(batch_size, len(images))
    epoch, position = divmod(step, len(images) // size)
    order = torch.randperm(len(images), generator=keyed_generator(seed, epoch, ORDER))
    rows = order[position * size :][:size].numpy()
    return to_unit(images[rows], device)


def check_state(state: Any, step: int) -> None:
    """DivergedError where a number of a learner's state is not finite: no training could go on from there."""
    if isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            check_state(part, step)
    elif isinstance(state, Tensor) and not state.isfinite().all():
        raise DivergedError(
            f"training diverged at step {step}: a weight is not a finite number; lower the learning rates"
        )


def check_finite(terms: dict[str, float], step: int) -> None:
    """DivergedError at the first term that is not a finite number."""
    for name, value in terms.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged at step {step}: {name} is {value}; lower the learning rates"
            )


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Let the step in hand finish before SIGINT or SIGTERM takes effect; a second SIGINT does not wait.

    Yields a function that tells whether one has come. It changes nothing outside the main thread, nor where SIGINT has
    a handler of whoever drives the training, who then ends it from `progress`.
    """
    handler = signal.getsignal(signal.SIGINT)
    taken = callable(handler) and handler is not signal.default_int_handler
    if taken or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_checkpoint(folder: Path, step: int, learner: Learner, identity: dict[str, Any]) -> None:
    """Write `step-<step>.pt` in `folder`, whole or not at all, and drop all but the last two.

    DivergedError, and nothing is written, where a weight is not finite.
    """
    state = learner.state()
    check_state(state, step)
    path = folder / f"step-{step:08d}.pt"
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"identity": identity, "step": step, "learner": state}, file)
            file.flush()
            os.fsync(file.fileno())  # its content is on the disk before its name is
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink()
        reason = error.__context__ if isinstance(error.__context__, OSError) else error  # which PyTorch hides
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({reason}); earlier ones are intact: "
            "free some space or choose another folder, and run the same command again"
        ) from error
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a training, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", path.name))


def resume(learner: Learner, folder: Path, identity: dict[str, Any]) -> int:
    """Give the learner the newest checkpoint that can be read -> the steps taken so far, 0 without any.

    A damaged one is passed over with a warning; CheckpointError if all are, if one may not be read, or if it is
    another training's.
    """
    paths = checkpoints(folder)
    # Earlier versions did without the images' hash.
    ours = (identity, {name: value for name, value in identity.items() if name != "images_sha256"})
    for path in reversed(paths):
        try:
            with zipfile.ZipFile(path) as parts:  # PyTorch writes checksums and does not look at them
                if parts.testzip() is not None:
                    raise ValueError(path)
            found = torch.load(path, map_location="cpu", weights_only=True)
        except PermissionError as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error.strerror}): see to its permissions"
            ) from error
        except DAMAGED:
            log.warning("%s cannot be read, it may be cut short; the one before it is used", path)
            continue
        if not isinstance(found, dict) or found.get("identity") not in ours:
            raise CheckpointError(
                f"{path} was made with other settings, another seed or other images; "
                "name another folder, or delete this one to start anew"
            )
        try:
            learner.load_state(found["learner"])
            step = int(found["step"])
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is no training of this version ({str(error).splitlines()[0]}); "
                "name another folder, or delete this one to start anew"
            ) from error
        for damaged in paths[paths.index(path) + 1 :]:  # by their steps they would outlast sound ones
            damaged.replace(damaged.with_suffix(".damaged"))
        return step
    if paths:
        raise CheckpointError(
            f"{folder}: none of its checkpoints can be read; delete the folder to start anew"
        )
    return 0
